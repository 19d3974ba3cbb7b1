// Convolution: forward, input gradient, weight gradient, each by the algorithm that suits the sizes.
#pragma once

#include <algorithm>
#include <span>

#include <residua/kernels/convolution_shape.hpp>
#include <residua/kernels/depthwise.hpp>
#include <residua/kernels/direct_weight_gradient.hpp>
#include <residua/kernels/wide_groups.hpp>
#include <residua/kernels/winograd.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Whether Winograd's algorithm can do it at all.
inline bool winograd_applies(const ConvolutionShape& s) {
  const auto both = [](const Index (&v)[2], Index value) { return v[0] == value && v[1] == value; };
  return both(s.kernel, 3) && both(s.stride, 1) && both(s.dilation, 1);
}

/// Whether it is the faster one, for an image of any size.
inline bool winograd_suits(const ConvolutionShape& s) {
  if (s.algorithm != ConvAlgorithm::automatic) return s.algorithm == ConvAlgorithm::winograd;
  return winograd_applies(s) && s.C / s.groups >= 16 && s.K / s.groups >= 16;
}

/// How the images of the result are cut into tiles, and that of the input gradient.
inline WinogradTiles forward_tiles(const ConvolutionShape& s) {
  return {s.N, {s.out(0), s.out(1)}, {s.H, s.W}, {s.padding[0], s.padding[1]}};
}
inline WinogradTiles backward_tiles(const ConvolutionShape& s) {
  return {s.N, {s.H, s.W}, {s.out(0), s.out(1)}, {2 - s.padding[0], 2 - s.padding[1]}};
}

/// Whether it is the faster one where the taps are transformed for these tiles alone.
inline bool winograd_suits(const ConvolutionShape& s, const WinogradTiles& tiles) {
  return winograd_suits(s) && (s.algorithm == ConvAlgorithm::winograd || tiles.count() >= 24);
}

/// Whether the transformed taps are so many that for a few tiles the plain sum is faster, with as many taps as there are.
inline bool few_tiles_suit_direct(const ConvolutionShape& s) {
  return s.algorithm == ConvAlgorithm::automatic && WinogradTiles::large(s.C / s.groups, s.K / s.groups);
}

/// Weights (K, 3, 3, C/G) as products take them, group by group; `turned` as those of the input gradient.
template <typename S>
WinogradTaps<S> winograd_taps(const S* weight, const ConvolutionShape& s, bool turned) {
  const Index cg = s.C / s.groups, kg = s.K / s.groups;
  return {.data = weight, .rows = turned ? kg : cg, .columns = turned ? cg : kg, .row_step = turned ? 9 * cg : 1,
          .tap_step = cg, .column_step = turned ? 1 : 9 * cg, .group_step = kg * 9 * cg, .turned = turned};
}

/// How many groups are worked on together: a few whose channels are neighbours in memory, so that what is between the
/// transforms stays in the cache.
inline Index groups_at_once(Index groups, Index cg, Index kg) { return std::clamp<Index>(64 / std::max(cg, kg), 1, groups); }

/// Winograd's algorithm for all groups.   x (N, other, C), y (N, size, K)
template <typename S>
void winograd_convolution(const S* x, Index C, const WinogradGroups<S>& weights, S* y, Index K, const WinogradTiles& tiles,
                          const Epilogue<S>& end) {
  const Index groups = weights.count, cg = C / groups, kg = K / groups;
  parallel_ranges(groups, groups_at_once(groups, cg, kg), [&](Index first, Index last) {
    const Index count = last - first;
    Epilogue<S> finish = end;
    if (end.bias != nullptr) finish.bias = end.bias + first * kg;
    winograd_convolution<S>({x + first * cg, count * cg, C}, weights.part(first, last), {y + first * kg, count * kg, K},
                            tiles, finish);
  });
}

/// Weights that are used many times: packed, or for Winograd's algorithm transformed, which takes four times the memory. Large
/// ones are both, since for a few tiles it is faster to read the fewer numbers. Those of few output channels are as they were.
template <typename S>
class ConvolutionWeights {
 public:
  ConvolutionWeights(const S* weight, const ConvolutionShape& s);

  /// Multiplies the weights of each output channel by its factor.
  void scale(const S* factor);

  /// y = x ∗ weight, finished by `end` (bias, sum, ReLU).   x (N, H, W, C), y (N, H', W', K)
  void convolve(const S* x, S* y, const ConvolutionShape& s, const Epilogue<S>& end) const;

 private:
  void prepare(const S* weight, const ConvolutionShape& s);

  Tensor<S> channelwise_, few_;          // (R, S, width, C); (K, R, S, C), as they are
  Packed<S> transformed_, packed_;       // empty where not needed
};

template <typename S>
ConvolutionWeights<S>::ConvolutionWeights(const S* weight, const ConvolutionShape& s) {
  const ConvolutionShape wide = with_wide_groups<S>(s);
  if (narrow_groups<S>(s)) {
    channelwise_ = depthwise_weights(weight, s, false);
  } else if (wide.groups < s.groups) {
    prepare(widened(weight, s, wide).cdata(), wide);
  } else {
    prepare(weight, s);
  }
}

