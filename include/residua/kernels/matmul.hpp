// Matrix products. Every product of the library comes through here.
//
// c (M, N) = a (M, K) · b (K, N): b is packed into panels of a few vectors' width, a is read where it lies; where c has few
// rows or columns both are. The work is cut into blocks by the sizes alone and every element of c is summed in a fixed
// order, so the bits of a result do not depend on the number of threads.
#pragma once

#include <algorithm>

#include <residua/core/elementwise.hpp>
#include <residua/core/threads.hpp>
#include <residua/kernels/ahead.hpp>
#include <residua/kernels/copy_matrix.hpp>
#include <residua/kernels/microkernel.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// How columns are cut into panels: whole vectors, `width` of them a panel, fewer in the last one.
template <typename S>
struct Panels {
  Index columns, lanes, vectors, width;

  /// For the rows kernels, or for tiles that are no wider than `widest` vectors.
  explicit Panels(Index column_count, Index widest = micro_kernels<S>().widest)
      : columns(column_count), lanes(micro_kernels<S>().lanes), vectors((columns + lanes - 1) / lanes),
        width(best_width(vectors, widest)) {}

  /// The widest that leaves no narrow panel at the end.
  static Index best_width(Index vectors, Index widest) {
    if (vectors <= widest || widest == 2) return std::min(vectors, widest);
    if (widest == 4 && vectors % 4 != 1) return vectors % 3 == 0 && vectors % 4 != 0 ? 3 : 4;
    return vectors % 3 == 0 || vectors % 2 != 0 ? 3 : 2;
  }

  Index count() const { return (vectors + width - 1) / width; }
  Index first_column(Index panel) const { return panel * width * lanes; }
  Index width_of(Index panel) const { return std::min(width, vectors - panel * width); }
  Index columns_of(Index panel) const { return std::min(width_of(panel) * lanes, columns - first_column(panel)); }
};

/// A right-hand side as it lies in memory: b[k, n] = data[k · row_step + n · column_step]; of several, `group_step` apart,
/// the first.
template <typename S>
struct RightSide {
  const S* data;
  Index row_step, column_step, group_step = 0;

  RightSide of_group(Index g) const { return {data + g * group_step, row_step, column_step}; }

  /// Rows first … first + count - 1 of a panel, one after the other, zeros beyond the last column.
  void pack(const Panels<S>& panels, Index panel, Index first, Index count, S* to) const {
    const Index span = panels.width_of(panel) * panels.lanes, used = panels.columns_of(panel);
    const S* const from = data + panels.first_column(panel) * column_step;
    for (Index k = first; k < first + count; k += 128) {  // a few rows at a time, so that they stay in the cache
      const Index rows = std::min<Index>(128, first + count - k);
      copy_matrix(from + k * row_step, row_step, column_step, rows, used, to, span);
      for (Index r = 0; used < span && r < rows; ++r) std::fill_n(to + r * span + used, span - used, S(0));
      to += rows * span;
    }
  }
};

/// A right-hand side b (K, N) packed for the rows kernels: panel by panel, each (K, width · lanes), zeros beyond column N. Of
/// several groups one after the other.
template <typename S>
class Packed {
 public:
  /// Nothing.
  Packed() : panels_(0) {}

  Packed(Index depth, Index columns, Index groups = 1)
      : panels_(columns), depth_(depth), groups_(groups),
        data_(Shape{groups, panels_.vectors * panels_.lanes, depth}, uninitialized) {}

  /// One that packs each piece where it is used: for a product of so few rows that it is used once. `b` must live as long.
  Packed(Index depth, Index columns, Index groups, const RightSide<S>& b)
      : panels_(columns), depth_(depth), groups_(groups), unpacked_(b) {}

  const Panels<S>& panels() const { return panels_; }
  Index depth() const { return depth_; }
  Index groups() const { return groups_; }
  bool empty() const { return groups_ == 0; }
  const S* panel(Index g, Index p) const { return data_.cdata() + begin(g, p); }
  S* panel(Index g, Index p) { return data_.data() + begin(g, p); }

  /// Rows first … first + count - 1 of a panel, where need be packed into `scratch`.
  const S* piece(Index g, Index p, Index first, Index count, Tensor<S>& scratch) const {
    const Index span = panels_.width_of(p) * panels_.lanes;
    if (unpacked_.data == nullptr) return panel(g, p) + first * span;
    if (scratch.size() < count * span) scratch = Tensor<S>(Shape{count, span}, uninitialized);
    unpacked_.of_group(g).pack(panels_, p, first, count, scratch.data());
    return scratch.cdata();
  }

