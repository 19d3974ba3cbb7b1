// Winograd's transforms of one tile: Bᵀ d B, Aᵀ m A, G g Gᵀ and their adjoints. See winograd.hpp.
#pragma once

#include <algorithm>
#include <numbers>
#include <type_traits>

#include <residua/kernels/microkernel.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// The transforms along one axis, from `from` values to `to`. They evaluate polynomials at 0, ±√½, ±√2 and ∞, and
/// interpolate: with these points rounding costs a fifth of what it costs with 0, ±1, ±2 and ∞.
namespace winograd {

template <typename S> inline constexpr S near = std::numbers::sqrt2_v<S> / 2;
template <typename S> inline constexpr S far = std::numbers::sqrt2_v<S>;
template <typename V> using Lane = std::remove_cvref_t<decltype(V{}[0])>;

/// Where the elements of a tile lie that is part of an image: a pointer for each.
template <typename S> using Pixels = S* const*;

/// Where they lie at equal steps.
template <typename S>
struct Evenly {
  S* first;
  Index step;
  S* operator[](Index e) const { return first + e * step; }
  Evenly<const S> read_only() const { return {first, step}; }
};

/// What stands for ±√½ and ±√2, from the even and the odd part of each.
template <typename V>
RESIDUA_INLINE void pairs(const V& near_even, const V& near_odd, const V& far_even, const V& far_odd, V* t) {
  t[1] = near_even + near_odd;
  t[2] = near_even - near_odd;
  t[3] = far_even + far_odd;
  t[4] = far_even - far_odd;
}

struct Input {  // Bᵀ
  static constexpr int from = 6, to = 6;
  template <typename S> using From = Pixels<const S>;
  template <typename S> using To = Evenly<S>;
  template <typename V>
  RESIDUA_INLINE static void apply(const V* d, V* t) {
    using S = Lane<V>;
    const V a = d[4] - S(2) * d[2], b = near<S> * (d[3] - S(2) * d[1]);
    const V c = d[4] - S(0.5) * d[2], e = far<S> * (d[3] - S(0.5) * d[1]);
    t[0] = d[0] - S(2.5) * d[2] + d[4];
    pairs(a, b, c, e, t);
    t[5] = d[1] - S(2.5) * d[3] + d[5];
  }
};

struct Output {  // Aᵀ
  static constexpr int from = 6, to = 4;
  template <typename S> using From = Evenly<const S>;
  template <typename S> using To = Pixels<S>;
  template <typename V>
  RESIDUA_INLINE static void apply(const V* m, V* t) {
    using S = Lane<V>;
    const V a = m[1] + m[2], b = near<S> * (m[1] - m[2]), c = m[3] + m[4], e = far<S> * (m[3] - m[4]);
    t[0] = m[0] + a + c;
    t[1] = b + e;
    t[2] = S(0.5) * a + S(2) * c;
    t[3] = S(0.5) * b + S(2) * e + m[5];
  }
};

struct OutputGradient {  // A
  static constexpr int from = 4, to = 6;
  template <typename S> using From = Pixels<const S>;
  template <typename S> using To = Evenly<S>;
  template <typename V>
  RESIDUA_INLINE static void apply(const V* d, V* t) {
    using S = Lane<V>;
    const V a = d[0] + S(0.5) * d[2], b = near<S> * (d[1] + S(0.5) * d[3]);
    const V c = d[0] + S(2) * d[2], e = far<S> * (d[1] + S(2) * d[3]);
    t[0] = d[0];
    pairs(a, b, c, e, t);
    t[5] = d[3];
  }
};

struct Taps {  // G
  static constexpr int from = 3, to = 6;
  template <typename S> using From = Evenly<const S>;
  template <typename S> using To = Evenly<S>;
  template <typename V>
  RESIDUA_INLINE static void apply(const V* g, V* t) {
    using S = Lane<V>;
    const V a = S(-2. / 3) * g[0] - S(1. / 3) * g[2], b = S(-2. / 3) * near<S> * g[1];
    const V c = S(1. / 6) * g[0] + S(1. / 3) * g[2], e = S(1. / 6) * far<S> * g[1];
    t[0] = g[0];
    pairs(a, b, c, e, t);
    t[5] = g[2];
  }
};

struct TapsGradient {  // Gᵀ
  static constexpr int from = 6, to = 3;
  template <typename S> using From = Evenly<const S>;
  template <typename S> using To = Evenly<S>;
  template <typename V>
  RESIDUA_INLINE static void apply(const V* u, V* t) {
    using S = Lane<V>;
    const V a = S(1. / 3) * (u[1] + u[2]), c = S(1. / 6) * (u[3] + u[4]);
    t[0] = u[0] - S(2) * a + c;
    t[1] = S(-2. / 3) * near<S> * (u[1] - u[2]) + S(1. / 6) * far<S> * (u[3] - u[4]);
    t[2] = S(2) * c - a + u[5];
  }
};

/// Rows first … last - 1 of a transformed tile, or as many as it has.
struct Rows {
  int first = 0, last = 6;
};

/// The `wanted` rows of  T · from · Tᵀ  for each of the channels, where T is Output finished by `end`. from and to: where the
/// channels of each element lie, row by row; `to` begins with the first wanted row.
template <typename T, Index bytes, typename S, typename From, typename To>
RESIDUA_INLINE void transform(const From from, const To to, Index channels, const Epilogue<S> end, const Rows wanted) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr Index lanes = bytes / Index(sizeof(S));
  constexpr int n = T::from, m = T::to;
  const int count = std::min(wanted.last, m) - wanted.first;
  for (Index c = 0; c < channels; c += lanes) {
    V half[m][n];  // T · from: there are not enough registers for it, so each axis is a loop
    for (int j = 0; j < n; ++j) {
      V column[n], t[m];
      RESIDUA_UNROLL for (int i = 0; i < n; ++i) column[i] = *reinterpret_cast<const InMemory*>(from[i * n + j] + c);
      T::apply(column, t);
      RESIDUA_UNROLL for (int i = 0; i < m; ++i) half[i][j] = t[i];
    }
    for (int i = 0; i < count; ++i) {
      V row[m];
      T::apply(half[wanted.first + i], row);
      if constexpr (std::is_same_v<T, Output>) {
        const V bias = end.bias != nullptr ? *reinterpret_cast<const InMemory*>(end.bias + c) : V{};
        RESIDUA_UNROLL for (int j = 0; j < m; ++j) row[j] += bias;
        if (end.accumulate) {
          const bool whole = channels - c >= lanes;  // what follows the last channel may be another thread's
          S last[m][lanes];
          for (int j = 0; !whole && j < m; ++j) copy_part<S>(to[i * m + j] + c, channels - c, last[j]);
          RESIDUA_UNROLL for (int j = 0; j < m; ++j) {
            row[j] += *reinterpret_cast<const InMemory*>(whole ? to[i * m + j] + c : last[j]);
          }
        }
        if (end.relu) {
          RESIDUA_UNROLL for (int j = 0; j < m; ++j) row[j] = row[j] < 0 ? V{} : row[j];
        }
      }
      if (channels - c >= lanes) {
        RESIDUA_UNROLL for (int j = 0; j < m; ++j) *reinterpret_cast<InMemory*>(to[i * m + j] + c) = row[j];
      } else {
        S last[m][lanes];
        RESIDUA_UNROLL for (int j = 0; j < m; ++j) *reinterpret_cast<InMemory*>(last[j]) = row[j];
        for (int j = 0; j < m; ++j) copy_part(last[j], channels - c, to[i * m + j] + c);
      }
    }
  }
}

}  // namespace winograd

template <typename T, typename S>
using TileTransform = void (*)(typename T::template From<S> from, typename T::template To<S> to, Index channels,
                               Epilogue<S> end, winograd::Rows wanted);

#define RESIDUA_WINOGRAD(ISA, TARGET, BYTES)                                                                       \
  template <typename T, typename S>                                                                                \
  TARGET void tile_transform_##ISA(typename T::template From<S> from, typename T::template To<S> to,               \
                                   Index channels, Epilogue<S> end, winograd::Rows wanted) {                       \
    winograd::transform<T, BYTES>(from, to, channels, end, wanted);                                                \
  }
RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_WINOGRAD)
#undef RESIDUA_WINOGRAD

template <typename T, typename S>
TileTransform<T, S> tile_transform() {
  return RESIDUA_BEST(tile_transform, T, S);
}

}  // namespace residua::inline RESIDUA_ABI::kernels
