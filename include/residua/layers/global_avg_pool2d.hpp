// GlobalAvgPool2d: each channel's mean over the image.
#pragma once

#include <algorithm>

#include <residua/kernels/columns.hpp>
#include <residua/layers/pool2d.hpp>

namespace residua::inline RESIDUA_ABI {

/// y[n, c] = mean over h, w of x[n, h, w, c].   x (N, H, W, C) → y (N, C)
///
/// PyTorch's AdaptiveAvgPool2d(1) followed by Flatten. Throws Error for another rank or an empty input.
template <typename S>
class GlobalAvgPool2d : public Samplewise<GlobalAvgPool2d<S>, S> {
 public:
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::require_images("GlobalAvgPool2d", x.shape(), tape);
    const Index pixels = x.dim(1) * x.dim(2), C = x.dim(3);
    Tensor<S> y(Shape{x.dim(0), C}, uninitialized);
    S* const out = y.data();
    parallel_for(x.dim(0), [&](Index n) {
      const Tensor<S> sums = kernels::column_sums(x.cdata() + n * pixels * C, pixels, C);
      for (Index c = 0; c < C; ++c) out[n * C + c] = sums.cdata()[c] / static_cast<S>(pixels);
    });
    tape.push_for(false, x.shape());
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto shape = tape.template pop<Shape>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("GlobalAvgPool2d", dy, Shape{shape[0], shape[3]}, tape);
    const Index H = shape[1], W = shape[2], C = shape[3];
    Tensor<S> dx(shape, uninitialized);
    S* const out = dx.data();
    parallel_for(shape[0] * H, [&](Index row) {  // dx = dy / (H · W) at every pixel
      const S* const d = dy.cdata() + row / H * C;
      S* const first = out + row * W * C;
      for (Index c = 0; c < C; ++c) first[c] = d[c] / static_cast<S>(H * W);
      for (Index w = 1; w < W; ++w) std::copy_n(first, C, first + w * C);
    });
    return dx;
  }

  static void visit(auto&, auto&&) {}
};

}  // namespace residua::inline RESIDUA_ABI
