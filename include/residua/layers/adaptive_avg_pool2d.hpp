// AdaptiveAvgPool2d: means over windows that cover the input evenly.
#pragma once

#include <residua/layers/pool2d.hpp>

namespace residua::inline RESIDUA_ABI {

struct AdaptiveAvgPool2dOptions {
  Pair output_size = 0;  ///< one number or a pair (height, width)
};

/// y[n, i, j, c] = mean of x[n, h, w, c] over ⌊i·H/H'⌋ <= h < ⌈(i + 1)·H/H'⌉, and w likewise.
///
///     x (N, H, W, C) → y (N, H', W', C) for any H and W
///
/// Throws Error for output sizes below 1, and in forward for another rank or an empty input.
template <typename S>
class AdaptiveAvgPool2d : public Samplewise<AdaptiveAvgPool2d<S>, S> {
 public:
  AdaptiveAvgPool2dOptions options;

  explicit AdaptiveAvgPool2d(const AdaptiveAvgPool2dOptions& o) : options(o) {
    detail::require_at_least("AdaptiveAvgPool2d", "output_size", 1, o.output_size);
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::require_images("AdaptiveAvgPool2d", x.shape(), tape);
    const auto [rows, columns] = windows(x.shape());
    Tensor<S> y = kernels::average_pool(x, rows, columns, sizes(rows, columns));
    tape.push_for(false, x.shape());
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto shape = tape.template pop<Shape>();
    if (!tape.output_gradient()) return {};
    const auto [rows, columns] = windows(shape);
    detail::check_gradient("AdaptiveAvgPool2d", dy, Shape{shape[0], rows.out, columns.out, shape[3]}, tape);
    return kernels::average_pool_gradient(std::move(dy), rows, columns, sizes(rows, columns));
  }

  static void visit(auto&, auto&&) {}

 private:
  std::pair<kernels::AdaptiveAxis, kernels::AdaptiveAxis> windows(const Shape& x) const {
    return {{x[1], options.output_size.height}, {x[2], options.output_size.width}};
  }

  static auto sizes(const kernels::AdaptiveAxis& rows, const kernels::AdaptiveAxis& columns) {
    return [&](Index o, Index p) { return rows.window(o).size() * columns.window(p).size(); };
  }
};

}  // namespace residua::inline RESIDUA_ABI
