// Pack: as many numbers as one vector register holds, worked on lane by lane.
//
// Formulas over packs are written as for one number; a comparison gives a mask, and where(mask, a, b) chooses by lane. What
// a lane computes does not depend on where in memory its number stands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <residua/core/instruction_set.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// The results of a comparison, for packs with lanes of the same size.
template <typename Bits, Index bytes>
struct Mask {
  typedef Bits Raw __attribute__((vector_size(bytes)));
  Raw raw;

  // A copy of its own: so it is passed in memory, whatever instruction set the caller is compiled for.
  RESIDUA_INLINE explicit Mask(const Raw& r) : raw(r) {}
  RESIDUA_INLINE Mask(const Mask& other) : raw(other.raw) {}
};

#if defined(__GNUC__) && !defined(__clang__) && !defined(__AVX512F__)
// g++ takes apart what a function does with vectors longer than that function's own instruction set has, before it is
// inlined where they exist. Most operations it puts together again, but not this one. In a program compiled for AVX-512 no
// vector is longer.
#define RESIDUA_SPLAT(ISA, TARGET, BYTES)                                          \
  template <typename T, typename Raw>                                              \
  TARGET inline void splat(T all, Raw& to, std::integral_constant<Index, BYTES>) { \
    to = all - Raw{};                                                              \
  }
RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_SPLAT)
#undef RESIDUA_SPLAT
#else
template <typename T, typename Raw, typename Bytes>
RESIDUA_INLINE void splat(T all, Raw& to, Bytes) {
  to = all - Raw{};
}
#endif

/// bytes / sizeof(T) numbers. Of a number: all lanes are that.
template <typename T, Index bytes>
struct Pack {
  using Scalar = T;
  using Bits = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  using Choice = Mask<Bits, bytes>;
  typedef T Raw __attribute__((vector_size(bytes)));
  static constexpr Index lanes = bytes / static_cast<Index>(sizeof(T));
  Raw raw;

  RESIDUA_INLINE Pack() : raw{} {}
  RESIDUA_INLINE Pack(T all) { splat(all, raw, std::integral_constant<Index, bytes>()); }
  RESIDUA_INLINE explicit Pack(const Raw& r) : raw(r) {}
  RESIDUA_INLINE Pack(const Pack& other) : raw(other.raw) {}
  RESIDUA_INLINE Pack& operator=(const Pack& other) {
    raw = other.raw;
    return *this;
  }

  RESIDUA_INLINE friend Pack operator+(const Pack& a, const Pack& b) { return Pack(a.raw + b.raw); }
  RESIDUA_INLINE friend Pack operator-(const Pack& a, const Pack& b) { return Pack(a.raw - b.raw); }
  RESIDUA_INLINE friend Pack operator*(const Pack& a, const Pack& b) { return Pack(a.raw * b.raw); }
  RESIDUA_INLINE friend Pack operator/(const Pack& a, const Pack& b) { return Pack(a.raw / b.raw); }
  RESIDUA_INLINE friend Pack operator-(const Pack& a) { return Pack(-a.raw); }
  RESIDUA_INLINE friend Pack operator<<(const Pack& a, int places) { return Pack(a.raw << places); }
  RESIDUA_INLINE Pack& operator+=(const Pack& other) { return *this = *this + other; }

  RESIDUA_INLINE friend Choice operator<(const Pack& a, const Pack& b) { return Choice(a.raw < b.raw); }
  RESIDUA_INLINE friend Choice operator>(const Pack& a, const Pack& b) { return Choice(a.raw > b.raw); }
  RESIDUA_INLINE friend Choice operator<=(const Pack& a, const Pack& b) { return Choice(a.raw <= b.raw); }
  RESIDUA_INLINE friend Choice operator>=(const Pack& a, const Pack& b) { return Choice(a.raw >= b.raw); }
  RESIDUA_INLINE friend Choice operator==(const Pack& a, const Pack& b) { return Choice(a.raw == b.raw); }
  RESIDUA_INLINE friend Choice operator!=(const Pack& a, const Pack& b) { return Choice(a.raw != b.raw); }

  /// a where the mask holds, else b.
  RESIDUA_INLINE friend Pack where(const Choice& mask, const Pack& a, const Pack& b) {
    // In bits, since g++ would take mask ? a : b apart, lane by lane. It still does so where one choice, by a comparison of
    // its own, is the choice of another: multiply by zero or one there.
    using Integers = typename Choice::Raw;
    const Integers x = reinterpret_cast<Integers>(a.raw), y = reinterpret_cast<Integers>(b.raw);
    return Pack(reinterpret_cast<Raw>(y ^ ((x ^ y) & mask.raw)));
  }
};

/// |v|
template <typename V>
RESIDUA_INLINE V abs(const V& v) {
  using Integers = typename V::Choice::Raw;
  const Integers sign = reinterpret_cast<Integers>((-V()).raw);
  return V(reinterpret_cast<typename V::Raw>(reinterpret_cast<Integers>(v.raw) & ~sign));
}

/// to[i] = from[i] for i < n, of which there may be none. A function of its own, once for all loops that end in a part of a
/// vector.
template <typename T>
[[gnu::noinline]] void copy_part(const T* from, Index n, T* to) {
  if (n <= 0) return;
  for (; n >= 8; n -= 8, from += 8, to += 8) std::memcpy(to, from, 8 * sizeof(T));
  if (n & 4) {
    std::memcpy(to, from, 4 * sizeof(T));
    from += 4, to += 4;
  }
  if (n & 2) {
    std::memcpy(to, from, 2 * sizeof(T));
    from += 2, to += 2;
  }
  if (n & 1) *to = *from;
}

