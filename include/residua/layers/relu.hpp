// ReLU: what is negative becomes zero.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/kernels/vector_math.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = max(x, 0), of any shape. NaN stays NaN. Written over x where nobody else holds it.
template <typename S>
class ReLU : public Network<ReLU<S>, S> {
 public:
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    kernels::map(y.size(), y.data(), [](auto v) { return where(v < S(0), S(0), v); }, in);
    tape.push_for(false, y);
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto y = tape.template pop<Tensor<S>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("ReLU", dy, y.shape(), tape);
    const S* const in = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);  // dx = 0 where y = 0, else dy
    kernels::map(dx.size(), dx.data(), [](auto d, auto v) { return where(v <= S(0), S(0), d); }, in, y.cdata());
    return dx;
  }

  static void visit(auto&, auto&&) {}
};

}  // namespace residua::inline RESIDUA_ABI
