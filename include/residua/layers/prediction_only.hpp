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

}  // namespace residua::inline RESIDUA_ABI
