// A kernel in each instruction set that this processor has.
#pragma once

#include <cstddef>
#include <vector>

#include <residua/core/instruction_set.hpp>

/// What RESIDUA_FOR_INSTRUCTION_SETS made of a function, or a set of functions, of type Kernel: all that can run here.
#if !defined(__x86_64__)
#define EVERY(Kernel, function, ...) std::vector<Kernel>{function##_baseline<__VA_ARGS__>}
#elif defined(__AVX512F__)
#define EVERY(Kernel, function, ...) std::vector<Kernel>{function##_avx512<__VA_ARGS__>}
#else
#define EVERY(Kernel, function, ...) \
  available<Kernel>({function##_baseline<__VA_ARGS__>, function##_avx2<__VA_ARGS__>, function##_avx512<__VA_ARGS__>})
#endif

template <typename Kernel>
std::vector<Kernel> available(std::vector<Kernel> from_smallest) {
  const residua::Index bytes = residua::kernels::vector_size();
  while (from_smallest.size() > (bytes == 64 ? 3u : bytes == 32 ? 2u : 1u)) from_smallest.pop_back();
  return from_smallest;
}