  /// Fills rows first … first + count - 1 with those of b.
  [[gnu::noinline]] void fill(Index first, Index count, const RightSide<S>& b) {
    S* const data = data_.data();
    const Index panels = panels_.count();
    const detail::OffPool alone(count * groups_ * panels_.columns < Index{1} << 16);
    parallel_for(groups_ * panels, [&](Index i) {
      const Index g = i / panels, p = i % panels;
      b.of_group(g).pack(panels_, p, 0, count, data + begin(g, p) + first * panels_.width_of(p) * panels_.lanes);
    });
  }

  /// b[k, n] *= factor[n], with factors for the columns of all groups.
  void scale_columns(const S* factor) {
    S* to = data_.data();
    for (Index g = 0; g < groups_; ++g, factor += panels_.columns) {
      for (Index p = 0; p < panels_.count(); ++p) {
        const Index span = panels_.width_of(p) * panels_.lanes;
        for (Index k = 0; k < depth_; ++k, to += span) {
          for (Index n = 0; n < panels_.columns_of(p); ++n) to[n] *= factor[panels_.first_column(p) + n];
        }
      }
    }
  }

 private:
  Index begin(Index g, Index p) const { return (g * panels_.vectors * panels_.lanes + panels_.first_column(p)) * depth_; }

  Panels<S> panels_;
  Index depth_ = 0, groups_ = 0;
  Tensor<S> data_;
  RightSide<S> unpacked_{nullptr, 0, 0};
};

/// Rows of a product: where each row of a is read and each row of c is written. Memory from the cache.
template <typename S>
class RowTable {
 public:
  explicit RowTable(Index capacity) : a_(capacity + most_in_tile - 1), c_(capacity + most_in_tile - 1) {}

  /// At most as many as there is capacity for.
  void add(const S* a, S* c) { set(rows_++, a, c); }
  /// So many rows that lie `a_step` and `c_step` apart.
  void add(const S* a, Index a_step, S* c, Index c_step, Index count) {
    for (Index i = 0; i < count; ++i) add(a + i * a_step, c + i * c_step);
  }

  /// Must follow the last row: what fills up the last tile, a row of a and a row of c that nobody wants.
  void end(const S* a, S* c) {
    for (Index i = 0; i + 1 < most_in_tile; ++i) set(rows_ + i, a, c);
  }
  /// The same with the last row once more, where it is no harm to write it again.
  void end() { end(a_[rows_ - 1], c_[rows_ - 1]); }

  /// c_row[first …] = Σ_t a_row[taps_t … taps_t + depth - 1] · a packed panel of `width` vectors, for all rows.
  void multiply_panel(const Index* taps, Index tap_count, Index depth, const S* panel, Index width, Index first,
                      Index columns, const Epilogue<S>& end, const Ahead& ahead = {}) const {
    const auto& kernels = micro_kernels<S>();
    const Index tile_rows = kernels.tile_rows[width - 1], tiles = (rows_ + tile_rows - 1) / tile_rows;
    AheadRuns asked = ahead.runs(tiles, tap_count * (depth / products_an_ask));
    for (Index tile = 0; tile < tiles; ++tile) {
      const Index row = tile * tile_rows;
      kernels.rows[width - 1](a_.data() + row, taps, tap_count, depth, panel, c_.data() + row, first, columns, end,
                              asked.next());
    }
  }

