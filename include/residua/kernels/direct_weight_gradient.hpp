// The weight gradient of a convolution of any kernel, stride, padding, dilation and groups: a sum over pixels of outer
// products. Letters as in convolution_shape.hpp.
#pragma once

#include <algorithm>

#include <residua/kernels/direct_convolution.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Columns of a patch (R, S, C/G) that are neighbours in the image too: of one tap, or of all taps of one row.
struct PatchRun {
  Index h;       ///< the image's row, for the first row of results
  Index begin;   ///< where in that row, for the first result
  Index column, width;
};

/// The runs of columns first … last - 1 of the patches of group g.
inline detail::Scratch<PatchRun> patch_runs(const ConvolutionShape& s, Index g, Index first, Index last) {
  const Index cg = s.C / s.groups, across = rows_are_one(s) ? 1 : s.kernel[1], width = s.kernel[1] / across * cg;
  const Index first_run = first / width;
  detail::Scratch<PatchRun> runs((last + width - 1) / width - first_run);
  for (Index run = first_run; run * width < last; ++run) {
    const Index begin = std::max(first, run * width), end = std::min(last, (run + 1) * width);
    const Index w = run % across * s.dilation[1] - s.padding[1];
    runs[run - first_run] = {run / across * s.dilation[0] - s.padding[0], w * s.C + g * cg + begin - run * width,
                             begin - first, end - begin};
  }
  return runs;
}

/// Columns of the patches of results (n0 … n1 - 1, i0 … i1 - 1, all j), one after the other: (pixels, span). Zeros where
/// they reach beyond the image. Copies whole vectors: `to` has room for one more.
template <typename S>
void copy_patches(const S* x, const ConvolutionShape& s, const PixelUnits::Unit& unit, const detail::Scratch<PatchRun>& runs,
                  Index span, S* to) {
  const Index length = s.W * s.C, step = s.stride[1] * s.C, J = s.out(1);
  const PatchRun *const first = runs.data(), *const last = first + runs.size();
  Index left = length, right = 0, above = s.H, below = 0;  // what the patch of pixel (0, 0) spans
  for (const PatchRun* run = first; run < last; ++run) {
    left = std::min(left, run->begin), right = std::max(right, run->begin + run->width);
    above = std::min(above, run->h), below = std::max(below, run->h + 1);
  }
  with_best_vectors([=, &s](auto bytes) {
    using V = Pack<S, bytes>;
    S* pixel = to;
    for (Index n = unit.n0; n < unit.n1; ++n) {
      for (Index i = unit.i0; i < unit.i1; ++i) {
        const Index top = i * s.stride[0];
        const S* const image = x + n * s.H * length;
        const bool between = top + above >= 0 && top + below <= s.H;
        for (Index j = 0; j < J; ++j, pixel += span) {
          // Each run writes over what the one before wrote too far.
          if (between && left + j * step >= 0 && right + j * step <= length) {
            for (const PatchRun* run = first; run < last; ++run) {
              const S* const from = image + (top + run->h) * length + run->begin + j * step;
              for (Index c = 0; c < run->width; c += V::lanes) store<V>(pixel + run->column + c, load<V>(from + c));
            }
            continue;
          }
          for (const PatchRun* run = first; run < last; ++run) {
            const Index h = top + run->h, begin = run->begin + j * step, width = run->width;
            S* const column = pixel + run->column;
            for (Index c = 0; c < width; c += V::lanes) store<V>(column + c, V());
            const Index skipped = std::max<Index>(0, -begin), end = std::min(width, length - begin);
            if (h >= 0 && h < s.H) copy_part(image + h * length + begin + skipped, end - skipped, column + skipped);
          }
        }
      }
    }
  });
}

/// Columns of pixels that are `step` elements apart, dealt to tiles of `rows` columns. Each goes to a place of its own,
/// (pixels, rows), `tile_step` elements apart, which has room for one more vector. What is read is read in one go.
template <typename S>
void copy_tiles(const S* from, Index step, Index pixels, Index tiles, Index rows, S* to, Index tile_step) {
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    for (Index first = 0; first < pixels; first += 16) {
      const Index last = std::min<Index>(pixels, first + 16);
      for (Index tile = 0; tile < tiles; ++tile) {
        for (Index p = first; p < last; ++p) {
          for (Index c = 0; c < rows; c += V::lanes) {
            store<V>(to + tile * tile_step + p * rows + c, load<V>(from + p * step + tile * rows + c));
          }
        }
      }
    }
  });
}

