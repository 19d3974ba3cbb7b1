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
#include <cstring>
#include <numbers>
#include <span>
#include <type_traits>

#include <residua/kernels/matmul.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

// --- one tile --------------------------------------------------------------------------------------------------------

/// The transforms along one axis, from `from` values to `to`. They evaluate polynomials at 0, ±√½, ±√2 and ∞, and
/// interpolate: with these points rounding costs a fifth of what it costs with 0, ±1, ±2 and ∞.
namespace winograd {

template <typename S> inline constexpr S near = std::numbers::sqrt2_v<S> / 2;
template <typename S> inline constexpr S far = std::numbers::sqrt2_v<S>;
template <typename V> using Lane = std::remove_cvref_t<decltype(V{}[0])>;

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
  template <typename V>
  RESIDUA_INLINE static void apply(const V* u, V* t) {
    using S = Lane<V>;
    const V a = S(1. / 3) * (u[1] + u[2]), c = S(1. / 6) * (u[3] + u[4]);
    t[0] = u[0] - S(2) * a + c;
    t[1] = S(-2. / 3) * near<S> * (u[1] - u[2]) + S(1. / 6) * far<S> * (u[3] - u[4]);
    t[2] = S(2) * c - a + u[5];
  }
};

/// to = T · from · Tᵀ for each of the channels, and where T is Output finished by `end`. from and to: where the channels
/// of each element lie, row by row.
template <typename T, Index bytes, typename S>
RESIDUA_INLINE void transform(const S* const* from, S* const* to, Index channels, const Epilogue<S> end) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr Index lanes = bytes / Index(sizeof(S));
  constexpr int n = T::from, m = T::to;
  for (Index c = 0; c < channels; c += lanes) {
    V half[m][n], whole[m * m];
    RESIDUA_UNROLL for (int j = 0; j < n; ++j) {
      V column[n], t[m];
      RESIDUA_UNROLL for (int i = 0; i < n; ++i) column[i] = *reinterpret_cast<const InMemory*>(from[i * n + j] + c);
      T::apply(column, t);
      RESIDUA_UNROLL for (int i = 0; i < m; ++i) half[i][j] = t[i];
    }
    RESIDUA_UNROLL for (int i = 0; i < m; ++i) T::apply(half[i], whole + i * m);
    if constexpr (std::is_same_v<T, Output>) {
      const V bias = end.bias != nullptr ? *reinterpret_cast<const InMemory*>(end.bias + c) : V{};
      RESIDUA_UNROLL for (int e = 0; e < m * m; ++e) whole[e] += bias;
      if (end.accumulate) {
        RESIDUA_UNROLL for (int e = 0; e < m * m; ++e) whole[e] += *reinterpret_cast<const InMemory*>(to[e] + c);
      }
      if (end.relu) {
        RESIDUA_UNROLL for (int e = 0; e < m * m; ++e) whole[e] = whole[e] < 0 ? V{} : whole[e];
      }
    }
    if (channels - c >= lanes) {
      RESIDUA_UNROLL for (int e = 0; e < m * m; ++e) *reinterpret_cast<InMemory*>(to[e] + c) = whole[e];
    } else {
      for (int e = 0; e < m * m; ++e) {
        std::memcpy(to[e] + c, &whole[e], static_cast<std::size_t>(channels - c) * sizeof(S));
      }
    }
  }
}

}  // namespace winograd

template <typename S>
using TileTransform = void (*)(const S* const* from, S* const* to, Index channels, Epilogue<S> end);

#define RESIDUA_WINOGRAD(ISA, TARGET, BYTES)                                                                       \
  template <typename T, typename S>                                                                                \
  TARGET void tile_transform_##ISA(const S* const* from, S* const* to, Index channels, Epilogue<S> end) {          \
    winograd::transform<T, BYTES>(from, to, channels, end);                                                        \
  }
RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_WINOGRAD)
#undef RESIDUA_WINOGRAD

template <typename T, typename S>
TileTransform<S> tile_transform() {
  return RESIDUA_BEST(tile_transform, T, S);
}

