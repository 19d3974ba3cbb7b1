// The innermost loops of all products, compiled for several instruction sets and chosen at run time.
#pragma once

#include <algorithm>

#include <residua/core/pack.hpp>
#include <residua/kernels/ahead.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// How a tile of a product is finished before it is stored.
template <typename S>
struct Epilogue {
  const S* bias = nullptr;  ///< (columns), added to each row
  bool accumulate = false;  ///< add to what is there
  bool relu = false;        ///< max(·, 0) at the very end
};

/// c_i[first + v] = Σ_t Σ_k a_i[taps_t + k] · b[t·depth + k][v]   for the tile's rows i and columns v < columns.
/// `a`, `c`: a pointer for each row; `b`: a packed panel; columns beyond the last are computed but not stored. `ahead` is
/// asked once for each four products of a tap; in the outer kernel, of the sum.
template <typename S>
using RowsKernel = void (*)(const S* const* a, const Index* taps, Index tap_count, Index depth, const S* b, S* const* c,
                            Index first, Index columns, Epilogue<S> end, AheadSteps ahead);
inline constexpr Index products_an_ask = 4;

/// c[i][v] = Σ_p a[p·lda + i] · b[p·ldb + v]   for p < count, i < rows, v < columns; added to what is there if `accumulate`.
template <typename S>
using OuterKernel = void (*)(const S* a, Index lda, const S* b, Index ldb, Index count, S* c, Index ldc, Index rows,
                             Index columns, bool accumulate, AheadSteps ahead);

/// c_i[j · step] = Σ_t Σ_k a_i[taps_t + k] · b_j[t·depth + k]   for i < rows and j < columns, of which there are at most
/// few_columns: sums along vectors, where the rows kernel would leave most of its lanes empty. Finished by `end`, whose bias
/// is one for each column.
template <typename S>
using DotsKernel = void (*)(const S* const* a, const Index* taps, Index tap_count, Index depth, const S* const* b,
                            S* const* c, Index rows, Index step, Index columns, Epilogue<S> end);
inline constexpr Index few_columns = 4;

/// The kernels of one instruction set. A tile is some rows by 1, 2 … vectors of `lanes` elements, all of it in registers.
template <typename S>
struct MicroKernels {
  Index lanes;
  Index widest, widest_outer;         ///< vectors of the two kinds of tiles, at most
  Index tile_rows[4], outer_rows[3];  ///< rows of the two kinds of tiles, by their width in vectors
  RowsKernel<S> rows[4];              ///< by width
  OuterKernel<S> outer[3][3];         ///< by the width that tells the rows, and by how many of its vectors are used
  Index dots_rows;
  DotsKernel<S> dots;
};

/// How many vectors a tile is wide at most, and how many rows it has, with vectors of so many bytes. There are 32 registers
/// of 64 bytes and 16 of the shorter ones; a few sums alone would wait for each other, but a last tile has rows that nobody
/// wants. Where there are longer vectors those of 16 bytes are for older processors alone, but compiled by every program: one
/// width less spares it 1 % of the compile time.
#if defined(__x86_64__)
constexpr int widest_tile(Index bytes) { return bytes == 64 ? 4 : bytes == 32 ? 3 : 2; }
#else
constexpr int widest_tile(Index) { return 3; }
#endif
constexpr int widest_outer_tile(Index bytes) { return std::min(3, widest_tile(bytes)); }
constexpr Index rows_of_tile(Index bytes, int width) {
  if (bytes == 64) return width == 4 ? 6 : 8;
  return bytes == 16 || width >= 3 ? 4 : width == 2 ? 6 : 8;
}
constexpr Index rows_of_outer_tile(Index bytes, int width) {
  return bytes == 64 || (bytes == 32 && width == 1) ? 8 : 4;
}
constexpr Index rows_of_dots(Index bytes) { return bytes == 64 ? 4 : 2; }
inline constexpr Index most_in_tile = 8;

