// What is done to the columns of a matrix, rows × C: for each channel, over the batch.
//
// Rows are cut into blocks by the shape alone; a block's partial results are combined in the order of the blocks.
#pragma once

#include <algorithm>
#include <type_traits>

#include <residua/core/elementwise.hpp>
#include <residua/core/threads.hpp>
#include <residua/kernels/vector_math.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// A matrix with few columns is read several rows at a time, as one wide row, so that each vector operation is long.
struct WideRows {
  Index rows, columns, fold, width, grain;

  WideRows(Index row_count, Index column_count)
      : rows(row_count), columns(column_count), fold(std::max<Index>(1, 256 / std::max<Index>(1, columns))),
        width(fold * columns), grain(std::max<Index>(1, 32768 / std::max<Index>(1, width)) * fold) {}

  Index blocks() const { return (rows + grain - 1) / grain; }

  /// Calls f(a vector of zeros, position in the matrix, position in the wide row, elements) for the vectors of a block,
  /// compiled for the best vectors; the elements are as kernels::for_each_vector has them.
  template <typename S, typename F>
  void for_each_vector(Index block, const F& f) const {
    const Index first = block * grain * columns, end = std::min(rows, (block + 1) * grain) * columns;
    with_best_vectors([=, step = width](auto bytes) {
      using V = Pack<S, bytes>;
      for (Index row = first; row < end; row += step) {
        const Index n = std::min(step, end - row);
        kernels::for_each_vector<V>(0, n, [&](Index c, auto count) RESIDUA_INLINE_LAMBDA { f(V(), row + c, c, count); });
      }
    });
  }

  Index rows_in(Index block) const { return std::min(grain, rows - block * grain); }

  /// Numbers in a block that is whole.
  Index block_size() const { return grain * columns; }
};

/// `v` (C) repeated `fold` times, for arithmetic with wide rows; zeros where v is null.
template <typename S>
Tensor<S> repeated(const S* v, const WideRows& wide) {
  if (v == nullptr) return Tensor<S>(Shape{wide.width});
  Tensor<S> result(Shape{wide.width}, uninitialized);
  S* to = result.data();
  for (Index i = 0; i < wide.fold; ++i) to = std::copy_n(v, wide.columns, to);
  return result;
}

/// A matrix that may not be there: null stands for zeros.
template <typename S>
struct MatrixOrZeros {
  const S* data;
};

/// What a formula reads for wide rows: a matrix, one that may not be there, or a row that is the same for all of them.
template <typename Source, typename S>
struct WideOperand {
  const S* data;

  template <typename V>
  RESIDUA_INLINE V at(Index position, Index column, Index n) const {
    if constexpr (std::is_same_v<Source, Tensor<S>>) return load<V>(data + column, n);
    if (std::is_same_v<Source, MatrixOrZeros<S>> && data == nullptr) return V();
    return load_ahead<V>(data + position, n);
  }
};

template <typename S> WideOperand<const S*, S> wide_operand(const S* matrix) { return {matrix}; }
template <typename S> WideOperand<MatrixOrZeros<S>, S> wide_operand(MatrixOrZeros<S> matrix) { return {matrix.data}; }
template <typename S> WideOperand<Tensor<S>, S> wide_operand(const Tensor<S>& row) { return {row.cdata()}; }

/// y[row, c] = f(…), whose arguments are elements [row, c] of matrices, given by pointers or as MatrixOrZeros, and values of
/// the columns [c], given as `repeated` makes them.   y (rows, C) may be the memory of a matrix. The last rows come first:
/// where all have just been read, they may still be in the cache. `then(block)` is called after each block, which is in the
/// cache unless y is stored `past` it.
template <typename S, typename F, typename Then, typename... X>
void map_columns_then(const WideRows& wide, S* y, bool past, F&& f, Then&& then, const X&... x) {
  const auto map_blocks = [&](const auto&... operand) {
    parallel_for(wide.blocks(), [&](Index before) {
      const Index block = wide.blocks() - 1 - before;
      wide.for_each_vector<S>(block, [=](auto zero, Index at, Index c, auto n) RESIDUA_INLINE_LAMBDA {
        using V = decltype(zero);
        store_ahead<V>(y + at, f(operand.template at<V>(at, c, n)...), n, past);
      });
      end_past_caches(past);
      then(block);
    });
  };
  map_blocks(wide_operand(x)...);
}
template <typename S, typename F, typename... X>
void map_columns(const WideRows& wide, S* y, F&& f, const X&... x) {
  map_columns_then(wide, y, false, f, [](Index) {}, x...);
}

/// Adds up the repetitions of a wide row: to[c] = Σ_i v[i·C + c].
template <typename S>
void collapse(const S* v, const WideRows& wide, S* to) {
  std::copy_n(v, wide.columns, to);
  for (Index i = 1; i < wide.fold; ++i) {
    for (Index c = 0; c < wide.columns; ++c) to[c] += v[i * wide.columns + c];
  }
}

