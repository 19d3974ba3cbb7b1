// Tanh: squashes to (−1, 1).
#pragma once

#include <residua/layers/activation.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = tanh(x), of any shape.
template <typename S>
class Tanh : public Activation<Tanh<S>, S, Keeps::output> {
 public:
  static constexpr const char* name = "Tanh";

  auto value(auto x) const { return kernels::tanh(x); }
  auto derivative(auto y) const { return S(1) - y * y; }
};

}  // namespace residua::inline RESIDUA_ABI
