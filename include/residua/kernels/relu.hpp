// ReLU, which remembers one bit of each number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include <residua/core/elementwise.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// How many bytes the bits of `size` numbers take: 64 for every 512; with runs of so many numbers each run's by themselves.
inline Index relu_bytes(Index size) { return (size + 511) / 512 * 64; }
inline Index relu_bytes(Index size, Index run) { return size / run * relu_bytes(run) + relu_bytes(size % run); }

/// The run of a ReLU by itself.
inline constexpr Index relu_run = Index{1} << 15;

/// Integers beside the numbers of a pack V. A row of them has one bit of as many packs as an integer has bits, the first
/// pack's in the highest.
template <typename V>
using BitRow = Pack<std::conditional_t<sizeof(typename V::Scalar) == 4, std::uint32_t, std::uint64_t>, sizeof(V)>;

/// Calls pass(i, n) for the n numbers of each pack that shares a row of bits, from the first-th of `size` numbers on; n is
/// less than V::lanes at the end, and may be 0.
template <typename V, typename Pass>
RESIDUA_INLINE void for_each_pack_of_row(Index first, Index size, Pass&& pass) {
  constexpr Index packs = 8 * sizeof(typename V::Scalar), stop = packs * V::lanes;
  if (size - first >= stop) {
    for (Index i = first; i < first + stop; i += V::lanes) pass(i, V::lanes);
  } else {
    for (Index i = first; i < first + stop; i += V::lanes) pass(i, std::clamp<Index>(size - i, 0, V::lanes));
  }
}

/// y = max(x, 0) for `size` numbers; a bit is set where x <= 0. y may be the memory of x.
template <typename S>
void relu_range(Index size, const S* x, S* y, std::uint8_t* bits) {
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    using Row = BitRow<V>;
    auto* to = reinterpret_cast<typename Row::Scalar*>(bits);
    for (Index i = 0; i < size; i += 8 * Index(sizeof(S)) * V::lanes, to += Row::lanes) {
      Row row;
      for_each_pack_of_row<V>(i, size, [&](Index at, Index n) {
        const V v = load_ahead<V>(x + at, n);
        store_ahead<V>(y + at, where(v < S(0), V(S(0)), v), n);
        const auto stopped = (v <= S(0)).raw;  // −1 or 0
        row = Row(row.raw + row.raw - reinterpret_cast<typename Row::Raw>(stopped));
      });
      store<Row>(to, row);
    }
  });
}

/// The same, run by run in parallel.
template <typename S>
void relu(Index size, Index run, const S* x, S* y, std::uint8_t* bits) {
  parallel_ranges(size, run, [&](Index first, Index last) {
    relu_range(last - first, x + first, y + first, bits + first / run * relu_bytes(run));
  });
}

/// dx = 0 where the bit is set, else dy. dx may be the memory of dy.
template <typename S>
void relu_gradient(Index size, Index run, const S* dy, const std::uint8_t* bits, S* dx) {
  parallel_ranges(size, run, [&](Index first, Index last) {
    with_best_vectors([=](auto bytes) {
      using V = Pack<S, bytes>;
      using Row = BitRow<V>;
      using Signed = Pack<typename V::Bits, bytes>;
      auto* from = reinterpret_cast<const typename Row::Scalar*>(bits + first / run * relu_bytes(run));
      for (Index i = first; i < last; i += 8 * Index(sizeof(S)) * V::lanes, from += Row::lanes) {
        Row row = load<Row>(from);
        for_each_pack_of_row<V>(i, last, [&](Index at, Index n) {
          const Signed highest(reinterpret_cast<typename Signed::Raw>(row.raw));
          store_ahead<V>(dx + at, where(highest < typename V::Bits(0), V(S(0)), load_ahead<V>(dy + at, n)), n);
          row = row + row;
        });
      }
    });
  });
}

}  // namespace residua::inline RESIDUA_ABI::kernels
