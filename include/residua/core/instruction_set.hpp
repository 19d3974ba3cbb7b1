// One text for several instruction sets: kernels are compiled for each, and chosen at run time.
//
// A function's instruction set is an attribute, which cannot depend on a template parameter. So what a kernel does is
// written as a function of the vectors' size, always inlined, and a macro names it once for each instruction set:
//
//     #define RESIDUA_SCALE(ISA, TARGET, BYTES)
//       template <typename S> TARGET void scale_##ISA(S* x, Index n) { scale<BYTES>(x, n); }
//     RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_SCALE)
//     …
//     RESIDUA_BEST(scale, S)(x, n);
//
// Where a lambda says it all, with_best_vectors does the same.
#pragma once

#include <type_traits>

#include <residua/core/eigen.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

#if !defined(__x86_64__)
#define RESIDUA_FOR_INSTRUCTION_SETS(DEFINE) DEFINE(baseline, , 16)
#define RESIDUA_BEST(function, ...) function##_baseline<__VA_ARGS__>
#elif defined(__AVX512F__)  // the whole program is compiled for it, as with -march=native: no other is needed
#define RESIDUA_FOR_INSTRUCTION_SETS(DEFINE) DEFINE(avx512, , 64)
#define RESIDUA_BEST(function, ...) function##_avx512<__VA_ARGS__>
#else
#define RESIDUA_FOR_INSTRUCTION_SETS(DEFINE)                  \
  DEFINE(baseline, , 16)                                      \
  DEFINE(avx2, __attribute__((target("avx2,fma"))), 32)       \
  DEFINE(avx512, __attribute__((target("avx512f,fma"))), 64)
#define RESIDUA_BEST(function, ...)                          \
  (vector_size() == 64   ? function##_avx512<__VA_ARGS__>    \
   : vector_size() == 32 ? function##_avx2<__VA_ARGS__>      \
                         : function##_baseline<__VA_ARGS__>)
#endif

#if defined(__clang__)
#define RESIDUA_UNROLL _Pragma("unroll")
#else
#define RESIDUA_UNROLL _Pragma("GCC unroll 64")
#endif

#define RESIDUA_INLINE [[gnu::always_inline]] inline
#define RESIDUA_INLINE_LAMBDA __attribute__((always_inline))  // after its parameters

/// The bytes of a vector of the best instruction set that this processor has: 64 with AVX-512, 32 with AVX2, else 16.
[[gnu::noinline]] inline Index vector_size() {
#if defined(__x86_64__)
  static const Index size = __builtin_cpu_supports("avx512f")                                   ? 64
                            : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 32
                                                                                                : 16;
  return size;
#else
  return 16;
#endif
}

#define RESIDUA_WITH_VECTORS(ISA, TARGET, BYTES)                              \
  template <typename Body>                                                    \
  TARGET __attribute__((flatten)) void with_vectors_##ISA(Body body) {        \
    body(std::integral_constant<Index, BYTES>());                             \
  }
RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_WITH_VECTORS)
#undef RESIDUA_WITH_VECTORS

/// Calls body(bytes), a constant: the size of the best vectors. Everything the body calls is inlined and compiled for
/// their instruction set, so it is loops only; it is copied, so that what it captures can stay in registers.
template <typename Body>
void with_best_vectors(const Body& body) {
  RESIDUA_BEST(with_vectors, Body)(body);
}

}  // namespace residua::inline RESIDUA_ABI::kernels
