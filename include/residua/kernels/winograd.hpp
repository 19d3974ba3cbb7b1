// Winograd's convolution with 3 × 3 taps and stride 1: fewer multiplications for the same sums.
//
// A tile of 4 × 4 outputs depends on 6 × 6 inputs d and on the taps g:
//
//     y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A          36 multiplications, where the sum itself has 144
//
// Over all tiles and channels ⊙ is 36 products of matrices, one for each of the 36 positions: (tiles, C) · (C, K). The
// gradients are the adjoint: that of the input is a convolution with the taps turned; that of the taps is
// Gᵀ [ (A dy Aᵀ) ⊙ (Bᵀ d B) ] G, summed over the tiles. Channels are neighbours in memory, so every transform works on
// whole vectors of them.
//
// Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), F(4×4, 3×3).
#pragma once

#include <algorithm>
#include <utility>

#include <residua/core/list.hpp>
#include <residua/kernels/ahead.hpp>
#include <residua/kernels/matmul.hpp>
#include <residua/kernels/winograd_transform.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Images of which some channels are looked at, such as those of one group.
template <typename S>
struct ChannelsOfImages {
  S* data;
  Index channels, step;  ///< how many; from one pixel to the next, in elements
};

/// How images are cut into tiles of 4 × 4 pixels, counted row by row. `size` is of the images that are cut, `other` of
/// those that a tile's 6 × 6 pixels are taken from, which begin `padding` before it.
struct WinogradTiles {
  Index N, size[2], other[2], padding[2];

  Index rows() const { return (size[0] + 3) / 4; }
  Index columns() const { return (size[1] + 3) / 4; }
  Index count() const { return N * rows() * columns(); }

  /// Whether the transformed taps of so many channels are too much for the cache.
  static bool large(Index C, Index K) { return C * K > 8192; }

  /// How many tiles are worked on together: a few that stay in the cache, as products like their rows, or all where they
  /// are not many and the taps are.
  Index at_once(Index C, Index K) const {
    const Index most = large(C, K) && vector_size() == 64 ? 48 : 24;
    return large(C, K) && count() <= 128 ? count() : std::clamp<Index>(count() / 64 * 8, 8, most);
  }

  /// A tile: its number, its image, and the row and the column of its first pixel.
  struct Tile {
    Index number, n, h, w;
  };

  /// Calls f(tile) for tiles first … last - 1.
  template <typename F>
  void for_each(Index first, Index last, F&& f) const {
    Tile tile{first, first / (rows() * columns()), first / columns() % rows() * 4, first % columns() * 4};
    for (; tile.number < last; ++tile.number) {
      f(std::as_const(tile));
      if ((tile.w += 4) < size[1]) continue;
      tile.w = 0;
      if ((tile.h += 4) < size[0]) continue;
      tile.h = 0;
      ++tile.n;
    }
  }

  /// The rows of images (N, bounds, C) that tiles first … last - 1 begin in, to be asked for while others are multiplied.
  /// None where channels are many, as then products take so long that memory keeps up, or where images are so wide that the
  /// tiles are only a part of what lies in their rows.
  template <typename S>
  Ahead image_rows(Index first, Index last, const ChannelsOfImages<S>& images, const Index* bounds) const {
    last = std::min(last, count());
    if (last - first < columns() || images.step != images.channels || images.channels > 128) return {};
    const auto begin = [&](Index tile_row) {
      return (tile_row / rows() * bounds[0] + std::min(tile_row % rows() * 4, bounds[0])) * bounds[1] * images.step;
    };
    const Index at = begin(first / columns());
    return {images.data + at, begin((last - 1) / columns() + 1) - at};
  }

  /// Where the tile's 4 × 4 pixels lie in (N, size, C), or `outside`.
  template <typename T>
  void inner(const Tile& tile, T* image, Index C, T* outside, T** at) const {
    pixels<4>(tile.n, tile.h, tile.w, image, C, size, outside, at);
  }
  /// Where its 6 × 6 pixels lie in (N, other, C).
  template <typename T>
  void outer(const Tile& tile, T* image, Index C, T* outside, T** at) const {
    pixels<6>(tile.n, tile.h - padding[0], tile.w - padding[1], image, C, other, outside, at);
  }

