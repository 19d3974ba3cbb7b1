// Elementary functions of packs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <type_traits>

#include <residua/core/elementwise.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Σ_i terms_i · xⁱ, in pairs: (terms₀ + terms₁·x) + (terms₂ + terms₃·x)·x² + …, so that few steps wait for another.
///
/// Estrin, "Organization of computer systems: the fixed plus variable structure computer" (1960).
template <Index count, typename V>
RESIDUA_INLINE V sum_of_powers(const V* terms, const V& x) {
  if constexpr (count == 1) {
    return terms[0];
  } else {
    V pairs[(count + 1) / 2];
    RESIDUA_UNROLL for (Index i = 0; i < count / 2; ++i) pairs[i] = terms[2 * i] + x * terms[2 * i + 1];
    if constexpr (count % 2 != 0) pairs[count / 2] = terms[count - 1];
    return sum_of_powers<(count + 1) / 2>(pairs, x * x);
  }
}

/// c₀ + c₁·x + c₂·x² + …
template <typename V, typename... Coefficients>
RESIDUA_INLINE V polynomial(const V& x, Coefficients... c) {
  const V terms[]{V(static_cast<typename V::Scalar>(c))...};
  return sum_of_powers<Index(sizeof...(c))>(terms, x);
}

/// The parts of an IEEE number.
template <typename S> struct Format;
template <> struct Format<float> {
  using Bits = std::uint32_t;
  static constexpr int mantissa = 23, bias = 127;
};
template <> struct Format<double> {
  using Bits = std::uint64_t;
  static constexpr int mantissa = 52, bias = 1023;
};

/// The least exponent of an Exponential, whose scale is zero.
template <typename S> inline constexpr S lowest_exponent = -Format<S>::bias * std::numbers::ln2_v<S>;

/// e^x = scale · (1 + rest) for lowest_exponent <= x <= 0: x = n · ln 2 + r with |r| <= ln 2 / 2, scale = 2ⁿ, rest = e^r − 1.
template <typename V>
struct Exponential {
  V scale, rest;

  RESIDUA_INLINE explicit Exponential(const V& x) {
    using S = typename V::Scalar;
    using Bits = typename Format<S>::Bits;
    constexpr int mantissa = Format<S>::mantissa, bias = Format<S>::bias;
    constexpr S rounder = S(3) * S(Bits{1} << (mantissa - 1));  // a sum with it has no bits left for a fraction
    constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6;  // n · ln2_high is exact
    const V shifted = x * std::numbers::log2e_v<S> + rounder;  // its last bits are n; 2ⁿ is written like zero for the least
    const V n = shifted - rounder, r = (x - n * S(ln2_high)) - n * S(ln2_low);
    if constexpr (std::is_same_v<S, float>) {
      rest = r * polynomial(r, 1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040);
    } else {
      rest = r * polynomial(r, 1., 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880,
                            1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800);
    }
    Pack<Bits, sizeof(V)> bits;
    std::memcpy(&bits.raw, &shifted.raw, sizeof bits);
    bits = (bits + static_cast<Bits>(bias)) << mantissa;
    std::memcpy(&scale.raw, &bits.raw, sizeof bits);
  }
};

/// e^x for x <= 0; may be zero where that is no normal number.
template <typename V>
RESIDUA_INLINE V exp(const V& x) {
  using S = typename V::Scalar;
  const Exponential<V> e(where(x < lowest_exponent<S>, V(lowest_exponent<S>), x));
  return e.scale + e.scale * e.rest;
}

/// tanh x = (1 − e^−2|x|) / (1 + e^−2|x|), with the sign of x; 1 − e^… without cancellation.
template <typename V>
RESIDUA_INLINE V tanh(const V& x) {
  using S = typename V::Scalar;
  const V u = S(-2) * abs(x);
  const Exponential<V> e(where(u < lowest_exponent<S>, V(lowest_exponent<S>), u));
  const V m = e.scale * e.rest + (e.scale - S(1));
  const V t = m / (m + S(2));
  return where(x < S(0), t, -t);
}

/// 1 / (1 + e^−x), from e^−|x|
template <typename V>
RESIDUA_INLINE V sigmoid(const V& x) {
  using S = typename V::Scalar;
  const V e = exp(-abs(x));
  return where(x < S(0), e, V(S(1))) / (S(1) + e);
}

/// The normal distribution Φ(x) = ½ · (1 + erf(x/√2)) and its density φ(x) = e^(−x²/2) / √(2π). In float, with t = |x|,
/// Φ(−t) = e^(−t²/2) · (½ + z·P(z)), z = t / (4 + t), with P of degree 8 fitted to within 2e-8 for t < 14.
template <typename V>
struct Normal {
  V cdf, density;

  RESIDUA_INLINE explicit Normal(const V& x) {
    using S = typename V::Scalar;
    constexpr S far = static_cast<S>(std::is_same_v<S, float> ? 13.2687 : 37.6587);  // −far²/2 = lowest_exponent
    V t = abs(x);
    t = where(t > far, V(far), t);
    const Exponential<V> power(t * t * S(-0.5));
    const V e = power.scale + power.scale * power.rest;
    density = e * (std::numbers::inv_sqrtpi_v<S> / std::numbers::sqrt2_v<S>);
    if constexpr (std::is_same_v<S, float>) {
      const V z = t / (t + S(4));
      const V p = polynomial(z, -1.595768359, 2.404204507, -2.106225442, 0.8702444428, 0.1090652939,
                             -0.2083661286, -0.04928354424, 0.1102891284, -0.03418187028);
      const V tail = e * (S(0.5) + z * p);
      cdf = where(x < S(0), tail, S(1) - tail);
    } else {
      for (Index i = 0; i < V::lanes; ++i) cdf.raw[i] = std::erfc(-x.raw[i] / std::numbers::sqrt2_v<S>) * S(0.5);
    }
  }
};

}  // namespace residua::inline RESIDUA_ABI::kernels
