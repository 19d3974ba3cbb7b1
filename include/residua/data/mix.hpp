// MixUp and CutMix: each image of a batch mixed with its neighbour, the targets in the same shares; as torchvision's.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include <residua/core/elementwise.hpp>
#include <residua/core/options.hpp>
#include <residua/core/random.hpp>
#include <residua/core/threads.hpp>
#include <residua/data/batch.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// Checks what MixUp and CutMix share, then draws the share of the image itself: λ from Beta(alpha, alpha).
template <typename S>
double draw_share(const char* place, const Batch<S>& batch, double alpha, Index num_classes, Random& random) {
  const Tensor<S>& x = batch.inputs;
  if (!(alpha > 0 && std::isfinite(alpha))) fail(place, "expected a positive alpha, got ", alpha);
  require_at_least(place, "num_classes", 1, num_classes);
  if (x.rank() < 1 || static_cast<Index>(batch.targets.size()) != x.dim(0)) {
    fail(place, "expected a label for each input, got ", batch.targets.size(), " (inputs are ", x.shape(), ")");
  }
  for (const Index label : batch.targets) {
    if (label < 0 || label >= num_classes) {
      fail(place, "expected labels from 0 to ", num_classes - 1, ", got ", label);
    }
  }
  return random.beta(alpha, alpha);
}

/// Row n: `share` at the label of n, the rest at that of n − 1, which before the first is the last.
template <typename S>
Tensor<S> mixed_targets(std::span<const Index> labels, double share, Index num_classes) {
  Tensor<S> targets(Shape{static_cast<Index>(labels.size()), num_classes});
  MatrixMap<S> y = targets.matrix();
  for (std::size_t n = 0; n < labels.size(); ++n) {
    y(static_cast<Index>(n), labels[n]) += static_cast<S>(share);
    y(static_cast<Index>(n), labels[n == 0 ? labels.size() - 1 : n - 1]) += static_cast<S>(1 - share);
  }
  return targets;
}

}  // namespace detail

/// Blends each input with the one before it, the first with the last, and so their targets (Zhang et al. 2018):
///
///     x̃_n = λ x_n + (1 − λ) x_{n−1},   ỹ_n = λ onehot(y_n) + (1 − λ) onehot(y_{n−1}),   λ ~ Beta(alpha, alpha)
///
/// with one λ for the batch. Shapes: inputs (N, …), targets N labels → (N, num_classes). Throws Error for an alpha that
/// is not positive and finite, another number of labels than inputs, or a label that is not below num_classes.
struct MixUp {
  double alpha = 1;
  Index num_classes = 0;

  template <typename S>
  Batch<S, Tensor<S>> operator()(Batch<S> batch, Random& random) const {
    const double share = detail::draw_share("MixUp", batch, alpha, num_classes, random);
    const Tensor<S>& x = batch.inputs;
    const S lambda = static_cast<S>(share), rest = static_cast<S>(1 - share);
    const Index N = x.dim(0), size = x.size() / std::max<Index>(N, 1);
    Tensor<S> mixed(x.shape(), uninitialized);
    S* const y = mixed.data();
    parallel_for(N, [&](Index n) {
      const S *own = x.cdata() + n * size, *other = x.cdata() + (n == 0 ? N - 1 : n - 1) * size;
      kernels::map_range(size, y + n * size, [=](auto a, auto b) { return lambda * a + rest * b; }, own, other);
    });
    return {std::move(mixed), detail::mixed_targets<S>(batch.targets, share, num_classes)};
  }
};

/// Pastes into each image a rectangle of the one before it, the first getting it from the last; the targets are mixed
/// by area (Yun et al. 2019). With λ ~ Beta(alpha, alpha) the rectangle has √(1 − λ) of the height and of the width, a
/// centre that is any pixel, and is cut at the border; one for the batch. Shapes: inputs (N, H, W, C), targets N labels
/// → (N, num_classes). Throws Error as MixUp does, and for inputs that are not images.
struct CutMix {
  double alpha = 1;
  Index num_classes = 0;

  template <typename S>
  Batch<S, Tensor<S>> operator()(Batch<S> batch, Random& random) const {
    const Tensor<S>& x = batch.inputs;
    if (x.rank() != 4 || x.empty()) fail("CutMix", "expected images [N, H, W, C], got ", x.shape());
    const double drawn = detail::draw_share("CutMix", batch, alpha, num_classes, random);
    const Index N = x.dim(0), H = x.dim(1), W = x.dim(2), C = x.dim(3);
    const auto half = [&](Index whole) {
      return static_cast<Index>(0.5 * std::sqrt(1 - drawn) * static_cast<double>(whole));
    };
    const Index column = random.below(W), row = random.below(H);
    const Index left = std::max<Index>(column - half(W), 0), right = std::min(column + half(W), W);
    const Index top = std::max<Index>(row - half(H), 0), bottom = std::min(row + half(H), H);

    Tensor<S> mixed = x;
    S* const y = mixed.data();
    parallel_for(N, [&](Index n) {
      const Index own = n * H, other = (n == 0 ? N - 1 : n - 1) * H;
      for (Index h = top; h < bottom; ++h) {
        std::copy_n(x.cdata() + ((other + h) * W + left) * C, (right - left) * C, y + ((own + h) * W + left) * C);
      }
    });
    const double share = 1 - static_cast<double>((right - left) * (bottom - top)) / static_cast<double>(H * W);
    return {std::move(mixed), detail::mixed_targets<S>(batch.targets, share, num_classes)};
  }
};

}  // namespace residua::inline RESIDUA_ABI