 private:
  template <int extent, typename T>
  static void pixels(Index n, Index h, Index w, T* image, Index C, const Index* bounds, T* outside, T** at) {
    const Index row = bounds[1] * C, corner = (n * bounds[0] + h) * row + w * C;
    const bool whole = w >= 0 && w + extent <= bounds[1];
    for (int i = 0; i < extent; ++i, at += extent) {
      T* const first = image + corner + i * row;
      if (h + i < 0 || h + i >= bounds[0]) {
        RESIDUA_UNROLL for (int j = 0; j < extent; ++j) at[j] = outside;
      } else if (whole) {
        RESIDUA_UNROLL for (int j = 0; j < extent; ++j) at[j] = first + j * C;
      } else {
        RESIDUA_UNROLL for (int j = 0; j < extent; ++j) {
          at[j] = w + j >= 0 && w + j < bounds[1] ? first + j * C : outside;
        }
      }
    }
  }
};

/// For each of the 36 positions, or some of them, a matrix (tiles, C), a little apart so that they do not meet in the cache.
/// Its rows are whole vectors long; what stands beyond their channels reaches no result.
template <typename S>
class WinogradDomain {
 public:
  WinogradDomain(Index tiles, Index channels, Index positions = 36)
      : row_(in_whole_vectors<S>(channels)), step_(tiles * row_ + 64 / Index(sizeof(S))),
        data_(Shape{positions, step_}, uninitialized), begin_(data_.data()) {}

  Index row() const { return row_; }
  Index offset(Index f) const { return f * step_; }
  S* matrix(Index f) const { return begin_ + offset(f); }

  /// Where the values of a tile lie.
  winograd::Evenly<S> values(Index tile) const { return {begin_ + tile * row_, step_}; }

 private:
  Index row_, step_;
  Tensor<S> data_;
  S* begin_;
};

/// How many rows each of the 36 matrices of transformed taps takes: one more than it has, so that they do not meet in the
/// cache.
inline Index winograd_rows(Index rows) { return rows + 1; }

/// The taps of a convolution, for products (rows) · (rows, columns):  taps[row, t, column], t = 0 … 8, at any steps; of several
/// groups, `group_step` apart, those of the first. `turned`: by half a turn, as the input gradient has them.
template <typename S>
struct WinogradTaps {
  const S* data;
  Index rows, columns;
  Index row_step, tap_step, column_step, group_step;
  bool turned;

  WinogradTaps of_group(Index g) const {
    return {data + g * group_step, rows, columns, row_step, tap_step, column_step, group_step, turned};
  }

  Panels<S> panels() const { return Panels<S>(columns); }

  static constexpr Index rows_at_once = 16;

  /// G g Gᵀ for the columns of a panel: 36 packed matrices (rows, width · lanes), winograd_rows apart; rows first … last - 1.
  void transform(Index panel, Index first, Index last, S* to) const {
    const Panels<S> all = panels();
    const Index column = all.first_column(panel), count = all.columns_of(panel), span = all.width_of(panel) * all.lanes;
    const auto transform = tile_transform<winograd::Taps, S>();
    Tensor<S> scratch(Shape{9, rows_at_once, span}, uninitialized);
    S* const near = scratch.data();
    if (count < span) std::fill_n(near, 9 * rows_at_once * span, S(0));
    for (; first < last; first += rows_at_once) {
      const Index row_count = std::min(rows_at_once, last - first);
      const S* const corner = data + first * row_step + column * column_step;
      for (Index t = 0; t < 9; ++t) {
        const S* const from = corner + (turned ? 8 - t : t) * tap_step;
        copy_matrix(from, row_step, column_step, row_count, count, near + t * rows_at_once * span, span);
      }
      for (Index r = 0; r < row_count; ++r) {
        transform({near + r * span, rows_at_once * span}, {to + (first + r) * span, winograd_rows(rows) * span}, span, {}, {});
      }
    }
  }
};

