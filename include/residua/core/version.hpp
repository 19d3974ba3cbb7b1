// The version of residua, read by CMake from here, and the name of the inline namespace everything lives in.
#pragma once

#define RESIDUA_VERSION_MAJOR 0
#define RESIDUA_VERSION_MINOR 1
#define RESIDUA_VERSION_PATCH 0

// Translation units whose flags change the generated code must not mix: the names of such flags are part of every
// mangled name, so that a program which mixes them fails to link instead of failing at run time.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define RESIDUA_ISA avx512
#elif defined(__AVX512F__)
#define RESIDUA_ISA avx512f
#elif defined(__AVX2__) && defined(__FMA__)
#define RESIDUA_ISA avx2fma
#elif defined(__AVX2__)
#define RESIDUA_ISA avx2
#elif defined(__AVX__)
#define RESIDUA_ISA avx
#elif defined(__SSE4_2__)
#define RESIDUA_ISA sse42
#elif defined(__SSE4_1__)
#define RESIDUA_ISA sse41
#elif defined(__SSSE3__)
#define RESIDUA_ISA ssse3
#elif defined(__SSE3__)
#define RESIDUA_ISA sse3
#else
#define RESIDUA_ISA base
#endif

#if defined(__FAST_MATH__)
#define RESIDUA_MATH _fastmath
#else
#define RESIDUA_MATH
#endif

#define RESIDUA_JOIN_(major, minor, patch, isa, math) v##major##_##minor##_##patch##_##isa##math
#define RESIDUA_JOIN(major, minor, patch, isa, math) RESIDUA_JOIN_(major, minor, patch, isa, math)
#define RESIDUA_ABI \
  RESIDUA_JOIN(RESIDUA_VERSION_MAJOR, RESIDUA_VERSION_MINOR, RESIDUA_VERSION_PATCH, RESIDUA_ISA, RESIDUA_MATH)