// --- images ----------------------------------------------------------------------------------------------------------

/// How images are cut into tiles of 4 × 4 pixels, counted row by row. `size` is of the images that are cut, `other` of
/// those that a tile's 6 × 6 pixels are taken from, which begin `padding` before it.
struct WinogradTiles {
  Index N, size[2], other[2], padding[2];

  Index rows() const { return (size[0] + 3) / 4; }
  Index columns() const { return (size[1] + 3) / 4; }
  Index count() const { return N * rows() * columns(); }

  /// How many tiles are worked on together: a few that stay in the cache, as products like their rows, or all where they
  /// are not many and the taps are.
  Index at_once(Index C, Index K) const {
    const bool large = C * K > 8192;
    const Index most = large && vector_size() == 64 ? 48 : 24;
    return large && count() <= 128 ? count() : std::clamp<Index>(count() / 64 * 8, 8, most);
  }

  /// Where the tile's 4 × 4 pixels lie in (N, size, C), or `outside`.
  template <typename T>
  void inner(Index tile, T* image, Index C, T* outside, T** at) const {
    pixels<4>(tile, image, C, size, 0, 0, outside, at);
  }
  /// Where its 6 × 6 pixels lie in (N, other, C).
  template <typename T>
  void outer(Index tile, T* image, Index C, T* outside, T** at) const {
    pixels<6>(tile, image, C, other, -padding[0], -padding[1], outside, at);
  }

 private:
  template <int extent, typename T>
  void pixels(Index tile, T* image, Index C, const Index* bounds, Index dh, Index dw, T* outside, T** at) const {
    const Index n = tile / (rows() * columns()), h = tile / columns() % rows() * 4 + dh, w = tile % columns() * 4 + dw;
    T* const corner = image + ((n * bounds[0] + h) * bounds[1] + w) * C;
    if (h >= 0 && h + extent <= bounds[0] && w >= 0 && w + extent <= bounds[1]) {
      const Index row = bounds[1] * C;
      RESIDUA_UNROLL for (int i = 0; i < extent; ++i) {
        RESIDUA_UNROLL for (int j = 0; j < extent; ++j) at[i * extent + j] = corner + i * row + j * C;
      }
      return;
    }
    for (Index i = 0; i < extent; ++i) {
      for (Index j = 0; j < extent; ++j) {
        const bool inside = h + i >= 0 && h + i < bounds[0] && w + j >= 0 && w + j < bounds[1];
        *at++ = inside ? corner + (i * bounds[1] + j) * C : outside;
      }
    }
  }
};

/// For each of the 36 positions a matrix (tiles, C), a little apart so that they do not meet in the cache.
template <typename S>
class WinogradDomain {
 public:
  WinogradDomain(Index tiles, Index channels)
      : channels_(channels), step_(tiles * channels + 64 / Index(sizeof(S))),
        data_(Shape{36, step_}, uninitialized), begin_(data_.data()) {}

  Index offset(Index f) const { return f * step_; }
  S* matrix(Index f) const { return begin_ + offset(f); }

  /// Where the values of a tile lie.
  template <typename T>
  void values(Index tile, T** at) const {
    for (Index f = 0; f < 36; ++f) at[f] = matrix(f) + tile * channels_;
  }

 private:
  Index channels_, step_;
  Tensor<S> data_;
  S* begin_;
};

/// How many rows each of the 36 matrices of transformed taps takes: one more than it has, so that they do not meet in the
/// cache.
inline Index winograd_rows(Index rows) { return rows + 1; }

/// The taps of a convolution, for products (rows) · (rows, columns):  taps[row, t, column], t = 0 … 8, at any steps.
/// `turned`: by half a turn, as the input gradient has them.
template <typename S>
struct WinogradTaps {
  const S* data;
  Index rows, columns;
  Index row_step, tap_step, column_step;
  bool turned;

  Panels<S> panels() const { return Panels<S>(columns); }