/// to[j] = Σ_l x[j][l]
template <Index lanes, typename S>
RESIDUA_INLINE void sums_of_four(const S (&x)[few_columns][lanes], S* to) {
  if constexpr (lanes == 2) {
    for (Index j = 0; j < few_columns; ++j) to[j] = x[j][0] + x[j][1];
  } else {
    typedef S Four __attribute__((vector_size(4 * sizeof(S)), aligned(sizeof(S)), may_alias));
    Four part[4];
    RESIDUA_UNROLL for (int j = 0; j < 4; ++j) {
      part[j] = *reinterpret_cast<const Four*>(x[j]);
      RESIDUA_UNROLL for (Index l = 4; l < lanes; l += 4) part[j] += *reinterpret_cast<const Four*>(x[j] + l);
    }
    const Four a = __builtin_shufflevector(part[0], part[1], 0, 4, 2, 6) + __builtin_shufflevector(part[0], part[1], 1, 5, 3, 7);
    const Four b = __builtin_shufflevector(part[2], part[3], 0, 4, 2, 6) + __builtin_shufflevector(part[2], part[3], 1, 5, 3, 7);
    *reinterpret_cast<Four*>(to) = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
  }
}

// Whole vectors are read beyond the last column; every tensor's memory has that slack.
#define RESIDUA_MICRO_KERNELS(ISA, TARGET, BYTES)                                                                    \
  template <typename S, int V>                                                                                       \
  TARGET void rows_##ISA(const S* const* a, const Index* taps, Index tap_count, Index depth, const S* b,             \
                         S* const* c, Index first, Index columns, Epilogue<S> end, AheadSteps ahead) {               \
    typedef S Vector __attribute__((vector_size(BYTES), aligned(sizeof(S)), may_alias));                             \
    constexpr Index lanes = BYTES / Index(sizeof(S)), ROWS = rows_of_tile(BYTES, V);                                 \
    Vector sum[ROWS][V] = {};                                                                                        \
    /* What is written at the end is on its way by then. */                                                          \
    const auto ask_for = [=](Index i) RESIDUA_INLINE_LAMBDA {                                                        \
      RESIDUA_UNROLL for (int v = 0; v < V; ++v) __builtin_prefetch(c[i] + first + v * lanes, 1);                    \
    };                                                                                                               \
    const bool one_by_one = tap_count >= ROWS;                                                                       \
    if (!one_by_one) { RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) ask_for(i); }                                   \
    for (Index t = 0; t < tap_count; ++t) {                                                                          \
      if (one_by_one && t < ROWS) ask_for(t);                                                                        \
      const S* row[ROWS];                                                                                            \
      RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) row[i] = a[i] + taps[t];                                         \
      const auto product = [&](Index k) TARGET RESIDUA_INLINE_LAMBDA {                                               \
        Vector column[V];                                                                                            \
        RESIDUA_UNROLL for (int v = 0; v < V; ++v) column[v] = *reinterpret_cast<const Vector*>(b + v * lanes);      \
        RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                              \
          const S factor = row[i][k];                                                                                \
          RESIDUA_UNROLL for (int v = 0; v < V; ++v) sum[i][v] += factor * column[v];                                \
        }                                                                                                            \
        b += V * lanes;                                                                                              \
      };                                                                                                             \
      Index k = 0;                                                                                                   \
      for (; k + products_an_ask <= depth; k += products_an_ask) {                                                   \
        ahead.ask();                                                                                                 \
        RESIDUA_UNROLL for (Index j = 0; j < products_an_ask; ++j) product(k + j);                                   \
      }                                                                                                              \
      for (; k < depth; ++k) product(k);                                                                             \
    }                                                                                                                \
    if (end.bias != nullptr) {                                                                                       \
      RESIDUA_UNROLL for (int v = 0; v < V; ++v) {                                                                   \
        const Vector bias = *reinterpret_cast<const Vector*>(end.bias + v * lanes);                                  \
        RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) sum[i][v] += bias;                                             \
      }                                                                                                              \
    }                                                                                                                \
    const bool whole = columns >= V * lanes;  /* else the last columns are finished in a place of their own */       \
    S part[ROWS][V * lanes];                                                                                         \
    S* to[ROWS];                                                                                                     \
    RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) to[i] = whole ? c[i] + first : part[i];                            \
    if (end.accumulate) {                                                                                            \
      for (int i = 0; !whole && i < ROWS; ++i) copy_part<S>(c[i] + first, columns, part[i]);                         \
      RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                                \
        RESIDUA_UNROLL for (int v = 0; v < V; ++v) sum[i][v] += *reinterpret_cast<const Vector*>(to[i] + v * lanes); \
      }                                                                                                              \
    }                                                                                                                \
    if (end.relu) {                                                                                                  \
      RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                                \
        RESIDUA_UNROLL for (int v = 0; v < V; ++v) sum[i][v] = sum[i][v] < 0 ? Vector{} : sum[i][v];                 \
      }                                                                                                              \
    }                                                                                                                \
    RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                                  \
      RESIDUA_UNROLL for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(to[i] + v * lanes) = sum[i][v];          \
    }                                                                                                                \
    for (int i = 0; !whole && i < ROWS; ++i) copy_part<S>(part[i], columns, c[i] + first);                           \
  }                                                                                                                  \
                                                                                                                     \
  template <typename S, int V, Index ROWS>                                                                           \
  TARGET void outer_##ISA(const S* a, Index lda, const S* b, Index ldb, Index count, S* c, Index ldc, Index rows,    \
                          Index columns, bool accumulate, AheadSteps ahead) {                                        \
    typedef S Vector __attribute__((vector_size(BYTES), aligned(sizeof(S)), may_alias));                             \
    constexpr Index lanes = BYTES / Index(sizeof(S));                                                                \
    Vector sum[ROWS][V] = {};                                                                                        \
    const auto product = [&]() TARGET RESIDUA_INLINE_LAMBDA {                                                        \
      Vector column[V];                                                                                              \
      RESIDUA_UNROLL for (int v = 0; v < V; ++v) column[v] = *reinterpret_cast<const Vector*>(b + v * lanes);        \
      RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                                \
        const S factor = a[i];                                                                                       \
        RESIDUA_UNROLL for (int v = 0; v < V; ++v) sum[i][v] += factor * column[v];                                  \
      }                                                                                                              \
      a += lda, b += ldb;                                                                                            \
    };                                                                                                               \
    Index p = 0;                                                                                                     \
    for (; p + products_an_ask <= count; p += products_an_ask) {                                                     \
      ahead.ask();                                                                                                   \
      RESIDUA_UNROLL for (Index j = 0; j < products_an_ask; ++j) product();                                          \
    }                                                                                                                \
    for (; p < count; ++p) product();                                                                                \
    const bool whole = rows == ROWS && columns >= V * lanes;                                                         \
    const Index some = std::min(columns, V * lanes);                                                                 \
    S part[ROWS][V * lanes];                                                                                         \
    if (accumulate) {                                                                                                \
      for (Index i = 0; !whole && i < ROWS; ++i) copy_part<S>(c + std::min(i, rows - 1) * ldc, some, part[i]);       \
    }                                                                                                                \
    RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                                  \
      S* const to = whole ? c + i * ldc : part[i];                                                                   \
      RESIDUA_UNROLL for (int v = 0; v < V; ++v) {                                                                   \
        if (accumulate) sum[i][v] += *reinterpret_cast<const Vector*>(to + v * lanes);                               \
        *reinterpret_cast<Vector*>(to + v * lanes) = sum[i][v];                                                      \
      }                                                                                                              \
    }                                                                                                                \
    for (Index i = 0; !whole && i < rows; ++i) copy_part<S>(part[i], some, c + i * ldc);                             \
  }                                                                                                                  \
                                                                                                                     \
  template <typename S>                                                                                              \
  TARGET void dots_##ISA(const S* const* a, const Index* taps, Index tap_count, Index depth, const S* const* b,      \
                         S* const* c, Index rows, Index step, Index columns, Epilogue<S> end) {                      \
    typedef S Vector __attribute__((vector_size(BYTES), aligned(sizeof(S)), may_alias));                             \
    constexpr Index lanes = BYTES / Index(sizeof(S)), ROWS = rows_of_dots(BYTES);                                    \
    Vector sum[ROWS][few_columns] = {};                                                                              \
    S rest[ROWS + few_columns][lanes];                                                                               \
    for (Index t = 0; t < tap_count; ++t) {                                                                          \
      const S *row[ROWS], *column[few_columns];                                                                      \
      RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) row[i] = a[i] + taps[t];                                         \
      RESIDUA_UNROLL for (int j = 0; j < few_columns; ++j) column[j] = b[j] + t * depth;                             \
      for (Index k = 0, at = 0; k < depth; k += lanes, at += lanes) {                                                \
        if (depth - k < lanes) {  /* zeros fill up the last vectors */                                               \
          std::memset(rest, 0, sizeof rest);                                                                         \
          RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                            \
            copy_part<S>(row[i] + k, depth - k, rest[i]);                                                            \
            row[i] = rest[i];                                                                                        \
          }                                                                                                          \
          RESIDUA_UNROLL for (int j = 0; j < few_columns; ++j) {                                                     \
            copy_part<S>(column[j] + k, depth - k, rest[ROWS + j]);                                                  \
            column[j] = rest[ROWS + j];                                                                              \
          }                                                                                                          \
          at = 0;                                                                                                    \
        }                                                                                                            \
        RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                              \
          const Vector x = *reinterpret_cast<const Vector*>(row[i] + at);                                            \
          RESIDUA_UNROLL for (int j = 0; j < few_columns; ++j) {                                                     \
            sum[i][j] += x * *reinterpret_cast<const Vector*>(column[j] + at);                                       \
          }                                                                                                          \
        }                                                                                                            \
      }                                                                                                              \
    }                                                                                                                \
    S lane[ROWS][few_columns][lanes];                                                                                \
    RESIDUA_UNROLL for (int i = 0; i < ROWS; ++i) {                                                                  \
      RESIDUA_UNROLL for (int j = 0; j < few_columns; ++j) *reinterpret_cast<Vector*>(lane[i][j]) = sum[i][j];       \
    }                                                                                                                \
    S bias[few_columns] = {};                                                                                        \
    for (Index j = 0; end.bias != nullptr && j < columns; ++j) bias[j] = end.bias[j];                                \
    for (Index i = 0; i < rows; ++i) {                                                                               \
      S total[few_columns];                                                                                          \
      sums_of_four<lanes>(lane[i], total);                                                                           \
      RESIDUA_UNROLL for (int j = 0; j < few_columns; ++j) total[j] += bias[j];                                      \
      for (Index j = 0; end.accumulate && j < columns; ++j) total[j] += c[i][j * step];                              \
      if (end.relu) {                                                                                                \
        RESIDUA_UNROLL for (int j = 0; j < few_columns; ++j) total[j] = total[j] < 0 ? S(0) : total[j];              \
      }                                                                                                              \
      for (Index j = 0; j < columns; ++j) c[i][j * step] = total[j];                                                 \
    }                                                                                                                \
  }                                                                                                                  \
                                                                                                                     \
  template <typename S>                                                                                              \
  inline constexpr MicroKernels<S> micro_kernels_##ISA{                                                              \
      BYTES / Index(sizeof(S)),                                                                                      \
      widest_tile(BYTES), widest_outer_tile(BYTES),                                                                  \
      {rows_of_tile(BYTES, 1), rows_of_tile(BYTES, 2), rows_of_tile(BYTES, 3), rows_of_tile(BYTES, 4)},              \
      {rows_of_outer_tile(BYTES, 1), rows_of_outer_tile(BYTES, 2), rows_of_outer_tile(BYTES, 3)},                    \
      {rows_##ISA<S, 1>, rows_##ISA<S, 2>, rows_##ISA<S, std::min(3, widest_tile(BYTES))>, rows_##ISA<S, widest_tile(BYTES)>},\
      {{outer_##ISA<S, 1, rows_of_outer_tile(BYTES, 1)>},                                                            \
       {outer_##ISA<S, 1, rows_of_outer_tile(BYTES, 2)>, outer_##ISA<S, 2, rows_of_outer_tile(BYTES, 2)>},           \
       {outer_##ISA<S, 1, rows_of_outer_tile(BYTES, 3)>, outer_##ISA<S, 2, rows_of_outer_tile(BYTES, 3)>,            \
        outer_##ISA<S, widest_outer_tile(BYTES), rows_of_outer_tile(BYTES, 3)>}},                                    \
      rows_of_dots(BYTES),                                                                                           \
      dots_##ISA<S>};

RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_MICRO_KERNELS)
#undef RESIDUA_MICRO_KERNELS

/// The best kernels this processor runs.
template <typename S>
[[gnu::noinline]] const MicroKernels<S>& micro_kernels() {
  return RESIDUA_BEST(micro_kernels, S);
}

/// So many numbers and those that fill up the last vector: where whole vectors are read, what fills up is best zero, since
/// chance numbers may be ones that processors are slow with.
template <typename S>
Index in_whole_vectors(Index count) {
  const Index lanes = micro_kernels<S>().lanes;
  return (count + lanes - 1) / lanes * lanes;
}

}  // namespace residua::inline RESIDUA_ABI::kernels