/// All panels of G g Gᵀ, to be used more than once: as one packed matrix of 36 for each group.
template <typename S>
Packed<S> winograd_weights(const WinogradTaps<S>& taps, Index groups) {
  Packed<S> all(36 * winograd_rows(taps.rows), taps.columns, groups);
  const Index panels = taps.panels().count(), step = taps.rows_at_once, parts = (taps.rows + step - 1) / step;
  parallel_for(groups * panels * parts, [&](Index i) {
    const Index g = i / parts / panels, p = i / parts % panels, first = i % parts * step;
    taps.of_group(g).transform(p, first, std::min(first + step, taps.rows), all.panel(g, p));
  });
  return all;
}

/// What winograd_weights makes, for so many blocks of work: once for all threads; or where it is small enough for a core's
/// cache, once for each thread that asks, since what lies in the cache of another core is far away. Nothing for no groups.
template <typename S>
class WinogradWeights {
 public:
  WinogradWeights(const WinogradTaps<S>& taps, Index groups, Index blocks)
      : taps_(taps), groups_(groups), each_(is_small() && blocks >= 4 * num_threads()) {
    for (Index copies = each_ ? num_threads() : 1; groups > 0 && packed_.size() < copies;) packed_.push_back({});
    if (groups > 0 && !each_) packed_[0] = winograd_weights(taps, groups);
  }

  /// The calling thread's, or null: there are none, or the pool has more threads than it had.
  const Packed<S>* mine() {
    const Index thread = each_ ? detail::parallel_place().number : 0;
    if (thread >= packed_.size()) return nullptr;
    Packed<S>& own = packed_[thread];
    if (own.empty()) own = winograd_weights(taps_, groups_);
    return &own;
  }

 private:
  bool is_small() const { return 36 * taps_.rows * taps_.columns * groups_ * Index(sizeof(S)) <= Index{1} << 20; }

  WinogradTaps<S> taps_;
  Index groups_;
  bool each_;
  detail::List<Packed<S>> packed_;
};

/// The taps of some groups: as they are, or transformed before as winograd_weights does it.
template <typename S>
struct WinogradGroups {
  Index count;
  WinogradTaps<S> taps;                    // of the first one
  const Packed<S>* transformed = nullptr;  // or these, of which it is number `first`
  Index first = 0;

  WinogradGroups part(Index begin, Index end) const {
    if (transformed) return {end - begin, taps, transformed, first + begin};
    return {end - begin, taps.of_group(begin)};
  }
};

