// LeakyReLU: what is negative becomes small.
#pragma once

#include <cmath>

#include <residua/layers/activation.hpp>

namespace residua::inline RESIDUA_ABI {

struct LeakyReLUOptions {
  double negative_slope = 0.01;
};

/// y = x where x > 0, negative_slope · x elsewhere; of any shape. Throws Error for a slope that is NaN.
///
/// Maas, Hannun and Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013).
template <typename S>
class LeakyReLU : public Activation<LeakyReLU<S>, S, Keeps::output> {
 public:
  static constexpr const char* name = "LeakyReLU";
  LeakyReLUOptions options;

  explicit LeakyReLU(const LeakyReLUOptions& o = {}) : options(o) {
    if (std::isnan(o.negative_slope)) fail(name, "expected a number as negative_slope, got ", o.negative_slope);
  }

  auto value(auto x) const { return where(x > S(0), x, x * static_cast<S>(options.negative_slope)); }
  auto derivative(auto kept) const {
    return where(kept > S(0), decltype(kept)(S(1)), static_cast<S>(options.negative_slope));
  }

  /// The output has the sign of the input and serves as well, unless the slope is negative.
  bool keeps_input() const { return options.negative_slope < 0; }
};

}  // namespace residua::inline RESIDUA_ABI
