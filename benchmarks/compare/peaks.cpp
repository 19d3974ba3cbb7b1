#include "peaks.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "measure.hpp"

namespace compare {

namespace {

constexpr int chains = 12;
struct Numbers {
  float x[16 * chains], b[16], minus_one[16];
};

// One loop of multiply-adds that do not wait for each other, all in registers, compiled for one instruction set: x becomes
// b − x and then x again, so that no bits come to rest, as they do not in real work; a processor that may clock higher where
// they do would show a peak that no work reaches.
// Returns the floating-point operations done. `numbers` are x and b, and take what is computed, so that the compiler keeps it.
#define COMPARE_MULTIPLY_ADDS(ISA, TARGET, BYTES)                                                            \
  TARGET double multiply_adds_##ISA(Numbers& numbers) {                                                      \
    typedef float Vector __attribute__((vector_size(BYTES), aligned(4), may_alias));                         \
    constexpr int steps = 1 << 20;                                                                           \
    auto* const memory = reinterpret_cast<Vector*>(numbers.x);                                               \
    const Vector a = *reinterpret_cast<const Vector*>(numbers.minus_one);                                    \
    const Vector b = *reinterpret_cast<const Vector*>(numbers.b);                                            \
    Vector x[chains];                                                                                        \
    for (int i = 0; i < chains; ++i) x[i] = memory[i];                                                       \
    for (int step = 0; step < steps; ++step) {                                                               \
      COMPARE_UNROLL for (int i = 0; i < chains; ++i) x[i] = x[i] * a + b;                                   \
    }                                                                                                        \
    for (int i = 0; i < chains; ++i) memory[i] = x[i];                                                       \
    return 2.0 * chains * steps * (BYTES / 4);                                                               \
  }
#if defined(__clang__)
#define COMPARE_UNROLL _Pragma("unroll")
#else
#define COMPARE_UNROLL _Pragma("GCC unroll 12")
#endif

COMPARE_MULTIPLY_ADDS(baseline, , 16)
#if defined(__x86_64__)
COMPARE_MULTIPLY_ADDS(avx2, __attribute__((target("avx2,fma"))), 32)
COMPARE_MULTIPLY_ADDS(avx512, __attribute__((target("avx512f,fma"))), 64)
#endif

/// `work(thread)` on every thread at once; the seconds of the fastest of several tries.
double best_seconds(int threads, const std::function<void(int)>& work) {
  double best = 1e30;
  for (int attempt = 0; attempt < 5; ++attempt) {
    best = std::min(best, seconds([&] {
      std::vector<std::jthread> others;
      for (int i = 1; i < threads; ++i) others.emplace_back([&, i] { work(i); });
      work(0);
    }));
  }
  return best;
}

double flops_per_second(int threads, double (*multiply_adds)(Numbers&)) {
  std::vector<double> done(static_cast<std::size_t>(threads));
  const double time = best_seconds(threads, [&](int thread) {
    Numbers numbers;
    std::mt19937 random(1);
    for (float& x : numbers.x) x = std::uniform_real_distribution<float>(-1, 1)(random);
    for (float& b : numbers.b) b = std::uniform_real_distribution<float>(-1, 1)(random);
    std::fill_n(numbers.minus_one, 16, -1.0f);
    done[static_cast<std::size_t>(thread)] = multiply_adds(numbers);
  });
  return done[0] * threads / time;
}

double bytes_per_second(int threads) {
  const std::size_t part = (std::size_t{256} << 20) / static_cast<std::size_t>(threads);
  std::vector<char> from(part * static_cast<std::size_t>(threads), 1), to(from.size());
  const double time = best_seconds(threads, [&](int thread) {
    const std::size_t first = part * static_cast<std::size_t>(thread);
    std::memcpy(to.data() + first, from.data() + first, part);
  });
  return 2.0 * static_cast<double>(from.size()) / time;
}

}  // namespace

double Peaks::flops() const {
  double most = 0;
  for (const Rate& rate : rates) most = std::max(most, rate.flops);
  return most;
}

Peaks measure_peaks(int threads) {
  Peaks peaks;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    peaks.rates.push_back({"AVX-512", flops_per_second(threads, multiply_adds_avx512)});
  }
  if (__builtin_cpu_supports("avx2")) peaks.rates.push_back({"AVX2", flops_per_second(threads, multiply_adds_avx2)});
#endif
  peaks.rates.push_back({"baseline", flops_per_second(threads, multiply_adds_baseline)});
  peaks.bytes = bytes_per_second(threads);
  return peaks;
}

}  // namespace compare
