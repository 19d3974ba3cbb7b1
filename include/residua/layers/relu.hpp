// ReLU: what is negative becomes zero.
#pragma once

#include <cstdint>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/kernels/relu.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = max(x, 0), of any shape. NaN stays NaN. Written over x where nobody else holds it; remembers a bit of each number.
template <typename S>
class ReLU : public Samplewise<ReLU<S>, S> {
 public:
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const S* const in = x.cdata();
    const Shape shape = x.shape();
    Tensor<S> y = detail::take_over(x);
    if (!tape.recording()) {
      kernels::map(y.size(), y.data(), [](auto v) { return where(v < S(0), S(0), v); }, in);
      remember(shape, {}, tape);
      return y;
    }
    const Index run = kernels::relu_run;
    ReluMask stopped{run, Tensor<std::uint8_t>(Shape{kernels::relu_bytes(y.size(), run)}, uninitialized)};
    kernels::relu(y.size(), run, in, y.data(), stopped.bits.data());
    remember(shape, std::move(stopped), tape);
    return y;
  }

  /// What forward leaves on the tape, where the layer before has done the ReLU as it wrote its result; see Tape::finish.
  /// Throws Error where the tape records and that layer did not fill `stopped`.
  static void remember(const Shape& shape, ReluMask stopped, Tape<S>& tape) {
    if (tape.recording() && (stopped.run < 1 || stopped.bits.size() != kernels::relu_bytes(shape.size(), stopped.run))) {
      tape.fail("ReLU", "expected to be told what it stops by the layer that has done it, got ", stopped.bits.size(),
                " bytes, in runs of ", stopped.run, ", for ", shape);
    }
    tape.push_for(false, Recorded{shape, std::move(stopped)});
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [shape, stopped] = tape.template pop<Recorded>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("ReLU", dy, shape, tape);
    const S* const in = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);  // dx = 0 where x <= 0, else dy
    kernels::relu_gradient(dx.size(), stopped.run, in, stopped.bits.cdata(), dx.data());
    return dx;
  }

  static void visit(auto&, auto&&) {}

 private:
  struct Recorded {
    Shape shape;
    ReluMask stopped;
  };
};

}  // namespace residua::inline RESIDUA_ABI
