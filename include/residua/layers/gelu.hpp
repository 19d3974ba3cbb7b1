// GELU: the input times the probability that a normal number is below it.
#pragma once

#include <numbers>

#include <residua/layers/activation.hpp>

namespace residua::inline RESIDUA_ABI {

enum class Approximate {
  none,  ///< Φ itself
  tanh,  ///< Φ(x) ≈ ½ · (1 + tanh(√(2/π) · (x + 0.044715 x³)))
};

struct GELUOptions {
  Approximate approximate = Approximate::none;
};

/// y = x · Φ(x), of any shape; Φ is the normal distribution, ½ · (1 + erf(x/√2)).
///
/// Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
template <typename S>
class GELU : public Activation<GELU<S>, S, Keeps::input> {
 public:
  static constexpr const char* name = "GELU";
  GELUOptions options;

  explicit GELU(const GELUOptions& o = {}) : options(o) {}

  RESIDUA_INLINE auto value(auto x) const {
    return x * (options.approximate == Approximate::none ? kernels::Normal(x).cdf : kernels::sigmoid(S(2) * u(x)));
  }

  RESIDUA_INLINE auto derivative(auto x) const {
    if (options.approximate == Approximate::none) {
      const kernels::Normal normal(x);
      return normal.cdf + x * normal.density;
    }
    const auto s = kernels::sigmoid(S(2) * u(x));
    const auto du = scale + S(3) * cubic * x * x;
    return s + x * s * (S(1) - s) * S(2) * du;
  }

 private:
  static constexpr S scale = std::numbers::sqrt2_v<S> * std::numbers::inv_sqrtpi_v<S>;
  static constexpr S cubic = scale * S(0.044715);

  /// ½ · (1 + tanh(u)) = σ(2u)
  static auto u(auto x) { return x * (scale + cubic * x * x); }
};

}  // namespace residua::inline RESIDUA_ABI