/// A part of a sum of products, which is panels of x by tiles of dy: from `panel` to before `last_panel`, and so on.
struct SumPart {
  Index panel, last_panel, tile, last_tile;

  Index panels() const { return last_panel - panel; }
  Index tiles() const { return last_tile - tile; }

  /// The i-th of so many, cut along the side that leaves the least to each, with what it copies: to copy a panel takes two
  /// thirds of a product, to copy a tile one.
  SumPart part(Index i, Index count) const {
    const auto most = [&](Index all) { return (all + count - 1) / count; };
    const auto work = [](Index p, Index t) { return 3 * p * t + 2 * p + t; };
    if (work(most(panels()), tiles()) <= work(panels(), most(tiles()))) {
      return {panel + i * panels() / count, panel + (i + 1) * panels() / count, tile, last_tile};
    }
    return part_of_tiles(i, count);
  }
  SumPart part_of_tiles(Index i, Index count) const {
    return {panel, last_panel, tile + i * tiles() / count, tile + (i + 1) * tiles() / count};
  }
};

/// dweight[k, r, s, c] = Σ_pixels dy[p, k] · x[p·stride − padding + (r, s)·dilation, c].   Assigned, not added.
///
/// Where the weights are few and the pixels many, these are dealt to 8 to 16 partial sums, which are added in order at the end.
/// Else there is one sum. Two or three threads make a part of it each, from what they copy themselves; more share out each
/// unit of pixels by panels of x and, where those are few, by tiles of dy. What many tiles read is copied first, since
/// columns of pixels far apart would push each other out of the cache.
template <typename S>
class DirectWeightGradient {
 public:
  DirectWeightGradient(const S* x, const S* dy, const ConvolutionShape& s)
      : x_(x), dy_(dy), s_(s), I_(s.out(0)), J_(s.out(1)), cg_(s.C / s.groups), kg_(s.K / s.groups), row_(s.taps() * cg_),
        panels_(row_, micro_kernels<S>().widest_outer), rows_(micro_kernels<S>().outer_rows[panels_.width - 1]),
        tiles_((kg_ + rows_ - 1) / rows_), copies_(tiles_ >= 4 || J_ == 1),
        units_(s.N, I_, J_, copies_ ? 256 : std::max(s.C, s.K)), room_(units_.images * units_.rows * J_) {}

  void run(S* dweight) const {
    const Index size = s_.K * row_, count = units_.count(), threads = detail::threads_here();
    if (count == 0) std::fill_n(dweight, size, S(0));
    const Index parts = size <= 65536 && count >= 8 ? std::min<Index>(count, 16) : 1;
    const bool apart = parts > 1 || threads <= 3;  // each thread works by itself
    const Index cuts = parts == 1 && apart && s_.N * I_ * J_ * size >= Index{1} << 22 ? threads : 1;  // of the one sum
    Tensor<S> sums(Shape{parts - 1, size}, uninitialized);  // the first is dweight itself
    S* const others = sums.data();
    const auto sum_of = [&](Index part) { return part == 0 ? dweight : others + (part - 1) * size; };
    parallel_for(parts * cuts, [&](Index job) {
      const Index part = job / cuts;
      const SumPart own = SumPart{0, s_.groups * panels_.count(), 0, tiles_}.part(job % cuts, cuts);
      add_units(part * count / parts, (part + 1) * count / parts, own, apart, sum_of(part));
    });
    for (Index part = 1; part < parts; ++part) add_range<S>(size, dweight, sum_of(part));
  }

 private:
  /// A part of the sum over some units of pixels, assigned; `apart` says not to look for other threads.
  void add_units(Index first, Index last, const SumPart& own, bool apart, S* sum) const {
    if (own.panels() * own.tiles() == 0) return;
    const detail::OffPool alone(apart || room_ * s_.K * row_ < Index{1} << 22);
    const Index shares = apart ? 1 : std::clamp<Index>(16 / own.panels(), 1, own.tiles());  // of each panel
    const Index pieces = apart ? 1 : std::clamp<Index>(16 / s_.groups, 1, own.tiles());     // of what is copied of a group
    const Index jobs = own.panels() * shares, first_group = own.panel / panels_.count();
    Tensor<S> copies(Shape{copies_ ? s_.groups * tiles_ : 0, tile_step()}, uninitialized);
    S* const copy = copies.data();
    for (Index u = first; u < last; ++u) {
      if (copies_) {
        parallel_for(((own.last_panel - 1) / panels_.count() + 1 - first_group) * pieces, [&](Index i) {
          copy_dy(units_.unit(u), first_group + i / pieces, own.part_of_tiles(i % pieces, pieces), copy);
        });
      }
      parallel_ranges(jobs, apart ? jobs : (jobs + 15) / 16, [&](Index begin, Index end) {
        Tensor<S> x_copy(Shape{room_ + 1, panels_.width * panels_.lanes}, uninitialized);
        for (Index i = begin; i < end; ++i) {
          // In the order of the shares, as the copies were made: a thread reads most of what it copied itself.
          const SumPart share = own.part_of_tiles(i / own.panels(), shares);
          add_panel(u, own, own.panel + i % own.panels(), share.tile, share.last_tile, copy, x_copy.data(), u > first, sum);
        }
      });
    }
  }

