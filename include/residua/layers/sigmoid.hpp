// Sigmoid: squashes to (0, 1).
#pragma once

#include <residua/layers/activation.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = σ(x) = 1 / (1 + e^−x), of any shape.
template <typename S>
class Sigmoid : public Activation<Sigmoid<S>, S, Keeps::output> {
 public:
  static constexpr const char* name = "Sigmoid";

  auto value(auto x) const { return kernels::sigmoid(x); }
  auto derivative(auto y) const { return y * (S(1) - y); }
};

}  // namespace residua::inline RESIDUA_ABI
