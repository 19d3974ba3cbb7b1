// Identity: what goes in comes out.
#pragma once

#include <residua/core/layer.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = x. The shortcut of a residual connection, or the place of a layer that an option leaves out.
template <typename S>
class Identity : public Samplewise<Identity<S>, S> {
 public:
  Tensor<S> forward(Tensor<S> x, Tape<S>&) const { return x; }
  Tensor<S> backward(Tensor<S> dy, Tape<S>&) { return dy; }
  static void visit(auto&, auto&&) {}
};

}  // namespace residua::inline RESIDUA_ABI
