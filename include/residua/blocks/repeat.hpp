// Repeat: one layer, applied many times.
#pragma once

#include <string>
#include <utility>

#include <residua/blocks/inference.hpp>
#include <residua/core/layer.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = layer(layer(… layer(x))), n times with the same weights: their gradients add up over all uses.
/// Throws Error for n below 0.
template <typename S>
class Repeat : public Network<Repeat<S>, S> {
 public:
  Layer<S> layer;
  Index times;

  Repeat(Layer<S> repeated, Index n) : layer(std::move(repeated)), times(n) {
    if (n < 0) fail("Repeat", "expected a number of times of at least 0, got ", n);
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");
    for (Index i = 0; i < times; ++i) x = residua::forward(layer, "layer", std::move(x), tape);
    return x;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    for (Index i = 0; i < times; ++i) dy = residua::backward(layer, "layer", std::move(dy), tape);
    return dy;
  }

  Layer<S> inference() const { return Repeat(layer.inference(), times); }

  bool samplewise() const { return layer.samplewise(); }

  static void visit(auto& self, auto&& v) { v("layer", self.layer); }
};

}  // namespace residua::inline RESIDUA_ABI