  /// c_row[first …] (N) = Σ_t a_row[taps_t … taps_t + depth - 1] · rows t·depth … of group g of b, finished by `end`. Each row
  /// of c has room for `room` columns from there on, N or more: what follows the N-th may be written over, since whole vectors
  /// are stored faster. `ahead`: what the product after this one will read, where there is one.
  void multiply(const Index* taps, Index tap_count, Index depth, const Packed<S>& b, Index g, Epilogue<S> end, Index first,
                Index room, const Ahead& ahead = {}) {
    const Panels<S>& panels = b.panels();
    Tensor<S> unwanted(Shape{first + panels.vectors * panels.lanes});
    this->end(a_[0], unwanted.data());

    // A panel's slice stays in the second-level cache while all rows pass over it, and so do the rows if they are not too
    // many: many taps, or a great depth, are taken in several rounds.
    const Index slice = std::max<Index>(1, 65536 / (panels.width * panels.lanes));
    const Index taps_at_once = std::max<Index>(1, slice / std::max<Index>(1, depth));
    const Index most = tap_count > 1 ? std::max<Index>(1, depth) : depth > 1024 && rows_ <= 192 ? 384 : slice;
    const Index rounds = std::max<Index>(1, (depth + most - 1) / most);
    const Index depth_at_once = std::max<Index>(1, (depth + rounds - 1) / rounds);
    const detail::OffPool alone(rows_ * tap_count * depth * panels.columns < Index{1} << 22);
    for (Index tap = 0; tap == 0 || tap < tap_count; tap += taps_at_once) {
      const Index count = std::min(taps_at_once, tap_count - tap);
      for (Index k = 0; k == 0 || k < depth; k += depth_at_once) {
        const Index ks = std::min(depth_at_once, depth - k);
        const bool starts = tap == 0 && k == 0;
        const bool ends = tap + count >= tap_count && k + ks >= depth;
        const Index shifted = tap_count == 1 ? taps[0] + k : 0, *const from = tap_count == 1 ? &shifted : taps + tap;
        parallel_for(panels.count(), [&](Index p) {  // for a table that is the only one
          Tensor<S> scratch;
          const Index column = panels.first_column(p), width = panels.width_of(p);
          const S* const panel = b.piece(g, p, tap * depth + k, tap_count == 1 ? ks : count * depth, scratch);
          const Epilogue<S> finish{ends && end.bias ? end.bias + column : nullptr, end.accumulate || !starts,
                                   ends && end.relu};
          multiply_panel(from, count, ks, panel, width, first + column, std::min(width * panels.lanes, room - column), finish,
                         starts ? ahead.part(p, panels.count()) : Ahead());
        });
      }
    }
  }

  /// The same for few columns, and b as it is: (columns, tap_count · depth). Column j of c is j · step after the first.
  void multiply_few(const Index* taps, Index tap_count, Index depth, const S* b, Index columns, Index step,
                    const Epilogue<S>& end, Ahead ahead = {}) {
    if (rows_ == 0) return;
    const auto& kernels = micro_kernels<S>();
    const S* column[few_columns];
    for (Index j = 0; j < few_columns; ++j) column[j] = b + std::min(j, columns - 1) * tap_count * depth;
    this->end();
    const Index each = ahead.bytes() * kernels.dots_rows / rows_ + 1;
    for (Index row = 0; row < rows_; row += kernels.dots_rows) {
      ahead.take(each).ask();
      kernels.dots(a_.data() + row, taps, tap_count, depth, column, c_.data() + row, std::min(kernels.dots_rows, rows_ - row),
                   step, columns, end);
    }
  }

 private:
  void set(Index row, const S* a, S* c) {
    a_[row] = a;
    c_[row] = c;
  }

  detail::Scratch<const S*> a_;
  detail::Scratch<S*> c_;
  Index rows_ = 0;
};

/// How many rows of a are a block of work: as many as stay in the cache, whole or a round's part of a great depth. Four
/// blocks or more are made a multiple of four of about one size, to be shared out evenly.
template <typename S>
Index rows_at_once(Index rows, Index depth, Index columns) {
  const Index tile = micro_kernels<S>().tile_rows[Panels<S>(columns).width - 1];
  const Index most = std::clamp<Index>((Index{1} << 17) / (depth > 1024 ? 768 : std::max<Index>(1, depth)), 8, 256);
  const Index blocks = std::max<Index>(1, (rows + most - 1) / most), even = blocks < 4 ? blocks : (blocks + 3) / 4 * 4;
  return std::max<Index>(1, ((rows + even - 1) / even + tile - 1) / tile) * tile;
}

/// a (M, K) times a packed b (K, N) into c (M, N).
template <typename S>
void matmul(ConstMatrixMap<S> a, const Packed<S>& b, MatrixMap<S> c, Epilogue<S> end = {}) {
  parallel_ranges(a.rows(), rows_at_once<S>(a.rows(), b.depth(), c.cols()), [&](Index first, Index last) {
    RowTable<S> rows(last - first);
    for (Index i = first; i < last; ++i) rows.add(a.data() + i * a.cols(), c.data() + i * c.cols());
    const Index tap = 0;
    const Index next_rows = std::min(last - first, a.rows() - last);
    rows.multiply(&tap, 1, b.depth(), b, 0, end, 0, c.cols(), {a.data() + last * a.cols(), next_rows * a.cols()});
  });
}

/// c = a (M, K) · bᵀ for few rows of b (N, K). c[i, j] = to[i · row_step + j · column_step]
template <typename S>
void matmul_few(ConstMatrixMap<S> a, ConstMatrixMap<S> b, S* to, Index row_step, Index column_step, const Epilogue<S>& end) {
  const Index depth = a.cols(), grain = std::max<Index>(most_in_tile, 32768 / std::max<Index>(1, depth));
  parallel_ranges(a.rows(), grain, [&](Index first, Index last) {
    RowTable<S> rows(last - first);
    for (Index i = first; i < last; ++i) rows.add(a.data() + i * depth, to + i * row_step);
    const Index tap = 0;
    rows.multiply_few(&tap, 1, depth, b.data(), b.rows(), column_step, end);
  });
}

