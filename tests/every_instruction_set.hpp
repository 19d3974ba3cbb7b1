// A kernel in each instruction set that this processor has.
#pragma once

#include <cstddef>
#include <vector>

#include <residua/core/instruction_set.hpp>

/// A function of type Kernel, as RESIDUA_FOR_INSTRUCTION_SETS made it: all that can run here.
#if defined(__x86_64__)
#define EVERY(Kernel, function, ...) \
  available<Kernel>({function##_baseline<__VA_ARGS__>, function##_avx2<__VA_ARGS__>, function##_avx512<__VA_ARGS__>})
#else
#define EVERY(Kernel, function, ...) available<Kernel>({function##_baseline<__VA_ARGS__>})
#endif

template <typename Kernel>
std::vector<Kernel> available(std::vector<Kernel> from_smallest) {
  const residua::Index bytes = residua::kernels::vector_size();
  from_smallest.resize(bytes == 64 ? 3 : bytes == 32 ? 2 : 1);
  return from_smallest;
}
