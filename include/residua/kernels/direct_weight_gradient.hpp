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
  /// thirds of a product, to copy a tile one third.
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
/// Else there is one sum. Up to three threads make a part of it each, from what they copy themselves; more share out each
/// unit of pixels by panels of x and, where those are few, by tiles of dy. What many tiles read is copied first, since
/// columns of pixels far apart would push each other out of the cache.
template <typename S>
class DirectWeightGradient {
 public:
  DirectWeightGradient(const S* x, const S* dy, S* dweight, const ConvolutionShape& s)
      : x_(x), dy_(dy), dweight_(dweight), s_(s), J_(s.out(1)), kg_(s.K / s.groups), row_(s.taps() * (s.C / s.groups)),
        panels_(row_, micro_kernels<S>().widest_outer), rows_(micro_kernels<S>().outer_rows[panels_.width - 1]),
        tiles_((kg_ + rows_ - 1) / rows_), copies_(tiles_ >= 4 || J_ == 1),
        units_(s.N, s.out(0), J_, copies_ ? 256 : std::max(s.C, s.K)), room_(units_.images * units_.rows * J_) {}

  void run() const {
    const Index size = s_.K * row_, count = units_.count(), threads = detail::threads_here();
    if (count == 0) std::fill_n(dweight_, size, S(0));
    const Index parts = size <= 65536 && count >= 8 ? std::min<Index>(count, 16) : 1;
    const bool apart = parts > 1 || threads <= 3;  // each thread works by itself
    const Index cuts = parts == 1 && apart && s_.multiply_adds() >= worth_sharing ? threads : 1;  // of the one sum
    Tensor<S> sums(Shape{parts - 1, size}, uninitialized);  // the first is dweight itself
    S* const others = sums.data();
    const auto sum_of = [&](Index part) { return part == 0 ? dweight_ : others + (part - 1) * size; };
    parallel_for(parts * cuts, [&](Index job) {
      const Index part = job / cuts;
      const SumPart own = SumPart{0, s_.groups * panels_.count(), 0, tiles_}.part(job % cuts, cuts);
      add_units(part * count / parts, (part + 1) * count / parts, own, apart, sum_of(part));
    });
    for (Index part = 1; part < parts; ++part) add_range<S>(size, dweight_, sum_of(part));
  }

 private:
  static constexpr Index worth_sharing = Index{1} << 22;  // multiply-adds

  /// A unit of pixels, and what is asked for meanwhile: what the next one reads.
  struct Unit {
    PixelUnits::Unit unit;
    Index pixels;
    const S* dy;  // its rows, which follow each other
    Ahead x_ahead, dy_ahead;
  };
  Unit unit(Index u) const {
    const Index I = units_.I;
    const PixelUnits::Unit own = units_.unit(u);
    return {own, (own.n1 - own.n0) * (own.i1 - own.i0) * J_, dy_ + (own.n0 * I + own.i0) * J_ * s_.K,
            rows_of_unit(units_, u + 1, x_, s_.H, s_.W * s_.C, s_.stride[0], (s_.kernel[0] - 1) * s_.dilation[0] + 1),
            rows_of_unit(units_, u + 1, dy_, I, J_ * s_.K, 1, 1)};
  }

  /// Where the copy of a tile lies: a part's, group by group.
  struct Copies {
    S* data;
    Index first_group, first_tile, tiles, step;
    S* of(Index g, Index tile) const { return data + ((g - first_group) * tiles + tile - first_tile) * step; }
  };

