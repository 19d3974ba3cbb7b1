// Convolution: forward, input gradient, weight gradient, each by the algorithm that suits the sizes.
#pragma once

#include <optional>

#include <residua/kernels/convolution_shape.hpp>
#include <residua/kernels/depthwise.hpp>
#include <residua/kernels/direct_convolution.hpp>
#include <residua/kernels/winograd.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Whether Winograd's algorithm can do it at all.
inline bool winograd_applies(const ConvolutionShape& s) {
  const auto both = [](const Index (&v)[2], Index value) { return v[0] == value && v[1] == value; };
  return both(s.kernel, 3) && both(s.stride, 1) && both(s.dilation, 1) && s.groups == 1;
}

/// Whether it is the faster one, for an image of any size.
inline bool winograd_suits(const ConvolutionShape& s) {
  if (s.algorithm != ConvAlgorithm::automatic) return s.algorithm == ConvAlgorithm::winograd;
  return winograd_applies(s) && s.C >= 16 && s.K >= 16;
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

/// Weights (K, R, S, C/G) as products take them.
template <typename S>
WinogradTaps<S> forward_taps(const S* weight, const ConvolutionShape& s) {
  return {.data = weight, .rows = s.C, .columns = s.K, .row_step = 1, .tap_step = s.C, .column_step = 9 * s.C,
          .turned = false};
}
template <typename S>
WinogradTaps<S> backward_taps(const S* weight, const ConvolutionShape& s) {
  return {.data = weight, .rows = s.K, .columns = s.C, .row_step = 9 * s.C, .tap_step = s.C, .column_step = 1,
          .turned = true};
}

/// Weights that are used many times: packed, or for Winograd's algorithm transformed, which takes four times the memory.
template <typename S>
class ConvolutionWeights {
 public:
  ConvolutionWeights(const S* weight, const ConvolutionShape& s) {
    if (winograd_suits(s)) {
      transformed_ = winograd_weights(forward_taps(weight, s));
    } else if (is_depthwise(s)) {
      channelwise_ = depthwise_weights(weight, s, false);
    } else {
      packed_ = pack_weights(weight, s);
    }
  }

  /// Multiplies the weights of each output channel by its factor.
  void scale(const S* factor) {
    if (transformed_) transformed_->scale_columns(factor);
    if (!channelwise_.empty()) {
      auto weights = channelwise_.matrix();
      weights = weights * ConstArrayMap<S>(factor, weights.cols()).matrix().asDiagonal();
    }
    for (Packed<S>& group : packed_) {
      group.scale_columns(factor);
      factor += group.panels().columns;
    }
  }

  /// y = x ∗ weight, finished by `end` (bias, sum, ReLU).   x (N, H, W, C), y (N, H', W', K)
  void convolve(const S* x, S* y, const ConvolutionShape& s, const Epilogue<S>& end) const {
    if (transformed_) {
      winograd_convolution(x, *transformed_, y, forward_tiles(s), end);
    } else if (!channelwise_.empty()) {
      depthwise_convolution(x, channelwise_, y, s, end);
    } else {
      direct_convolution(x, packed_, y, s, end);
    }
  }

 private:
  std::optional<Packed<S>> transformed_;
  Tensor<S> channelwise_;  // (R, S, C)
  PackedGroups<S> packed_;
};

/// y = x ∗ weight, finished by `end`.   x (N, H, W, C), weight (K, R, S, C/G), y (N, H', W', K)
template <typename S>
void convolution(const S* x, const S* weight, S* y, const ConvolutionShape& s, const Epilogue<S>& end) {
  if (winograd_suits(s, forward_tiles(s))) {
    winograd_convolution(x, forward_taps(weight, s), y, forward_tiles(s), end);
  } else if (is_depthwise(s)) {
    depthwise_convolution(x, depthwise_weights(weight, s, false), y, s, end);
  } else {
    direct_convolution(x, pack_weights(weight, s), y, s, end);
  }
}

/// dx = dy ∗ turned weight.   dy (N, H', W', K), weight (K, R, S, C/G), dx (N, H, W, C)
template <typename S>
void convolution_input_gradient(const S* dy, const S* weight, S* dx, const ConvolutionShape& s) {
  if (winograd_suits(s, backward_tiles(s))) {
    winograd_convolution<S>(dy, backward_taps(weight, s), dx, backward_tiles(s), {});
  } else if (is_depthwise(s)) {
    depthwise_input_gradient(dy, weight, dx, s);
  } else {
    direct_input_gradient(dy, weight, dx, s);
  }
}

/// dweight[k, r, s, c] = Σ_pixels dy[p, k] · x[p·stride − padding + (r, s)·dilation, c].   Assigned, not added.
template <typename S>
void convolution_weight_gradient(const S* x, const S* dy, S* dweight, const ConvolutionShape& s) {
  if (winograd_suits(s, forward_tiles(s))) {
    WinogradWeightGradient<S>(x, s.C, dy, s.K, dweight, forward_tiles(s)).run();
  } else if (is_depthwise(s)) {
    depthwise_weight_gradient(x, dy, dweight, s);
  } else {
    direct_weight_gradient(x, dy, dweight, s);
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
