// SiLU: a smooth ReLU that gates its input with its own sigmoid; also called Swish.
#pragma once

#include <residua/layers/activation.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = x · σ(x), of any shape.
///
/// Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016); Ramachandran et al., "Searching for Activation Functions"
/// (2017).
template <typename S>
class SiLU : public Activation<SiLU<S>, S, Keeps::input> {
 public:
  static constexpr const char* name = "SiLU";

  auto value(auto x) const { return x * kernels::sigmoid(x); }
  auto derivative(auto x) const {
    const auto s = kernels::sigmoid(x);
    return s * (S(1) + x * (S(1) - s));
  }
};

}  // namespace residua::inline RESIDUA_ABI