/// The first n lanes from memory, zero in the others.
template <typename V>
RESIDUA_INLINE V load(const typename V::Scalar* from, Index n = V::lanes) {
  V v;
  typename V::Scalar part[V::lanes];
  if (n < V::lanes) {
    std::memset(part, 0, sizeof part);
    copy_part(from, n, part);
    from = part;
  }
  std::memcpy(&v.raw, from, sizeof v.raw);
  return v;
}

/// The first n lanes to memory.
template <typename V>
RESIDUA_INLINE void store(typename V::Scalar* to, const V& v, Index n = V::lanes) {
  if (n >= V::lanes) {
    std::memcpy(to, &v.raw, sizeof v.raw);
  } else {
    typename V::Scalar part[V::lanes];
    std::memcpy(part, &v.raw, sizeof v.raw);
    copy_part(part, n, to);
  }
}

/// A pass over much memory asks for what it comes to so many bytes later: processors foresee what is read as far as a page
/// goes, and what is written less.
inline constexpr Index bytes_ahead = 4096;

/// Asks for what lies so many bytes after an address, of which it does not matter whether it can be read.
RESIDUA_INLINE void prefetch(const void* from, Index bytes = 0) {
  __builtin_prefetch(static_cast<const char*>(from) + bytes);
}

/// As load, in a pass over much memory.
template <typename V>
RESIDUA_INLINE V load_ahead(const typename V::Scalar* from, Index n = V::lanes) {
  prefetch(from, bytes_ahead);
  return load<V>(from, n);
}

/// As store, in a pass over much memory.
template <typename V>
RESIDUA_INLINE void store_ahead(typename V::Scalar* to, const V& v, Index n = V::lanes) {
  __builtin_prefetch(reinterpret_cast<const char*>(to) + bytes_ahead, 1);
  store<V>(to, v, n);
}

/// Whether a result of so many bytes is best stored past the caches: it would only push out what is in them, which must then
/// be written to memory first. Not where it replaces what it is made from, since that is in them already.
constexpr bool is_past_caches(Index bytes, bool in_place) { return !in_place && bytes >= Index{4} << 20; }

/// As store_ahead, past the caches if `past`. Whoever stored so calls end_past_caches before others read.
template <typename V>
RESIDUA_INLINE void store_ahead(typename V::Scalar* to, const V& v, Index n, [[maybe_unused]] bool past) {
#if defined(__x86_64__) && defined(__OPTIMIZE__)  // else g++ would compile it without the vectors' instruction set, too
  if (past && n >= V::lanes && reinterpret_cast<std::uintptr_t>(to) % sizeof v.raw == 0) {
    typedef typename V::Scalar Line __attribute__((vector_size(sizeof(typename V::Raw)), may_alias));
    Line* const memory = reinterpret_cast<Line*>(to);
#if defined(__clang__)
    __builtin_nontemporal_store(v.raw, memory);
#else
    if constexpr (sizeof v.raw == 16) {
      asm volatile("movntps %1, %0" : "=m"(*memory) : "x"(v.raw));
    } else {
      asm volatile("vmovntps %1, %0" : "=m"(*memory) : "v"(v.raw));
    }
#endif
    return;
  }
#endif
  store_ahead<V>(to, v, n);
}
inline void end_past_caches([[maybe_unused]] bool past) {
#if defined(__x86_64__)
  if (past) __builtin_ia32_sfence();
#endif
}

/// Calls f(i, n) for the vectors that cover the numbers first … last - 1: n is V::lanes, by a constant that spares load and
/// store the look at it; fewer at the end.
template <typename V, typename F>
RESIDUA_INLINE void for_each_vector(Index first, Index last, F&& f) {
  Index i = first;
  for (; i + V::lanes <= last; i += V::lanes) f(i, std::integral_constant<Index, V::lanes>());
  if (i < last) f(i, last - i);
}

/// v[0] ∘ v[1] ∘ …, in halves, for an operation ∘ on packs.
template <typename V, typename Operation>
RESIDUA_INLINE typename V::Scalar reduce_lanes(const V& v, const Operation& operation) {
  if constexpr (V::lanes == 1) {
    return v.raw[0];
  } else {
    using Half = Pack<typename V::Scalar, sizeof v.raw / 2>;
    typename V::Scalar lanes[V::lanes];
    store(lanes, v);
    return reduce_lanes(operation(load<Half>(lanes), load<Half>(lanes + Half::lanes)), operation);
  }
}

/// Σ over the lanes, in halves.
template <typename V>
RESIDUA_INLINE typename V::Scalar sum_of_lanes(const V& v) {
  return reduce_lanes(v, [](const auto& a, const auto& b) RESIDUA_INLINE_LAMBDA { return a + b; });
}

/// √v
template <typename V>
RESIDUA_INLINE V sqrt(const V& v) {
  Eigen::Array<typename V::Scalar, static_cast<int>(V::lanes), 1> roots;
  std::memcpy(roots.data(), &v.raw, sizeof v.raw);
  roots = roots.sqrt();
  return load<V>(roots.data());
}

}  // namespace residua::inline RESIDUA_ABI::kernels
