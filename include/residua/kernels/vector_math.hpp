// Elementary functions of packs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <type_traits>

#include <residua/core/elementwise.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// c₀ + c₁·x + c₂·x² + …
template <typename V>
RESIDUA_INLINE V polynomial(const V&, double c) {
  return V(static_cast<typename V::Scalar>(c));
}
template <typename V, typename... Coefficients>
RESIDUA_INLINE V polynomial(const V& x, double c, Coefficients... more) {
  return static_cast<typename V::Scalar>(c) + x * polynomial(x, more...);
}

/// The parts of an IEEE number.
template <typename S> struct Format;
template <> struct Format<float> {
  using Bits = std::uint32_t;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float lowest_log = -104, highest_log = 89;  // e^x is 0 below and ∞ above
};
template <> struct Format<double> {
  using Bits = std::uint64_t;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double lowest_log = -746, highest_log = 710;
};

/// Added to a number of moderate size, it leaves no bits for the fraction: the sum's last bits are the rounded integer.
template <typename S> inline constexpr S rounder = S(3) * S(typename Format<S>::Bits{1} << (Format<S>::mantissa - 1));

/// 2ⁿ for integers −bias < n <= bias.
template <typename V>
RESIDUA_INLINE V power_of_two(const V& n) {
  using S = typename V::Scalar;
  using Bits = typename Format<S>::Bits;
  const V shifted = n + rounder<S>;
  Pack<Bits, sizeof(V)> bits;
  std::memcpy(&bits.raw, &shifted.raw, sizeof bits);
  bits = (bits + static_cast<Bits>(Format<S>::bias)) << Format<S>::mantissa;
  V result;
  std::memcpy(&result.raw, &bits.raw, sizeof bits);
  return result;
}

/// e^x = a · b · (1 + rest): x = n · ln 2 + r with |r| <= ln 2 / 2, a · b = 2ⁿ, rest = e^r − 1.
template <typename V>
struct Exponential {
  V a, b, rest;

  RESIDUA_INLINE explicit Exponential(V x) {
    using S = typename V::Scalar;
    constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6;  // n · ln2_high is exact
    x = where(x < Format<S>::lowest_log, V(Format<S>::lowest_log), x);
    x = where(x > Format<S>::highest_log, V(Format<S>::highest_log), x);
    const V n = rounded(x * std::numbers::log2e_v<S>);
    const V r = (x - n * S(ln2_high)) - n * S(ln2_low);
    if constexpr (std::is_same_v<S, float>) {
      rest = r * polynomial(r, 1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040);
    } else {
      rest = r * polynomial(r, 1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880,
                            1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800);
    }
    const V half = rounded(n * S(0.5));  // 2ⁿ in two factors, since n may be beyond what one number can hold
    a = power_of_two(half);
    b = power_of_two(n - half);
  }

 private:
  RESIDUA_INLINE static V rounded(const V& x) {
    return (x + rounder<typename V::Scalar>) - rounder<typename V::Scalar>;
  }
};

/// e^x
template <typename V>
RESIDUA_INLINE V exp(const V& x) {
  const Exponential<V> e(x);
  return (e.rest + typename V::Scalar(1)) * e.a * e.b;
}

/// tanh x = (1 − e^−2|x|) / (1 + e^−2|x|), with the sign of x; 1 − e^… without cancellation.
template <typename V>
RESIDUA_INLINE V tanh(const V& x) {
  using S = typename V::Scalar;
  const Exponential<V> e(where(x < S(0), x + x, -(x + x)));
  const V scale = e.a * e.b, m = scale * e.rest + (scale - S(1));
  const V t = m / (m + S(2));
  return where(x < S(0), t, -t);
}

/// 1 / (1 + e^−x)
template <typename V>
RESIDUA_INLINE V sigmoid(const V& x) {
  return typename V::Scalar(1) / (typename V::Scalar(1) + exp(-x));
}

/// Φ(x) = ½ · (1 + erf(x/√2)), the normal distribution. In float ½ · erfc(t) = ½ · e^(t·P(t)) for t = |x|/√2 < 4, with P
/// of degree 8 fitted to within 3e-9 of erfc.
template <typename V>
RESIDUA_INLINE V normal_cdf(const V& x) {
  using S = typename V::Scalar;
  constexpr S sqrt_half = S(1) / std::numbers::sqrt2_v<S>;
  if constexpr (std::is_same_v<S, float>) {
    const V t = where(x < S(0), -x, x) * sqrt_half;
    const V p = polynomial(t, -1.1283793324901763, -0.6366161070144958, -0.10279921040041043, 0.019217142621774368,
                           5.8782172075828556e-5, -1.5767607618818132e-3, 5.879510262573988e-4,
                           -1.0602674586170423e-4, 8.04383337037601e-6);
    const V tail = where(t >= S(4), V(), exp(t * p) * S(0.5));
    return where(x < S(0), tail, S(1) - tail);
  } else {
    V y;
    for (Index i = 0; i < V::lanes; ++i) y.raw[i] = std::erfc(-x.raw[i] * sqrt_half) * S(0.5);
    return y;
  }
}

/// The normal density, e^(−x²/2) / √(2π).
template <typename V>
RESIDUA_INLINE V normal_density(const V& x) {
  using S = typename V::Scalar;
  return exp(x * x * S(-0.5)) * (std::numbers::inv_sqrtpi_v<S> / std::numbers::sqrt2_v<S>);
}

}  // namespace residua::inline RESIDUA_ABI::kernels
