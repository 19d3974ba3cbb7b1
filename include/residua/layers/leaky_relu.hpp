// LeakyReLU: what is negative becomes small.
#pragma once

#include <residua/layers/activation.hpp>

namespace residua::inline RESIDUA_ABI {

struct LeakyReLUOptions {
  double negative_slope = 0.01;
};

/// y = x where x > 0, negative_slope · x elsewhere; of any shape. Throws Error for a slope below 0.
///
/// Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).
template <typename S>
class LeakyReLU : public Activation<LeakyReLU<S>, S, Keeps::output> {
 public:
  static constexpr const char* name = "LeakyReLU";
  LeakyReLUOptions options;

  explicit LeakyReLU(const LeakyReLUOptions& o = {}) : options(o) {
    if (!(o.negative_slope >= 0)) fail(name, "expected negative_slope of at least 0, got ", o.negative_slope);
  }

  auto value(auto x) const { return x > S(0) ? x : x * static_cast<S>(options.negative_slope); }
  auto derivative(auto y) const {  // y has the sign of x
    const decltype(y) zero{};
    return y > S(0) ? zero + S(1) : zero + static_cast<S>(options.negative_slope);
  }
};

}  // namespace residua::inline RESIDUA_ABI
