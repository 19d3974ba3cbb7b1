// Smooth L1: squared error where it is small and absolute error beyond, so that outliers pull no harder than others.
#pragma once

#include <cmath>

#include <residua/loss/elementwise_loss.hpp>

namespace residua::inline RESIDUA_ABI {

struct SmoothL1LossOptions {
  Reduction reduction = Reduction::mean;
  double beta = 1;  ///< where the parabola becomes a line; 0: |d| everywhere, the L1 loss
};

/// The mean over all elements of the smooth L1 loss of d = input − target, as PyTorch's SmoothL1Loss, or their sum:
///
///     d² / (2 beta)    where |d| < beta
///     |d| − beta / 2   elsewhere
///
/// which both are s (|d| − s beta / 2) with s = min(|d| / beta, 1), the size of the derivative; that of |d| at 0 is 0.
/// Summed in double. Girshick, "Fast R-CNN", 2015; beta times this is the loss of Huber, "Robust estimation of a
/// location parameter", 1964.
///
/// Shapes: input and target alike, of any shape. Throws Error for no elements, shapes that differ, or a beta that is
/// negative or not finite.
template <typename S>
Loss<S> smooth_l1_loss(const Tensor<S>& input, const Tensor<S>& target, SmoothL1LossOptions options = {}) {
  const char* const place = "smooth_l1_loss";
  const double beta = options.beta;
  if (!(beta >= 0 && std::isfinite(beta))) fail(place, "expected a finite beta of at least 0, got ", beta);
  return detail::elementwise_loss(place, input, target, options.reduction, [beta](double x, double t, Index) {
    const double d = x - t, size = std::abs(d), ratio = size / beta;
    const double steepest = ratio > 1 ? 1 : ratio, slope = size == 0 ? 0 : steepest;
    return detail::ElementLoss{slope * (size - slope * beta / 2), std::copysign(slope, d)};
  });
}

}  // namespace residua::inline RESIDUA_ABI
