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
      tape.push_for(false);
      return y;
    }
    Tensor<std::uint8_t> blocked(Shape{kernels::relu_bytes(y.size())}, uninitialized);
    kernels::relu(y.size(), in, y.data(), blocked.data());
    tape.push_for(false, shape, std::move(blocked));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [shape, blocked] = tape.template pop<Shape, Tensor<std::uint8_t>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("ReLU", dy, shape, tape);
    const S* const in = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);  // dx = 0 where x <= 0, else dy
    kernels::relu_gradient(dx.size(), in, blocked.cdata(), dx.data());
    return dx;
  }

  static void visit(auto&, auto&&) {}
};

}  // namespace residua::inline RESIDUA_ABI