/// y = x convolved, finished by `end`, for images cut into tiles as `tiles` says: x (N, other, C), y (N, size, K).
///
/// Blocks of tiles are shared out; where all tiles are one block, panels of channels of y are, and what a thread has multiplied
/// it transforms back itself.
template <typename S>
void winograd_convolution(const ChannelsOfImages<const S>& x, const WinogradGroups<S>& weights,
                          const ChannelsOfImages<S>& y, const WinogradTiles& tiles, const Epilogue<S>& end) {
  const Index groups = weights.count;
  const Index C = x.channels, K = y.channels, cg = C / groups, kg = K / groups, count = tiles.count();
  if (count == 0) return;
  const auto input = tile_transform<winograd::Input, S>();
  const auto output = tile_transform<winograd::Output, S>();
  const detail::OffPool alone(36 * count * cg * K < Index{1} << 22);
  const Tensor<S> zeros(Shape{in_whole_vectors<S>(C)});
  const Panels<S> panels(kg);
  const Index at_once = std::min(count, tiles.at_once(cg, kg)), grain = at_once < count ? at_once : 8;
  WinogradWeights<S> own_weights(weights.taps, !weights.transformed && at_once < count ? groups : 0, count / at_once);
  const Index all_panels = groups * panels.count();
  // Panels are done one by one, so that what is multiplied stays in the cache. But narrow groups are transformed back with one
  // another; and where panels are all there is to share out, and fewer than threads, all threads work on each.
  const bool too_few = at_once == count && all_panels < num_threads();
  const Index together = groups > 1 || too_few ? all_panels : 1;
  // Rounds are done one after the other where blocks of them are enough for all threads: so each can ask for the next.
  const Index rounds = std::max<Index>(1, count / at_once / std::max(32, 8 * num_threads()));
  parallel_ranges(count, rounds * at_once, [&](Index block, Index block_end) {
    const WinogradDomain<S> v(std::min(at_once, block_end - block), C);
    for (Index first = block; first < block_end; first += at_once) {
      const Index last = std::min(first + at_once, block_end);
      parallel_ranges(last - first, grain, [&](Index begin, Index stop) {
        const S* from[36];
        tiles.for_each(first + begin, first + stop, [&](const WinogradTiles::Tile& tile) {
          tiles.outer(tile, x.data, x.step, zeros.cdata(), from);
          input(from, v.values(tile.number - first), v.row(), {}, {});
        });
      });
      const Ahead source = tiles.image_rows(last, last + at_once, x, tiles.other);
      const Ahead result = tiles.image_rows(first, last, y, tiles.size);
      parallel_ranges(all_panels, together, [&](Index first_panel, Index last_panel) {
        const Index channel = panels.first_column(first_panel);
        const Index channels = together > 1 ? K : panels.columns_of(first_panel);
        const WinogradDomain<S> m(last - first, channels);
        RowTable<S> rows(last - first);
        for (Index t = 0; t < last - first; ++t) rows.add(v.matrix(0) + t * v.row(), m.matrix(0) + t * m.row());
        rows.end();
        for (Index i = first_panel; i < last_panel; ++i) {
          const Index g = i / panels.count(), p = i % panels.count();
          const Index column = g * kg + panels.first_column(p) - channel, width = panels.width_of(p);
          const Index size = winograd_rows(cg) * width * panels.lanes;
          const Packed<S>* const transformed = weights.transformed ? weights.transformed : own_weights.mine();
          Tensor<S> own(Shape{transformed ? 0 : 36, size}, uninitialized);  // needed once, and may stay in the cache
          if (!transformed) {
            parallel_ranges(cg, WinogradTaps<S>::rows_at_once, [&](Index begin, Index stop) {
              weights.taps.of_group(g).transform(p, begin, stop, own.data());
            });
          }
          const S* const u = transformed ? transformed->panel(weights.first + g, p) : own.cdata();
          parallel_for(36, [&](Index f) {
            result.part(i * 36 + f, all_panels * 36).ask_to_write();
            const Index tap = v.offset(f) + g * cg, columns = groups == 1 ? width * panels.lanes : panels.columns_of(p);
            rows.multiply_panel(&tap, 1, cg, u + f * size, width, m.offset(f) + column, columns, {},
                                source.part(i * 36 + f, all_panels * 36));
          });
        }
        Epilogue<S> finish = end;
        if (end.bias != nullptr) finish.bias = end.bias + channel;
        parallel_ranges(last - first, grain, [&](Index begin, Index stop) {
          S* to[16];
          Tensor<S> outside(Shape{channels});
          S* const nowhere = outside.data();
          tiles.for_each(first + begin, first + stop, [&](const WinogradTiles::Tile& tile) {
            tiles.inner(tile, y.data + channel, y.step, nowhere, to);
            output(m.values(tile.number - first).read_only(), to, channels, finish, {});
          });
        });
      });
    }
  });
}