/// For each block of rows `block_sums(block, sums)` writes `count` rows of C partial sums; they are added in order.
template <typename S, typename BlockSums>
Tensor<S> sum_over_blocks(const WideRows& wide, Index count, BlockSums&& block_sums) {
  const Index blocks = std::max<Index>(1, wide.blocks()), size = count * wide.columns;
  Tensor<S> partial(Shape{blocks, size}, uninitialized);
  S* const sums = partial.data();
  if (wide.rows == 0) std::fill_n(sums, size, S(0));
  parallel_for(wide.blocks(), [&](Index block) { block_sums(block, sums + block * size); });
  Tensor<S> total(Shape{count, wide.columns}, uninitialized);
  S* const result = std::copy_n(sums, size, total.data()) - size;
  for (Index block = 1; block < blocks; ++block) add_range<S>(size, result, sums + block * size);
  return total;
}

/// sum[c] += Σ x[row, c] for the wide rows of a block; meanwhile memory is asked for what stands from `next` on, as much as is
/// read, or with one halving half of it.
template <typename S>
void add_wide_rows(const WideRows& wide, Index block, const S* x, S* sum, const S* next, int halvings) {
  const Index first = block * wide.block_size();
  wide.for_each_vector<S>(block, [=](auto zero, Index at, Index c, auto n) {
    using V = decltype(zero);
    prefetch(next + ((at - first) >> halvings));
    store<V>(sum + c, load<V>(sum + c, n) + load<V>(x + at, n), n);
  });
}

/// Σ_rows x[row, c].   x (rows, C) → (1, C)
template <typename S>
Tensor<S> column_sums(const S* x, Index rows, Index columns) {
  const WideRows wide(rows, columns);
  return sum_over_blocks<S>(wide, 1, [&](Index block, S* sums) {
    Tensor<S> wide_sum(Shape{wide.width}, S(0));
    const Index next = block * wide.block_size() + bytes_ahead / Index(sizeof(S));
    add_wide_rows(wide, block, x, wide_sum.data(), x + next, 0);
    collapse(wide_sum.cdata(), wide, sums);
  });
}

/// Σ_rows dy[row, c]  and  Σ_rows dy[row, c] · (x[row, c] − mean[c]).   dy, x (rows, C), mean (C) → (2, C)
template <typename S>
Tensor<S> column_gradients(const S* dy, const S* x, const S* mean, Index rows, Index columns) {
  const WideRows wide(rows, columns);
  const Tensor<S> means = repeated(mean, wide);
  return sum_over_blocks<S>(wide, 2, [&](Index block, S* sums) {
    Tensor<S> wide_sums(Shape{2, wide.width}, S(0));
    S *const sum = wide_sums.data(), *const product = sum + wide.width;
    wide.for_each_vector<S>(block, [=, m = means.cdata()](auto zero, Index at, Index c, auto n) {
      using V = decltype(zero);
      const V d = load_ahead<V>(dy + at, n);
      store<V>(sum + c, load<V>(sum + c, n) + d, n);
      store<V>(product + c, load<V>(product + c, n) + d * (load_ahead<V>(x + at, n) - load<V>(m + c, n)), n);
    });
    collapse(sum, wide, sums);
    collapse(product, wide, sums + columns);
  });
}

/// Mean and Σ(x − mean)² of each column: each block's are computed in two passes while it is in the cache, and combined
/// as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm" (1979).   x (rows, C) → (2, C)
template <typename S>
Tensor<S> column_moments(const S* x, Index rows, Index columns) {
  const WideRows wide(rows, columns);
  const Index blocks = wide.blocks();
  Tensor<S> partial(Shape{blocks, 2 * columns}, uninitialized);
  S* const moments = partial.data();
  parallel_for(blocks, [&](Index block) {
    Tensor<S> scratch(Shape{wide.width}, S(0));
    S* const sum = scratch.data();
    S* const mean = moments + block * 2 * columns;
    // The second pass reads the block from the cache. For memory to be busy all the time, each asks for half the next block.
    const Index first = block * wide.block_size(), next = std::min(block + 1, blocks - 1) * wide.block_size();
    add_wide_rows(wide, block, x, sum, x + next, 1);
    collapse(sum, wide, mean);
    for (Index c = 0; c < columns; ++c) mean[c] /= static_cast<S>(wide.rows_in(block));
    const Tensor<S> means = repeated(mean, wide);
    std::fill_n(sum, wide.width, S(0));
    wide.for_each_vector<S>(block, [=, m = means.cdata()](auto zero, Index at, Index c, auto n) {
      using V = decltype(zero);
      prefetch(x + next + (at + wide.block_size() - first) / 2);
      const V v = load<V>(x + at, n) - load<V>(m + c, n);
      store<V>(sum + c, load<V>(sum + c, n) + v * v, n);
    });
    collapse(sum, wide, mean + columns);
  });

  Tensor<S> result(Shape{2, columns}, uninitialized);
  S* const mean = std::copy_n(moments, 2 * columns, result.data()) - 2 * columns;
  S* const squares = mean + columns;
  for (Index block = 1; block < blocks; ++block) {
    const S* other = moments + block * 2 * columns;
    const S before = static_cast<S>(block * wide.grain), more = static_cast<S>(wide.rows_in(block));
    for (Index c = 0; c < columns; ++c) {
      const S delta = other[c] - mean[c];
      mean[c] += delta * (more / (before + more));
      squares[c] += other[columns + c] + delta * delta * (before * more / (before + more));
    }
  }
  return result;
}

}  // namespace residua::inline RESIDUA_ABI::kernels
