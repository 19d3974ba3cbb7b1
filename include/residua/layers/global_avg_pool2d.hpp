// GlobalAvgPool2d: each channel's mean over the image.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

/// y[n, c] = mean over h, w of x[n, h, w, c].   x (N, H, W, C) → y (N, C)
///
/// PyTorch's AdaptiveAvgPool2d(1) followed by Flatten. Throws Error for another rank or an empty input.
template <typename S>
class GlobalAvgPool2d : public Network<GlobalAvgPool2d<S>, S> {
 public:
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    if (x.rank() != 4 || x.empty()) {
      tape.fail("GlobalAvgPool2d", "expected an input [N, H, W, C] that is not empty, got ", x.shape());
    }
    const Index pixels = x.dim(1) * x.dim(2), C = x.dim(3);
    Tensor<S> y(Shape{x.dim(0), C}, uninitialized);
    S* const out = y.data();
    parallel_for(x.dim(0), [&](Index n) {
      ArrayMap<S> mean(out + n * C, C);
      mean.setZero();
      for (Index p = 0; p < pixels; ++p) mean += ConstArrayMap<S>(x.cdata() + (n * pixels + p) * C, C);
      mean /= static_cast<S>(pixels);
    });
    tape.push_for(false, x.shape());
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto shape = tape.template pop<Shape>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("GlobalAvgPool2d", dy, Shape{shape[0], shape[3]}, tape);
    const Index pixels = shape[1] * shape[2], C = shape[3];
    Tensor<S> dx(shape, uninitialized);
    S* const out = dx.data();
    parallel_for(shape[0], [&](Index n) {  // dx = dy / (H · W) at every pixel
      ArrayMap<S> first(out + n * pixels * C, C);
      first = ConstArrayMap<S>(dy.cdata() + n * C, C) / static_cast<S>(pixels);
      for (Index p = 1; p < pixels; ++p) std::copy_n(first.data(), C, out + (n * pixels + p) * C);
    });
    return dx;
  }

  static void visit(auto&, auto&&) {}
};

}  // namespace residua::inline RESIDUA_ABI
