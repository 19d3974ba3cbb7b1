// Mean squared error: the loss of regression.
#pragma once

#include <residua/loss/elementwise_loss.hpp>

namespace residua::inline RESIDUA_ABI {

struct MSELossOptions {
  Reduction reduction = Reduction::mean;
};

/// The mean over all elements of (input − target)², as PyTorch's MSELoss, or their sum. Summed in double.
///
/// Shapes: input and target alike, of any shape. Throws Error for no elements, or shapes that differ.
template <typename S>
Loss<S> mse_loss(const Tensor<S>& input, const Tensor<S>& target, MSELossOptions options = {}) {
  return detail::elementwise_loss("mse_loss", input, target, options.reduction, [](double x, double t, Index) {
    const double d = x - t;
    return detail::ElementLoss{d * d, 2 * d};
  });
}

}  // namespace residua::inline RESIDUA_ABI
