// Elementary functions of whole vectors, written as for one number: see core/elementwise.hpp.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>
#include <type_traits>

#include <residua/core/elementwise.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// c₀ + c₁·x + c₂·x² + …
template <typename V>
V polynomial(V, double c) {
  return V{} + static_cast<Lane<V>>(c);
}
template <typename V, typename... Coefficients>
V polynomial(V x, double c, Coefficients... more) {
  return static_cast<Lane<V>>(c) + x * polynomial(x, more...);
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
V power_of_two(V n) {
  using S = Lane<V>;
  using Bits = VectorLike<typename Format<S>::Bits, S>;
  return std::bit_cast<V>((std::bit_cast<Bits>(n + rounder<S>) + Format<S>::bias) << Format<S>::mantissa);
}

/// e^x = a · b · (1 + rest): x = n · ln 2 + r with |r| <= ln 2 / 2, a · b = 2ⁿ, rest = e^r − 1.
template <typename V>
struct Exponential {
  V a, b, rest;

  explicit Exponential(V x) {
    using S = Lane<V>;
    constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6;  // n · ln2_high is exact
    x = x < Format<S>::lowest_log ? V{} + Format<S>::lowest_log : x;
    x = x > Format<S>::highest_log ? V{} + Format<S>::highest_log : x;
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
  static V rounded(V x) { return (x + rounder<Lane<V>>) - rounder<Lane<V>>; }
};

/// e^x
template <typename V>
V exp(V x) {
  const Exponential<V> e(x);
  return (e.rest + Lane<V>(1)) * e.a * e.b;
}

/// tanh x = (1 − e^−2|x|) / (1 + e^−2|x|), with the sign of x; 1 − e^… without cancellation.
template <typename V>
V tanh(V x) {
  using S = Lane<V>;
  const Exponential<V> e(x < S(0) ? x + x : -(x + x));
  const V scale = e.a * e.b, m = scale * e.rest + (scale - S(1));
  const V t = m / (m + S(2));
  return x < S(0) ? t : -t;
}

/// 1 / (1 + e^−x)
template <typename V>
V sigmoid(V x) {
  return Lane<V>(1) / (Lane<V>(1) + exp(-x));
}

/// Φ(x) = ½ · (1 + erf(x/√2)), the normal distribution. In float ½ · erfc(t) = ½ · e^(t·P(t)) for t = |x|/√2 < 4, with P
/// of degree 8 fitted to within 3e-9 of erfc.
template <typename V>
V normal_cdf(V x) {
  using S = Lane<V>;
  constexpr S sqrt_half = S(1) / std::numbers::sqrt2_v<S>;
  if constexpr (std::is_same_v<S, float>) {
    const V t = (x < S(0) ? -x : x) * sqrt_half;
    const V p = polynomial(t, -1.1283793324901763, -0.6366161070144958, -0.10279921040041043, 0.019217142621774368,
                           5.8782172075828556e-5, -1.5767607618818132e-3, 5.879510262573988e-4,
                           -1.0602674586170423e-4, 8.04383337037601e-6);
    const V tail = t >= S(4) ? V{} : exp(t * p) * S(0.5);
    return x < S(0) ? tail : S(1) - tail;
  } else {
    V y{};
    for (Index i = 0; i < lanes<S>; ++i) y[i] = std::erfc(-x[i] * sqrt_half) * S(0.5);
    return y;
  }
}

/// The normal density, e^(−x²/2) / √(2π).
template <typename V>
V normal_density(V x) {
  using S = Lane<V>;
  return exp(x * x * S(-0.5)) * (std::numbers::inv_sqrtpi_v<S> / std::numbers::sqrt2_v<S>);
}

}  // namespace residua::inline RESIDUA_ABI::kernels
