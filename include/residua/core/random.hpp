// Random: the one source of randomness, handed in wherever it is needed.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI {

/// A counter-based generator, Philox 4×32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
///
/// Block number i of a generator is a pure function of its key and i: any part of the sequence can be drawn anywhere, in
/// any order, by any thread, and is the same on every machine. `split(key)` gives an independent generator that depends
/// on this one's key alone, not on what was drawn, so that the augmentation of a sample can depend on (seed, epoch, index).
class Random {
 public:
  explicit Random(std::uint64_t seed) : key_(seed) {}

  /// A generator that is never to be drawn from: layers built with it leave their weights zero, for example because a
  /// file will fill them.
  static Random none() {
    Random random(0);
    random.silent_ = true;
    return random;
  }
  bool is_none() const { return silent_; }

  /// An independent generator for `key`. Does not advance this one.
  Random split(std::uint64_t key) const {
    const auto b = philox({low(key), high(key), 0x73706c69u, 0x74u}, key_);
    Random child((std::uint64_t{b[1]} << 32) | b[0]);
    child.silent_ = silent_;
    return child;
  }

  /// An independent generator, another one at each call.
  Random fork() { return split(0x8000000000000000u | counter_++); }

  /// The four 32-bit numbers at position `index` of the sequence.
  std::array<std::uint32_t, 4> block(std::uint64_t index) const { return philox({low(index), high(index), 0, 0}, key_); }

  /// The next 64 random bits.
  std::uint64_t bits() {
    const auto b = block(counter_++);
    return (std::uint64_t{b[1]} << 32) | b[0];
  }

  /// Uniform in [0, 1).
  double uniform() { return to_unit(bits()); }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// Normal with the given mean and standard deviation (Box and Muller, 1958).
  double normal(double mean = 0, double stddev = 1) {
    const auto b = block(counter_++);
    const double u = 1 - to_unit((std::uint64_t{b[1]} << 32) | b[0]);
    const double v = to_unit((std::uint64_t{b[3]} << 32) | b[2]);
    return mean + stddev * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
  }

  /// Beta distributed, from two gamma draws. Throws Error for parameters that are not positive and finite.
  double beta(double a, double b) {
    if (!(a > 0 && b > 0 && std::isfinite(a) && std::isfinite(b))) {
      fail("Random", "expected positive parameters of a beta distribution, got ", a, " and ", b);
    }
    const double log_x = log_gamma(a), log_y = log_gamma(b);
    return 1 / (1 + std::exp(log_y - log_x));
  }

  /// Uniform among 0 … count - 1.
  std::int64_t below(std::int64_t count) {
    if (count < 1) fail("Random", "expected a count of at least 1 to choose from, got ", count);
    // Draws from the uneven rest at the low end are thrown away, so that every result is equally likely.
    const auto range = static_cast<std::uint64_t>(count);
    const std::uint64_t limit = (0 - range) % range;
    std::uint64_t drawn;
    do drawn = bits(); while (drawn < limit);
    return static_cast<std::int64_t>(drawn % range);
  }

  /// True with the given probability.
  bool chance(double probability) { return uniform() < probability; }

  static void visit(auto& self, auto&& v) {
    v("key", self.key_);
    v("counter", self.counter_);
  }

 private:
  static std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
  static std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }
  static double to_unit(std::uint64_t x) { return static_cast<double>(x >> 11) * 0x1p-53; }

  /// The logarithm of a gamma draw (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000). The
  /// logarithm, because for a small shape the draw itself is often too small for a double.
  double log_gamma(double shape) {
    if (shape < 1) {
      const double of_one_more = log_gamma(shape + 1);
      return of_one_more + std::log(1 - uniform()) / shape;
    }
    const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
    while (true) {
      const double x = normal(), v = std::pow(1 + c * x, 3);
      if (v > 0 && std::log(1 - uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return std::log(d * v);
    }
  }

  static std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::uint64_t key) {
    std::uint32_t k0 = low(key), k1 = high(key);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0], p1 = std::uint64_t{0xCD9E8D57u} * c[2];
      c = {high(p1) ^ c[1] ^ k0, low(p1), high(p0) ^ c[3] ^ k1, low(p0)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return c;
  }

  std::uint64_t key_;
  std::uint64_t counter_ = 0;
  bool silent_ = false;
};

}  // namespace residua::inline RESIDUA_ABI