  /// Copies tiles of group g.
  void copy_dy(const PixelUnits::Unit& unit, Index g, const SumPart& part, S* copy) const {
    copy_tiles(dy_of(unit) + g * kg_ + part.tile * rows_, s_.K, pixels_of(unit), part.tiles(), rows_,
               copy + (g * tiles_ + part.tile) * tile_step(), tile_step());
  }

  /// Adds the products of a panel with some tiles, over the pixels of unit u, to the sum.
  void add_panel(Index u, const SumPart& own, Index panel, Index tile, Index last_tile, const S* copy, S* x_copy,
                 bool accumulate, S* sum) const {
    const PixelUnits::Unit unit = units_.unit(u);
    const Ahead dy_ahead = rows_of_unit(units_, u + 1, dy_, I_, J_ * s_.K, 1, 1);
    const Ahead x_ahead = rows_of_unit(units_, u + 1, x_, s_.H, s_.W * s_.C, s_.stride[0], s_.kernel[0]);
    const Index g = panel / panels_.count(), p = panel % panels_.count(), width = panels_.width_of(p);
    const Index column = panels_.first_column(p), columns = panels_.columns_of(p), span = width * panels_.lanes;
    copy_patches(x_, s_, unit, patch_runs(s_, g, column, column + columns), span, x_copy);
    for (; tile < last_tile; ++tile) {
      const Index k = tile * rows_, step = (panel - own.panel) * own.tiles() + tile - own.tile;
      // Asks for what the next unit reads: in even steps of dy, in the others of x.
      const Ahead ahead = (step % 2 == 0 ? dy_ahead : x_ahead).part(step / 2, (own.panels() * own.tiles() + 1) / 2);
      const S* const of_tile = copies_ ? copy + (g * tiles_ + tile) * tile_step() : dy_of(unit) + g * kg_ + k;
      micro_kernels<S>().outer[panels_.width - 1][width - 1](
          of_tile, copies_ ? rows_ : s_.K, x_copy, span, pixels_of(unit), sum + (g * kg_ + k) * row_ + column, row_,
          std::min(rows_, kg_ - k), columns, accumulate, ahead.runs(1, pixels_of(unit) / products_an_ask).next());
    }
  }

  Index pixels_of(const PixelUnits::Unit& unit) const { return (unit.n1 - unit.n0) * (unit.i1 - unit.i0) * J_; }
  /// Where the unit's rows begin, which follow each other.
  const S* dy_of(const PixelUnits::Unit& unit) const { return dy_ + (unit.n0 * I_ + unit.i0) * J_ * s_.K; }
  /// From one tile's copy to the next.
  Index tile_step() const { return room_ * rows_ + panels_.lanes; }

  const S *x_, *dy_;
  ConvolutionShape s_;
  Index I_, J_, cg_, kg_, row_;  // numbers of the results' rows and columns, of a group's channels, of a weight's row
  Panels<S> panels_;             // of a row, for each group
  Index rows_, tiles_;           // of dy's channels: in a tile, and tiles of a group
  bool copies_;                  // whether dy is copied
  PixelUnits units_;
  Index room_;                   // for the pixels of a unit
};

/// c (M, N) = aᵀ · b,  a (K, M), b (K, N): the weight gradient of a convolution of 1 × 1 taps over K images of one pixel.
template <typename S>
void matmul_at(ConstMatrixMap<S> a, ConstMatrixMap<S> b, MatrixMap<S> c) {
  const ConvolutionShape shape{.N = a.rows(), .H = 1, .W = 1, .C = b.cols(), .K = a.cols(), .kernel = {1, 1},
                               .stride = {1, 1}, .padding = {0, 0}, .dilation = {1, 1}, .groups = 1};
  DirectWeightGradient<S>(b.data(), a.data(), shape).run(c.data());
}

}  // namespace residua::inline RESIDUA_ABI::kernels