/// Whether sums of so many products are long enough to be made along vectors.
template <typename S>
bool enough_for_dots(Index depth) {
  const Index lanes = micro_kernels<S>().lanes;
  return depth >= lanes && (depth % lanes == 0 || depth >= 4 * lanes);
}

/// c (N) = Σ_k a_k · b[k, …], rows of b one after the other: for a single row a (K), which nothing is packed for. Whole rows,
/// as memory is read fastest; of a large b up to 16 blocks of rows, which have sums of their own.
template <typename S>
void matmul_row(const S* a, const RightSide<S>& b, Index K, Index N, S* c, bool accumulate) {
  const Index grain = std::max({Index{4}, (Index{1} << 18) / std::max<Index>(1, N), (K + 15) / 16});
  const Index blocks = (K + grain - 1) / grain;
  Tensor<S> partial(Shape{blocks > 1 ? blocks : 0, N}, S(0));
  S* const sums = blocks > 1 ? partial.data() : c;
  if (!accumulate) std::fill_n(c, N, S(0));
  parallel_ranges(K, grain, [&](Index first, Index last) {
    S* const to = sums + first / grain * N;
    const S* const sum = to;
    const auto row = [&](Index k) { return b.data + k * b.row_step; };
    Index k = first;
    for (; k + 4 <= last; k += 4) {
      map_range(N, to, [a0 = a[k], a1 = a[k + 1], a2 = a[k + 2], a3 = a[k + 3]](auto s, auto v0, auto v1, auto v2, auto v3) {
        return s + v0 * a0 + v1 * a1 + v2 * a2 + v3 * a3;
      }, sum, row(k), row(k + 1), row(k + 2), row(k + 3));
    }
    for (; k < last; ++k) map_range(N, to, [a0 = a[k]](auto s, auto v) { return s + v * a0; }, sum, row(k));
  });
  for (Index block = 0; block < blocks && blocks > 1; ++block) add_range<S>(N, c, sums + block * N);
}

/// a (M, K) · b (K, N) into c (M, N).
template <typename S>
void matmul(ConstMatrixMap<S> a, const RightSide<S>& b, MatrixMap<S> c, Epilogue<S> end) {
  if (a.rows() == 1 && b.column_step == 1 && end.bias == nullptr && !end.relu) {
    return matmul_row(a.data(), b, a.cols(), c.cols(), c.data(), end.accumulate);
  }
  if (a.rows() <= rows_at_once<S>(a.rows(), a.cols(), c.cols())) {  // packed where it is used
    return matmul<S>(a, Packed<S>(a.cols(), c.cols(), 1, b), c, end);
  }
  Packed<S> packed(a.cols(), c.cols());
  packed.fill(0, a.cols(), b);
  matmul<S>(a, packed, c, end);
}

/// c (M, N) = a (M, K) · b (K, N).
template <typename S>
void matmul(ConstMatrixMap<S> a, ConstMatrixMap<S> b, MatrixMap<S> c, Epilogue<S> end = {}) {
  matmul<S>(a, RightSide<S>{b.data(), b.cols(), 1}, c, end);
}

/// c (M, N) = a (M, K) · bᵀ, b (N, K).
template <typename S>
void matmul_bt(ConstMatrixMap<S> a, ConstMatrixMap<S> b, MatrixMap<S> c, Epilogue<S> end = {}) {
  const bool suits = enough_for_dots<S>(a.cols());
  if (suits && 0 < b.rows() && b.rows() <= few_columns) return matmul_few<S>(a, b, c.data(), c.cols(), 1, end);
  if (suits && 0 < a.rows() && a.rows() <= few_columns) {  // cᵀ = b · aᵀ
    if (end.bias != nullptr) {
      for (Index i = 0; i < a.rows(); ++i) {
        S* const row = c.data() + i * c.cols();
        if (end.accumulate) {
          add_range(c.cols(), row, end.bias);
        } else {
          std::copy_n(end.bias, c.cols(), row);
        }
      }
    }
    return matmul_few<S>(b, a, c.data(), 1, c.cols(), {.accumulate = end.accumulate || end.bias != nullptr, .relu = end.relu});
  }
  matmul<S>(a, RightSide<S>{b.data(), 1, b.cols()}, c, end);
}

}  // namespace residua::inline RESIDUA_ABI::kernels