template <typename S>
void ConvolutionWeights<S>::prepare(const S* weight, const ConvolutionShape& s) {
  if (!winograd_suits(s) && forward_suits_dots<S>(s)) {
    few_ = Tensor<S>(Shape{s.K, s.taps() * s.C}, std::span<const S>(weight, static_cast<std::size_t>(s.K * s.taps() * s.C)));
    return;
  }
  const bool transforms = winograd_suits(s);
  if (transforms) transformed_ = winograd_weights(winograd_taps(weight, s, false), s.groups);
  if (!transforms || few_tiles_suit_direct(s)) packed_ = pack_weights(weight, s);
}

template <typename S>
void ConvolutionWeights<S>::scale(const S* factor) {
  S *const channelwise = channelwise_.data(), *const few = few_.data();
  const Index channels = channelwise_.features(), taps = few_.features();
  for (Index i = 0; i < channelwise_.size(); ++i) channelwise[i] *= factor[i % channels];
  for (Index i = 0; i < few_.size(); ++i) few[i] *= factor[i / taps];
  transformed_.scale_columns(factor);
  packed_.scale_columns(factor);
}

template <typename S>
void ConvolutionWeights<S>::convolve(const S* x, S* y, const ConvolutionShape& s, const Epilogue<S>& end) const {
  if (!channelwise_.empty()) {
    depthwise_convolution(x, channelwise_, y, s, end);
  } else if (transformed_.empty() || (!packed_.empty() && !winograd_suits(s, forward_tiles(s)))) {
    direct_convolution(x, packed_, few_.empty() ? nullptr : few_.cdata(), y, with_wide_groups<S>(s), end);
  } else {
    winograd_convolution<S>(x, s.C, {transformed_.groups(), {}, &transformed_}, y, s.K, forward_tiles(s), end);
  }
}

/// y = x ∗ weight, finished by `end`.   x (N, H, W, C), weight (K, R, S, C/G), y (N, H', W', K)
template <typename S>
void convolution(const S* x, const S* weight, S* y, const ConvolutionShape& s, const Epilogue<S>& end) {
  const ConvolutionShape wide = with_wide_groups<S>(s);
  if (narrow_groups<S>(s)) {
    depthwise_convolution(x, depthwise_weights(weight, s, false), y, s, end);
  } else if (wide.groups < s.groups) {
    convolution(x, widened(weight, s, wide).cdata(), y, wide, end);
  } else if (winograd_suits(s, forward_tiles(s))) {
    winograd_convolution<S>(x, s.C, {s.groups, winograd_taps(weight, s, false)}, y, s.K, forward_tiles(s), end);
  } else if (forward_suits_dots<S>(s)) {
    direct_convolution<S>(x, {}, weight, y, s, end);
  } else {
    direct_convolution<S>(x, pack_weights(weight, s, is_one_unit(s)), nullptr, y, s, end);
  }
}

/// dx = dy ∗ turned weight.   dy (N, H', W', K), weight (K, R, S, C/G), dx (N, H, W, C)
template <typename S>
void convolution_input_gradient(const S* dy, const S* weight, S* dx, const ConvolutionShape& s) {
  const ConvolutionShape wide = with_wide_groups<S>(s);
  const bool strided = s.stride[0] > 1 || s.stride[1] > 1;  // most of what each pixel adds up would be zeros
  if (narrow_groups<S>(s) && (s.depthwise() || !strided)) {
    depthwise_input_gradient(dy, weight, dx, s);
  } else if (wide.groups < s.groups) {
    convolution_input_gradient(dy, widened(weight, s, wide).cdata(), dx, wide);
  } else if (winograd_suits(s, backward_tiles(s))) {
    winograd_convolution<S>(dy, s.K, {s.groups, winograd_taps(weight, s, true)}, dx, s.C, backward_tiles(s), {});
  } else {
    direct_input_gradient(dy, weight, dx, s);
  }
}

/// dweight[k, r, s, c] = Σ_pixels dy[p, k] · x[p·stride − padding + (r, s)·dilation, c].   Assigned, not added.
template <typename S>
void convolution_weight_gradient(const S* x, const S* dy, S* dweight, const ConvolutionShape& s) {
  const ConvolutionShape wide = with_wide_groups<S>(s);
  if (narrow_groups<S>(s)) {
    depthwise_weight_gradient(x, dy, dweight, s);
  } else if (wide.groups < s.groups) {
    Tensor<S> wide_gradient(wide.weight(), uninitialized);
    convolution_weight_gradient(x, dy, wide_gradient.data(), wide);
    narrow(wide_gradient.cdata(), wide, s, dweight);
  } else if (winograd_suits(s, forward_tiles(s))) {
    const Index cg = s.C / s.groups, kg = s.K / s.groups;
    parallel_ranges(s.groups, groups_at_once(s.groups, cg, kg), [&](Index first, Index last) {
      const Index count = last - first;
      WinogradWeightGradient<S>({x + first * cg, count * cg, s.C}, {dy + first * kg, count * kg, s.K},
                                dweight + first * kg * 9 * cg, count, forward_tiles(s)).run();
    });
  } else {
    DirectWeightGradient<S>(x, dy, dweight, s).run();
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