  /// A part of the sum over some units of pixels, assigned; `apart` says not to look for other threads.
  void add_units(Index first, Index last, const SumPart& own, bool apart, S* sum) const {
    if (own.panels() * own.tiles() == 0) return;
    const detail::OffPool alone(apart || room_ * s_.K * row_ < worth_sharing);
    const Index first_group = own.panel / panels_.count(), groups = (own.last_panel - 1) / panels_.count() + 1 - first_group;
    const Index shares = apart ? 1 : std::clamp<Index>(16 / own.panels(), 1, own.tiles());  // of each panel
    const Index lines = own.tiles() * rows_ * Index(sizeof(S)) / 64;                        // of a group's pixel
    const Index pieces = apart ? 1 : std::clamp<Index>(16 / groups, 1, std::max<Index>(1, lines));  // of its copy
    const Index jobs = own.panels() * shares, step = room_ * rows_ + panels_.lanes;
    Tensor<S> memory(Shape{copies_ ? groups * own.tiles() : 0, step}, uninitialized);
    const Copies copies{memory.data(), first_group, own.tile, own.tiles(), step};
    for (Index u = first; u < last; ++u) {
      const Unit now = unit(u);
      if (copies_) {
        parallel_for(groups * pieces, [&](Index i) {
          const Index g = first_group + i / pieces;
          const SumPart piece = own.part_of_tiles(i % pieces, pieces);
          copy_tiles(now.dy + g * kg_ + piece.tile * rows_, s_.K, now.pixels, piece.tiles(), rows_, copies.of(g, piece.tile),
                     step);
        });
      }
      parallel_ranges(jobs, apart ? jobs : (jobs + 15) / 16, [&](Index begin, Index end) {
        Tensor<S> x_copy(Shape{room_ + 1, panels_.width * panels_.lanes}, uninitialized);
        for (Index i = begin; i < end; ++i) {
          add_panel(now, own, own.panel + i % own.panels(), own.part_of_tiles(i / own.panels(), shares), copies, x_copy.data(),
                    u > first, sum);
        }
      });
    }
  }

  /// Adds the products of a panel with a share of the tiles, over a unit's pixels, to the sum.
  void add_panel(const Unit& now, const SumPart& own, Index panel, const SumPart& share, const Copies& copies, S* x_copy,
                 bool accumulate, S* sum) const {
    const Index g = panel / panels_.count(), p = panel % panels_.count(), width = panels_.width_of(p);
    const Index column = panels_.first_column(p), columns = panels_.columns_of(p), span = width * panels_.lanes;
    const auto kernel = micro_kernels<S>().outer[panels_.width - 1][width - 1];
    copy_patches(x_, s_, now.unit, patch_runs(s_, g, column, column + columns), span, x_copy);
    for (Index tile = share.tile; tile < share.last_tile; ++tile) {
      const Index k = tile * rows_, step = (panel - own.panel) * own.tiles() + tile - own.tile;
      // Asks in even steps for dy's, in the others for x's.
      const Ahead ahead = (step % 2 == 0 ? now.dy_ahead : now.x_ahead).part(step / 2, (own.panels() * own.tiles() + 1) / 2);
      kernel(copies_ ? copies.of(g, tile) : now.dy + g * kg_ + k, copies_ ? rows_ : s_.K, x_copy, span, now.pixels,
             sum + (g * kg_ + k) * row_ + column, row_, std::min(rows_, kg_ - k), columns, accumulate,
             ahead.runs(1, now.pixels / products_an_ask).next());
    }
  }

  const S *x_, *dy_;
  S* dweight_;
  ConvolutionShape s_;
  Index J_, kg_, row_;  // pixels in a row of results, channels of a group of them, numbers in a weight's row
  Panels<S> panels_;    // of such a row, for each group
  Index rows_, tiles_;  // of dy's channels: in a tile; tiles of a group
  bool copies_;         // whether dy is copied
  PixelUnits units_;
  Index room_;  // for the pixels of a unit
};

/// c (M, N) = aᵀ · b,  a (K, M), b (K, N): the weight gradient of a convolution of 1 × 1 taps over K images of one pixel.
template <typename S>
void matmul_at(ConstMatrixMap<S> a, ConstMatrixMap<S> b, MatrixMap<S> c) {
  const ConvolutionShape shape{.N = a.rows(), .H = 1, .W = 1, .C = b.cols(), .K = a.cols(), .kernel = {1, 1},
                               .stride = {1, 1}, .padding = {0, 0}, .dilation = {1, 1}, .groups = 1};
  DirectWeightGradient<S>(b.data(), a.data(), c.data(), shape).run();
}

}  // namespace residua::inline RESIDUA_ABI::kernels