/// dtaps[k, r, s, c] = Σ_pixels dy[pixel, k] · x[pixel + (r, s) − padding, c], group by group.
///                                                               x (N, other, C), dy (N, size, K), dtaps (K, 3, 3, C/G)
///
/// Where the sums are small beside what is transformed there are 4 to 16 partial ones over tiles, added in order at the end;
/// else it is one sum. With a few threads to each sum, every one makes some rows of positions of it, from what it transforms
/// itself: to transform a part of each tile takes longer, but what would come from the cache of another core takes longer
/// still. More threads than three share out what is transformed for a single sum, and the 36 products.
template <typename S>
class WinogradWeightGradient {
 public:
  WinogradWeightGradient(const ChannelsOfImages<const S>& x, const ChannelsOfImages<const S>& dy, S* dtaps, Index groups,
                         const WinogradTiles& tiles)
      : x_(x), C_(x.channels), cg_(C_ / groups), dy_(dy), K_(dy.channels), kg_(K_ / groups), dtaps_(dtaps),
        groups_(groups), tiles_(tiles), zeros_(Shape{in_whole_vectors<S>(std::max(C_, K_))}),
        panels_(cg_, micro_kernels<S>().widest_outer), rows_(micro_kernels<S>().outer_rows[panels_.width - 1]),
        row_(in_whole_vectors<S>(cg_)), blocks_of_group_((kg_ + rows_ - 1) / rows_) {}

  void run() const {
    const Index count = tiles_.count();
    const Index worth = count * (cg_ + kg_) / (8 * cg_ * kg_), parts = worth < 4 ? 1 : worth < 8 ? 4 : worth < 16 ? 8 : 16;
    const Index at_once = parts > 1 || groups_ > 1 ? 32 : WinogradTiles::large(cg_, kg_) ? 128 : 64;
    const Index size = blocks() * block_size();
    if (count == 0 || (count <= at_once && size > most_sums)) return run_in_one_round(count);
    Tensor<S> sums(Shape{parts, size}, uninitialized);
    S* const sum = sums.data();
    const int shares = shares_of(parts);
    parallel_for(parts * shares, [&](Index job) {
      const Index part = job / shares, begin = part * count / parts, stop = (part + 1) * count / parts;
      const int share = static_cast<int>(job) % shares;
      const winograd::Rows rows{share * 6 / shares, (share + 1) * 6 / shares};
      for (Index first = begin; first < stop; first += at_once) {
        const Index last = std::min(first + at_once, stop), positions = 6 * (rows.last - rows.first);
        const WinogradDomain<S> v(last - first, C_, positions), m(last - first, K_, positions);
        transform(first, last, rows, v, m);
        const Index next = std::min(last + at_once, stop);
        multiply(v, m, last - first, rows, 0, blocks(), sum + part * size, first > begin,
                 tiles_.image_rows(last, next, x_, tiles_.other), tiles_.image_rows(last, next, dy_, tiles_.size));
      }
    });
    parallel_for(blocks(), [&](Index block) {
      S* const of_block = sum + block * block_size();
      for (Index part = 1; part < parts; ++part) add_range<S>(block_size(), of_block, of_block + part * size);
      finish(block, of_block);
    });
  }

 private:
  // A block of sums: 36 matrices (rows, C/G in whole vectors) for the next `rows` of k in a group.
  Index blocks() const { return groups_ * blocks_of_group_; }
  Index block_size() const { return 36 * rows_ * row_; }

  /// So many numbers stay in the cache.
  static constexpr Index most_sums = Index{1} << 20;

  /// By how many threads each of the sums is made. To transform a part of each tile takes longer, so more of them must leave a
  /// quarter less to the one that has the most to do.
  static int shares_of(Index parts) {
    const Index threads = detail::threads_here();
    if (parts == 1 && threads > 3) return 1;
    const auto work = [&](Index shares) { return (parts * shares + threads - 1) / threads * 6 / shares; };  // sixths of a sum
    int best = 1;
    for (const int shares : {2, 3, 6}) best = 4 * work(shares) <= 3 * work(best) ? shares : best;
    return best;
  }