  /// G g Gᵀ for the columns of a panel: 36 packed matrices (rows, width · lanes), winograd_rows apart.
  void transform(Index panel, S* to) const {
    const Panels<S> all = panels();
    const Index column = all.first_column(panel), count = all.columns_of(panel), span = all.width_of(panel) * all.lanes;
    const auto transform = tile_transform<winograd::Taps, S>();
    const Index rows_at_once = 16;
    Tensor<S> scratch(Shape{9, rows_at_once, span});
    S* const near = scratch.data();
    for (Index first = 0; first < rows; first += rows_at_once) {
      const Index row_count = std::min(rows_at_once, rows - first);
      const S* const corner = data + first * row_step + column * column_step;
      for (Index t = 0; t < 9; ++t) {
        const S* const from = corner + (turned ? 8 - t : t) * tap_step;
        copy_matrix(from, row_step, column_step, row_count, count, near + t * rows_at_once * span, span);
      }
      for (Index r = 0; r < row_count; ++r) {
        const S* from_at[9];
        S* to_at[36];
        for (Index t = 0; t < 9; ++t) from_at[t] = near + (t * rows_at_once + r) * span;
        for (Index f = 0; f < 36; ++f) to_at[f] = to + (f * winograd_rows(rows) + first + r) * span;
        transform(from_at, to_at, span, {});
      }
    }
  }
};

/// All panels of G g Gᵀ, to be used more than once: as one packed matrix of 36 for each group.
template <typename S>
PackedGroups<S> winograd_weights(std::span<const WinogradTaps<S>> taps) {
  PackedGroups<S> all;
  for (const WinogradTaps<S>& group : taps) all.emplace_back(36 * winograd_rows(group.rows), group.columns);
  const Index panels = taps[0].panels().count();
  parallel_for(static_cast<Index>(taps.size()) * panels, [&](Index i) {
    const auto group = static_cast<std::size_t>(i / panels);
    taps[group].transform(i % panels, all[group].panel(i % panels));
  });
  return all;
}

/// Images of which some channels are looked at, such as those of one group.
template <typename S>
struct ChannelsOfImages {
  S* data;
  Index channels, step;  ///< how many; from one pixel to the next, in elements
};

/// y = x convolved, finished by `end`, for images cut into tiles as `tiles` says: x (N, other, C), y (N, size, K).
/// `panel(g, p, use)` calls use(panel p of group g's transformed taps), (36, winograd_rows(C/G), width · lanes).
template <typename S, typename Panel>
void winograd_convolution(const ChannelsOfImages<const S>& x, const ChannelsOfImages<S>& y, Index groups,
                          const WinogradTiles& tiles, const Epilogue<S>& end, Panel&& panel) {
  const Index C = x.channels, K = y.channels, cg = C / groups, kg = K / groups;
  const auto input = tile_transform<winograd::Input, S>(), output = tile_transform<winograd::Output, S>();
  const detail::OffPool alone(36 * tiles.count() * cg * K < Index{1} << 22);
  const Tensor<S> zeros(Shape{C});
  const Panels<S> panels(kg);
  const Index at_once = tiles.at_once(cg, kg), grain = at_once < tiles.count() ? at_once : 8;
  parallel_ranges(tiles.count(), at_once, [&](Index first, Index last) {
    const Index count = last - first;
    const WinogradDomain<S> v(count, C), m(count, K);
    parallel_ranges(count, grain, [&](Index begin, Index stop) {
      const S* from[36];
      S* to[36];
      for (Index t = begin; t < stop; ++t) {
        tiles.outer(first + t, x.data, x.step, zeros.cdata(), from);
        v.values(t, to);
        input(from, to, C, {});
      }
    });
    RowTable<S> rows(count);
    for (Index t = 0; t < count; ++t) rows.add(v.matrix(0) + t * C, m.matrix(0) + t * K);
    rows.end();
    parallel_for(groups * panels.count(), [&](Index i) {
      const Index g = i / panels.count(), p = i % panels.count();
      const Index column = panels.first_column(p), width = panels.width_of(p);
      panel(g, p, [&](const S* u) {
        parallel_for(36, [&](Index f) {
          const Index tap = v.offset(f) + g * cg;
          rows.multiply_panel(&tap, 1, cg, u + f * winograd_rows(cg) * width * panels.lanes, width,
                              m.offset(f) + g * kg + column, panels.columns_of(p), {});
        });
      });
    });
    parallel_ranges(count, grain, [&](Index begin, Index stop) {
      const S* from[36];
      S* to[16];
      Tensor<S> outside(Shape{K});
      for (Index t = begin; t < stop; ++t) {
        m.values(t, from);
        tiles.inner(first + t, y.data, y.step, outside.data(), to);
        output(from, to, K, end);
      }
    });
  });
}

