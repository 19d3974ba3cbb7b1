// MaxPool2d: the largest value of each window.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>

#include <residua/layers/pool2d.hpp>

namespace residua::inline RESIDUA_ABI {

/// Sizes are one number or a pair (height, width).
struct MaxPool2dOptions {
  Pair kernel_size = 0;
  std::optional<Pair> stride = {};  ///< kernel_size where none is given
  Pair padding = 0;                 ///< with −∞, on both sides; at most half the kernel
  Pair dilation = 1;
  bool ceil_mode = false;  ///< keep a last window that goes over the edge
};

/// y[n, h, w, c] = max over r, s of x[n, h·stride − padding + r·dilation, …, c]
///
///     x (N, H, W, C) → y (N, H', W', C),   H' = ⌊(H + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1
///
/// NaN is larger than all numbers. The gradient goes to the first of equal values in row-major order. Throws Error for
/// options that do not fit together, and in forward for another rank, an empty input, or one too small for the kernel.
template <typename S>
class MaxPool2d : public Samplewise<MaxPool2d<S>, S> {
 public:
  MaxPool2dOptions options;

  explicit MaxPool2d(const MaxPool2dOptions& o) : options(o) {
    detail::check_windows("MaxPool2d", o.kernel_size, o.stride.value_or(o.kernel_size), o.padding, o.dilation);
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const auto [rows, columns] = windows(x.shape(), tape);
    if (x.dim(1) > std::numeric_limits<std::int32_t>::max() / x.dim(2)) {
      tape.fail("MaxPool2d", "expected images of less than 2^31 pixels, got ", x.shape());
    }
    Tensor<S> y(Shape{x.dim(0), rows.out, columns.out, x.dim(3)}, uninitialized);
    Tensor<std::int32_t> positions(y.shape(), uninitialized);
    kernels::max_pool(x.cdata(), y.data(), positions.data(), x.dim(0), x.dim(3), rows, columns);
    tape.push_for(false, x.shape(), std::move(positions));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [shape, positions] = tape.template pop<Shape, Tensor<std::int32_t>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("MaxPool2d", dy, positions.shape(), tape);
    const auto [rows, columns] = windows(shape, tape);
    Tensor<S> dx(shape, uninitialized);
    kernels::max_pool_gradient(dy.cdata(), positions.cdata(), dx.data(), shape[0], shape[3], rows, columns);
    return dx;
  }

  static void visit(auto&, auto&&) {}

 private:
  auto windows(const Shape& x, const Tape<S>& tape) const {
    const auto& [kernel_size, stride, padding, dilation, ceil_mode] = options;
    return detail::windows("MaxPool2d", x, kernel_size, stride.value_or(kernel_size), padding, dilation, ceil_mode,
                           tape);
  }
};

}  // namespace residua::inline RESIDUA_ABI
