// AvgPool2d: the mean of each window.
#pragma once

#include <optional>

#include <residua/layers/pool2d.hpp>

namespace residua::inline RESIDUA_ABI {

/// Sizes are one number or a pair (height, width).
struct AvgPool2dOptions {
  Pair kernel_size = 0;
  std::optional<Pair> stride = {};  ///< kernel_size where none is given
  Pair padding = 0;                 ///< zeros, on both sides; at most half the kernel
  bool ceil_mode = false;           ///< keep a last window that goes over the edge
  bool count_include_pad = true;    ///< divide by the size of the window with its padding
  std::optional<Index> divisor_override = {};  ///< divide by this instead
};

/// y[n, h, w, c] = Σ_{r, s} x[n, h·stride − padding + r, …, c] / (size of the window)
///
///     x (N, H, W, C) → y (N, H', W', C),   H' = ⌊(H + 2·padding − kernel_size) / stride⌋ + 1
///
/// Throws Error for options that do not fit together, and in forward for another rank, an empty input, or one too small
/// for the kernel.
template <typename S>
class AvgPool2d : public Samplewise<AvgPool2d<S>, S> {
 public:
  AvgPool2dOptions options;

  explicit AvgPool2d(const AvgPool2dOptions& o) : options(o) {
    detail::check_windows("AvgPool2d", o.kernel_size, o.stride.value_or(o.kernel_size), o.padding, 1);
    if (o.divisor_override == 0) fail("AvgPool2d", "expected divisor_override other than 0, got 0");
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const auto [rows, columns] = windows(x.shape(), tape);
    Tensor<S> y = kernels::average_pool(x, rows, columns, divisor(rows, columns));
    tape.push_for(false, x.shape());
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto shape = tape.template pop<Shape>();
    if (!tape.output_gradient()) return {};
    const auto [rows, columns] = windows(shape, tape);
    detail::check_gradient("AvgPool2d", dy, Shape{shape[0], rows.out, columns.out, shape[3]}, tape);
    return kernels::average_pool_gradient(std::move(dy), rows, columns, divisor(rows, columns));
  }

  static void visit(auto&, auto&&) {}

 private:
  auto windows(const Shape& x, const Tape<S>& tape) const {
    const auto& o = options;
    return detail::windows("AvgPool2d", x, o.kernel_size, o.stride.value_or(o.kernel_size), o.padding, 1, o.ceil_mode,
                           tape);
  }

  /// What the sum over window (o, p) is divided by.
  auto divisor(const kernels::PoolAxis& rows, const kernels::PoolAxis& columns) const {
    return [&rows, &columns, &options = options](Index o, Index p) {
      if (options.divisor_override) return *options.divisor_override;
      if (options.count_include_pad) return rows.padded_size(o) * columns.padded_size(p);
      return rows.window(o).size() * columns.window(p).size();
    };
  }
};

}  // namespace residua::inline RESIDUA_ABI
