// A matrix copied, as it is or turned.
#pragma once

#include <algorithm>

#include <residua/core/eigen.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// to[r · 4 … + 3] (c) = from[c] (r) for a block of 4 × 4.
template <typename S>
void transpose_block(const S* from, Index from_step, S* to, Index to_step) {
  typedef S V __attribute__((vector_size(4 * sizeof(S)), aligned(sizeof(S)), may_alias));
  const V a = *reinterpret_cast<const V*>(from), b = *reinterpret_cast<const V*>(from + from_step);
  const V c = *reinterpret_cast<const V*>(from + 2 * from_step), d = *reinterpret_cast<const V*>(from + 3 * from_step);
  const V ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const V cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *reinterpret_cast<V*>(to) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  *reinterpret_cast<V*>(to + to_step) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  *reinterpret_cast<V*>(to + 2 * to_step) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
  *reinterpret_cast<V*>(to + 3 * to_step) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
}

/// to[r · to_step + c] = from[r · row_step + c · column_step].
template <typename S>
void copy_matrix(const S* from, Index row_step, Index column_step, Index rows, Index columns, S* to, Index to_step) {
  if (column_step == 1) {
    for (Index r = 0; r < rows; ++r) std::copy_n(from + r * row_step, columns, to + r * to_step);
    return;
  }
  const Index whole_rows = row_step == 1 ? rows / 4 * 4 : 0, whole_columns = columns / 4 * 4;
  const Index ahead = 8;  // columns, whose memory is asked for before it is needed
  for (Index c = 0; c < whole_columns; c += 4) {
    for (Index r = 0; r < whole_rows; r += 4) {
      if (c + ahead < whole_columns) __builtin_prefetch(from + (c + ahead + r / 4 % 4) * column_step + r);
      transpose_block(from + c * column_step + r, column_step, to + r * to_step + c, to_step);
    }
  }
  for (Index r = 0; r < rows; ++r) {
    for (Index c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      to[r * to_step + c] = from[r * row_step + c * column_step];
    }
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
