// ReLU6: what is negative becomes zero, what is above six becomes six.
#pragma once

#include <residua/layers/activation.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = min(max(x, 0), 6), of any shape. NaN stays NaN.
///
/// Krizhevsky, "Convolutional Deep Belief Networks on CIFAR-10" (2010).
template <typename S>
class ReLU6 : public Activation<ReLU6<S>, S, Keeps::output> {
 public:
  static constexpr const char* name = "ReLU6";

  auto value(auto x) const {
    const decltype(x) zero{};
    const auto positive = x < S(0) ? zero : x;
    return positive > S(6) ? zero + S(6) : positive;
  }
  auto derivative(auto y) const {
    const decltype(y) zero{};
    const auto rises = y <= S(0) ? zero : zero + S(1);
    return y >= S(6) ? zero : rises;
  }
};

}  // namespace residua::inline RESIDUA_ABI
