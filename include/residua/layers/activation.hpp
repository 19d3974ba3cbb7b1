// Activation: what layers that apply a function to each element share.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/kernels/vector_math.hpp>

namespace residua::inline RESIDUA_ABI {

/// Which of its two tensors an activation computes its derivative from, and keeps for backward.
enum class Keeps { input, output };

/// y = f(x),  dx = dy · f′,  of any shape. `Derived` gives `value(x)`, f of a vector, and `derivative(kept)`, f′ from
/// the input or from the output. Written over x where nobody else holds it and backward does not need it.
template <typename Derived, typename S, Keeps keeps>
class Activation : public Samplewise<Derived, S> {
 public:
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const auto& self = static_cast<const Derived&>(*this);
    const bool x_needed = self.keeps_input() && tape.recording() && tape.input_gradient();
    const S* const in = x.cdata();
    Tensor<S> y = x_needed ? Tensor<S>(x.shape(), uninitialized) : detail::take_over(x);
    kernels::map(y.size(), y.data(), [&](auto v) { return self.value(v); }, in);
    tape.push_for(false, x_needed ? std::move(x) : y);
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto& self = static_cast<const Derived&>(*this);
    const auto kept = tape.template pop<Tensor<S>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient(Derived::name, dy, kept.shape(), tape);
    const S* const in = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);
    kernels::map(dx.size(), dx.data(), [&](auto d, auto v) { return d * self.derivative(v); }, in, kept.cdata());
    return dx;
  }

  /// Whether the input is kept, else the output; `Derived` may decide by its options.
  bool keeps_input() const { return keeps == Keeps::input; }

  static void visit(auto&, auto&&) {}
};

}  // namespace residua::inline RESIDUA_ABI
