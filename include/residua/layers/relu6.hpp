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
    const auto positive = where(x < S(0), S(0), x);
    return where(positive > S(6), S(6), positive);
  }
  auto derivative(auto y) const {
    const decltype(y) zero = S(0), one = S(1);
    return where(y <= S(0), zero, one) * where(y >= S(6), zero, one);
  }
};

}  // namespace residua::inline RESIDUA_ABI
