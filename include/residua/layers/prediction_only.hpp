// PredictionOnly: what the layers that inference(net) is made of share.
#pragma once

#include <residua/core/layer.hpp>

namespace residua::inline RESIDUA_ABI {

/// The part of a layer that a layer for prediction only does not have.
template <typename Derived, typename S>
class PredictionOnly : public Network<Derived, S> {
 public:
  Tensor<S> backward(Tensor<S>, Tape<S>& tape) {
    tape.fail("inference", "expected a network that can be trained, got one made by inference()");
  }
  static void visit(auto&, auto&&) {}
};

namespace detail {

/// bias = bias · scale + shift: what a scale and shift of a layer's results makes of its bias.
template <typename S>
void fold_into_bias(Tensor<S>& bias, const Tensor<S>& scale, const Tensor<S>& shift) {
  S* const b = bias.data();
  for (Index c = 0; c < bias.size(); ++c) b[c] = b[c] * scale.cdata()[c] + shift.cdata()[c];
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