/// The same with each group's taps transformed before.
template <typename S>
void winograd_convolution(const ChannelsOfImages<const S>& x, std::span<const Packed<S>> u, const ChannelsOfImages<S>& y,
                          const WinogradTiles& tiles, const Epilogue<S>& end) {
  winograd_convolution(x, y, static_cast<Index>(u.size()), tiles, end, [&](Index g, Index p, auto&& use) {
    use(u[static_cast<std::size_t>(g)].panel(p));
  });
}

/// The same with each group's taps as they are.
template <typename S>
void winograd_convolution(const ChannelsOfImages<const S>& x, std::span<const WinogradTaps<S>> taps,
                          const ChannelsOfImages<S>& y, const WinogradTiles& tiles, const Epilogue<S>& end) {
  if (tiles.at_once(taps[0].rows, taps[0].columns) < tiles.count()) {
    const PackedGroups<S> u = winograd_weights(taps);
    return winograd_convolution(x, std::span<const Packed<S>>(u), y, tiles, end);
  }
  const Panels<S> panels = taps[0].panels();  // each is needed once, and may stay in the cache until then
  winograd_convolution(x, y, static_cast<Index>(taps.size()), tiles, end, [&](Index g, Index p, auto&& use) {
    const WinogradTaps<S>& of_group = taps[static_cast<std::size_t>(g)];
    Tensor<S> u(Shape{36, winograd_rows(of_group.rows), panels.width_of(p) * panels.lanes}, uninitialized);
    of_group.transform(p, u.data());
    use(u.cdata());
  });
}

/// dtaps[k, r, s, c] = Σ_pixels dy[pixel, k] · x[pixel + (r, s) − padding, c], group by group.
///                                                               x (N, other, C), dy (N, size, K), dtaps (K, 3, 3, C/G)
///
/// Where the sums are small beside what is transformed there are up to 16 partial ones over tiles, added in order at the end;
/// else it is one sum, and the 36 products are shared out.
template <typename S>
class WinogradWeightGradient {
 public:
  WinogradWeightGradient(const ChannelsOfImages<const S>& x, const ChannelsOfImages<const S>& dy, S* dtaps, Index groups,
                         const WinogradTiles& tiles)
      : x_(x), C_(x.channels), cg_(C_ / groups), dy_(dy), K_(dy.channels), kg_(K_ / groups), dtaps_(dtaps),
        groups_(groups), tiles_(tiles), zeros_(Shape{std::max(C_, K_)}) {}

  void run() const {
    const Index count = tiles_.count();
    const Index parts = 32 * cg_ * kg_ <= count * (cg_ + kg_) ? std::clamp<Index>(count / 32, 1, 16) : 1;
    const Index at_once = parts == 1 ? 128 : 32, size = blocks() * block_size();
    if (count <= at_once) return run_in_one_round(count);
    Tensor<S> sums(Shape{parts, size}, uninitialized);
    S* const sum = sums.data();
    parallel_for(parts, [&](Index part) {
      const Index begin = part * count / parts, stop = (part + 1) * count / parts;
      for (Index first = begin; first < stop; first += at_once) {
        const Index last = std::min(first + at_once, stop);
        const WinogradDomain<S> v(last - first, C_), m(last - first, K_);
        transform(first, last, v, m);
        multiply(v, m, last - first, 0, blocks(), sum + part * size, first > begin);
      }
    });
    for (Index part = 1; part < parts; ++part) add_range<S>(size, sum, sum + part * size);
    parallel_for(blocks(), [&](Index block) { finish(block, sum + block * block_size()); });
  }