  /// Where all tiles are one round, which no other adds to, only a few blocks of sums are kept: each thread makes and finishes
  /// its own, if there are enough, else all work on the same.
  void run_in_one_round(Index count) const {
    const WinogradDomain<S> v(count, C_), m(count, K_);
    transform(0, count, {}, v, m);
    const Index most = std::max<Index>(1, most_sums / block_size()), threads = num_threads();
    const auto make = [&](Index a, Index b) {
      Tensor<S> sums(Shape{b - a, block_size()}, uninitialized);
      S* const sum = sums.data();
      multiply(v, m, count, {}, a, b, sum, false);
      parallel_for(b - a, [&](Index i) { finish(a + i, sum + i * block_size()); });
    };
    if (blocks() < 2 * threads) {
      for (Index a = 0; a < blocks(); a += most) make(a, std::min(blocks(), a + most));
      return;
    }
    const Index rounds = (blocks() + most * threads - 1) / (most * threads), shares = rounds * threads;
    parallel_for(shares, [&](Index share) { make(share * blocks() / shares, (share + 1) * blocks() / shares); });
  }

  /// Rows of Bᵀ x B and A dy Aᵀ of tiles first … last - 1.
  void transform(Index first, Index last, winograd::Rows rows, const WinogradDomain<S>& v, const WinogradDomain<S>& m) const {
    const auto input = tile_transform<winograd::Input, S>();
    const auto gradient = tile_transform<winograd::OutputGradient, S>();
    parallel_ranges(last - first, 8, [&](Index a, Index b) {
      const S* from[36];
      tiles_.for_each(first + a, first + b, [&](const WinogradTiles::Tile& tile) {
        tiles_.outer(tile, x_.data, x_.step, zeros_.cdata(), from);
        input(from, v.values(tile.number - first), v.row(), {}, rows);
        tiles_.inner(tile, dy_.data, dy_.step, zeros_.cdata(), from);
        gradient(from, m.values(tile.number - first), m.row(), {}, rows);
      });
    });
  }

  /// Adds up blocks `begin` … `stop` - 1 over tile_count tiles, for rows of positions: matrix by matrix, so that each stays in
  /// the cache.
  void multiply(const WinogradDomain<S>& v, const WinogradDomain<S>& m, Index tile_count, winograd::Rows rows, Index begin,
                Index stop, S* sum, bool accumulate, const Ahead& x_ahead = {}, const Ahead& dy_ahead = {}) const {
    const auto& kernels = micro_kernels<S>().outer[panels_.width - 1];
    const Index positions = 6 * (rows.last - rows.first);
    parallel_for(positions, [&](Index f) {
      // Asks for what the next round transforms: beside even matrices for x, beside the others for dy.
      const Ahead ahead = (f % 2 == 0 ? x_ahead : dy_ahead).part(f / 2, positions / 2);
      AheadRuns asked = ahead.runs((stop - begin) * panels_.count(), tile_count / products_an_ask);
      for (Index block = begin; block < stop; ++block) {
        const Index g = block / blocks_of_group_, k = block % blocks_of_group_ * rows_;
        S* const to = sum + (block - begin) * block_size() + (6 * rows.first + f) * rows_ * row_;
        for (Index p = 0; p < panels_.count(); ++p) {
          const Index column = panels_.first_column(p);
          const Index width = panels_.width_of(p);
          kernels[width - 1](m.matrix(f) + g * kg_ + k, m.row(), v.matrix(f) + g * cg_ + column, v.row(), tile_count,
                             to + column, row_, std::min(rows_, kg_ - k), width * panels_.lanes, accumulate,
                             asked.next());
        }
      }
    });
  }

  void finish(Index block, const S* sum) const {
    const auto taps = tile_transform<winograd::TapsGradient, S>();
    const Index g = block / blocks_of_group_, first = block % blocks_of_group_ * rows_;
    for (Index i = 0; i < rows_ && first + i < kg_; ++i) {
      taps({sum + i * row_, rows_ * row_}, {dtaps_ + (g * kg_ + first + i) * 9 * cg_, cg_}, cg_, {}, {});
    }
  }

  ChannelsOfImages<const S> x_;
  Index C_, cg_;
  ChannelsOfImages<const S> dy_;
  Index K_, kg_;
  S* dtaps_;
  Index groups_;
  WinogradTiles tiles_;
  Tensor<S> zeros_;
  Panels<S> panels_;
  Index rows_, row_, blocks_of_group_;
};

}  // namespace residua::inline RESIDUA_ABI::kernels
