// What MaxPool2d and AvgPool2d share: the rules of their windows.
#pragma once

#include <limits>
#include <string_view>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/core/options.hpp>
#include <residua/kernels/pooling.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// Throws Error for windows that PyTorch does not allow either.
inline void check_windows(std::string_view layer, Pair kernel_size, Pair stride, Pair padding, Pair dilation) {
  require_at_least(layer, "kernel_size", 1, kernel_size);
  require_at_least(layer, "stride", 1, stride);
  require_at_least(layer, "padding", 0, padding);
  require_at_least(layer, "dilation", 1, dilation);
  if (padding.height > kernel_size.height / 2 || padding.width > kernel_size.width / 2) {
    fail(layer, "expected padding of at most half the kernel, ", kernel_size, ", got ", padding);
  }
}

/// Throws Error for anything but a batch of images, not empty.
template <typename S>
void require_images(std::string_view layer, const Shape& x, const Tape<S>& tape) {
  if (x.rank() != 4 || x.size() == 0) tape.fail(layer, "expected an input [N, H, W, C] that is not empty, got ", x);
}

/// The windows over the rows and over the columns of images x. Throws Error where not one fits.
template <typename S>
std::pair<kernels::PoolAxis, kernels::PoolAxis> windows(std::string_view layer, const Shape& x, Pair kernel_size,
                                                        Pair stride, Pair padding, Pair dilation, bool ceil_mode,
                                                        const Tape<S>& tape) {
  require_images(layer, x, tape);
  const kernels::PoolAxis rows(x[1], kernel_size.height, stride.height, padding.height, dilation.height, ceil_mode);
  const kernels::PoolAxis columns(x[2], kernel_size.width, stride.width, padding.width, dilation.width, ceil_mode);
  if (rows.out < 1 || columns.out < 1) {
    tape.fail(layer, "expected a padded input no smaller than the kernel, got ",
              Pair(x[1] + 2 * padding.height, x[2] + 2 * padding.width), " for kernel_size ", kernel_size,
              " and dilation ", dilation, " (input is ", x, ")");
  }
  return {rows, columns};
}

}  // namespace residua::inline RESIDUA_ABI::detail