 private:
  // A block of sums: 36 matrices (rows, C/G) for the next `rows` of k in a group.
  Index rows() const { return micro_kernels<S>().outer_rows[Panels<S>(cg_, widest_outer_tile).width - 1]; }
  Index blocks_of_group() const { return (kg_ + rows() - 1) / rows(); }
  Index blocks() const { return groups_ * blocks_of_group(); }
  Index block_size() const { return 36 * rows() * cg_; }

  /// With all tiles at once only a few blocks of sums are kept, since no other round adds to them.
  void run_in_one_round(Index count) const {
    const WinogradDomain<S> v(count, C_), m(count, K_);
    transform(0, count, v, m);
    const Index at_once = std::max<Index>(1, (Index{1} << 20) / block_size());
    for (Index a = 0; a < blocks(); a += at_once) {
      const Index b = std::min(blocks(), a + at_once);
      Tensor<S> sums(Shape{b - a, block_size()}, uninitialized);
      S* const sum = sums.data();
      multiply(v, m, count, a, b, sum, false);
      parallel_for(b - a, [&](Index i) { finish(a + i, sum + i * block_size()); });
    }
  }

  /// Bᵀ x B and A dy Aᵀ of tiles first … last - 1.
  void transform(Index first, Index last, const WinogradDomain<S>& v, const WinogradDomain<S>& m) const {
    const auto input = tile_transform<winograd::Input, S>(), gradient = tile_transform<winograd::OutputGradient, S>();
    parallel_ranges(last - first, 8, [&](Index a, Index b) {
      const S* from[36];
      S* to[36];
      for (Index t = a; t < b; ++t) {
        tiles_.outer(first + t, x_.data, x_.step, zeros_.cdata(), from);
        v.values(t, to);
        input(from, to, C_, {});
        tiles_.inner(first + t, dy_.data, dy_.step, zeros_.cdata(), from);
        m.values(t, to);
        gradient(from, to, K_, {});
      }
    });
  }

  /// Adds up blocks `begin` … `stop` - 1 over tile_count tiles: matrix by matrix, so that each stays in the cache.
  void multiply(const WinogradDomain<S>& v, const WinogradDomain<S>& m, Index tile_count, Index begin, Index stop, S* sum,
                bool accumulate) const {
    const auto& kernels = micro_kernels<S>();
    const Panels<S> panels(cg_, widest_outer_tile);
    parallel_for(36, [&](Index f) {
      for (Index block = begin; block < stop; ++block) {
        const Index g = block / blocks_of_group(), k = block % blocks_of_group() * rows();
        S* const to = sum + (block - begin) * block_size() + f * rows() * cg_;
        for (Index p = 0; p < panels.count(); ++p) {
          const Index column = panels.first_column(p);
          kernels.outer[panels.width - 1][panels.width_of(p) - 1](
              m.matrix(f) + g * kg_ + k, K_, v.matrix(f) + g * cg_ + column, C_, tile_count, to + column, cg_,
              std::min(rows(), kg_ - k), panels.columns_of(p), accumulate);
        }
      }
    });
  }

  void finish(Index block, const S* sum) const {
    const auto taps = tile_transform<winograd::TapsGradient, S>();
    const Index g = block / blocks_of_group(), first = block % blocks_of_group() * rows();
    for (Index i = 0; i < rows() && first + i < kg_; ++i) {
      const S* from[36];
      S* to[9];
      for (Index f = 0; f < 36; ++f) from[f] = sum + (f * rows() + i) * cg_;
      for (Index t = 0; t < 9; ++t) to[t] = dtaps_ + ((g * kg_ + first + i) * 9 + t) * cg_;
      taps(from, to, cg_, {});
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
};

}  // namespace residua::inline RESIDUA_ABI::kernels
