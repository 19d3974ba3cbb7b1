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

/// dweight[k, r, s, c] = Σ_pixels dy[p, k] · x[p·stride − padding + (r, s)·dilation, c].   Assigned, not added.
///
/// Where the weights are few and the pixels many, these are dealt to 8 to 16 partial sums, which are added in order at the end.
/// Else there is one sum, and each unit of pixels is shared out by panels of x and, where those are few, by tiles of dy.
/// What many tiles read is copied first, since columns of pixels far apart would push each other out of the cache.
template <typename S>
void direct_weight_gradient(const S* x, const S* dy, S* dweight, const ConvolutionShape& s) {
  const auto& kernels = micro_kernels<S>();
  const Index I = s.out(0), J = s.out(1), cg = s.C / s.groups, kg = s.K / s.groups;
  const Index row = s.taps() * cg, size = s.K * row;
  const Panels<S> panels(row, kernels.widest_outer);
  const Index tile_rows = kernels.outer_rows[panels.width - 1], tiles = (kg + tile_rows - 1) / tile_rows;
  const Index all_panels = s.groups * panels.count();
  const bool copies = tiles >= 4 || J == 1;

  const PixelUnits units(s.N, I, J, copies ? 256 : std::max(s.C, s.K));
  const Index parts = size <= 65536 && units.count() >= 8 ? std::min<Index>(units.count(), 16) : 1;
  const Index shares = parts > 1 ? 1 : std::clamp<Index>(16 / all_panels, 1, tiles);  // of each panel, tile by tile
  Tensor<S> sums(Shape{parts - 1, size}, uninitialized);  // the first is dweight itself
  S* const others = sums.data();
  const auto sum_of = [=](Index part) { return part == 0 ? dweight : others + (part - 1) * size; };
  if (units.count() == 0) std::fill_n(dweight, size, S(0));

  parallel_for(parts, [&](Index part) {
    const Index room = units.images * units.rows * J, tile_step = room * tile_rows + kernels.lanes;
    const detail::OffPool alone(room * size < Index{1} << 22);
    Tensor<S> dy_copies(Shape{copies ? s.groups * tiles : 0, tile_step}, uninitialized);
    S* const dy_copy = dy_copies.data();
    const Index first = part * units.count() / parts, last = (part + 1) * units.count() / parts;
    for (Index u = first; u < last; ++u) {
      const PixelUnits::Unit unit = units.unit(u);
      const Index pixels = (unit.n1 - unit.n0) * (unit.i1 - unit.i0) * J;
      const S* const unit_dy = dy + (unit.n0 * I + unit.i0) * J * s.K;  // its rows follow each other
      const Ahead dy_ahead = rows_of_unit(units, u + 1, dy, I, J * s.K, 1);
      const Ahead x_ahead = rows_of_unit(units, u + 1, x, s.H, s.W * s.C, s.stride[0]);
      if (copies) {
        parallel_for(s.groups * shares, [&](Index i) {
          const Index g = i % s.groups, share = i / s.groups;
          const Index tile0 = share * tiles / shares, tile1 = (share + 1) * tiles / shares;
          copy_tiles(unit_dy + g * kg + tile0 * tile_rows, s.K, pixels, tile1 - tile0, tile_rows,
                     dy_copy + (g * tiles + tile0) * tile_step, tile_step);
        });
      }
      parallel_ranges(all_panels * shares, parts > 1 ? all_panels : (all_panels * shares + 15) / 16, [&](Index a, Index b) {
        Tensor<S> x_copy(Shape{room + 1, panels.width * panels.lanes}, uninitialized);
        for (Index job = a; job < b; ++job) {
          // In the order of the shares, as the copies were made: a thread reads what it copied itself.
          const Index share = job / all_panels, panel = job % all_panels;
          const Index g = panel / panels.count(), p = panel % panels.count();
          const Index column = panels.first_column(p), span = panels.width_of(p) * panels.lanes;
          copy_patches(x, s, unit, patch_runs(s, g, column, column + panels.columns_of(p)), span, x_copy.data());
          const Index tile0 = share * tiles / shares, tile1 = (share + 1) * tiles / shares;
          for (Index tile = tile0; tile < tile1; ++tile) {
            const Index k = tile * tile_rows, step = panel * tiles + tile;
            // Asks for what the next unit reads: in even steps of dy, in the others of x.
            const Ahead ahead = (step % 2 == 0 ? dy_ahead : x_ahead).part(step / 2, (all_panels * tiles + 1) / 2);
            const S* const of_tile = copies ? dy_copy + (g * tiles + tile) * tile_step : unit_dy + g * kg + k;
            kernels.outer[panels.width - 1][panels.width_of(p) - 1](
                of_tile, copies ? tile_rows : s.K, x_copy.cdata(), span, pixels, sum_of(part) + (g * kg + k) * row + column,
                row, std::min(tile_rows, kg - k), panels.columns_of(p), u > first,
                ahead.runs(1, pixels / products_an_ask).next());
          }
        }
      });
    }
  });
  for (Index part = 1; part < parts; ++part) add_range<S>(size, dweight, sum_of(part));
}

/// c (M, N) = aᵀ · b,  a (K, M), b (K, N): the weight gradient of a convolution of 1 × 1 taps over K images of one pixel.
template <typename S>
void matmul_at(ConstMatrixMap<S> a, ConstMatrixMap<S> b, MatrixMap<S> c) {
  direct_weight_gradient(b.data(), a.data(), c.data(),
                         {.N = a.rows(), .H = 1, .W = 1, .C = b.cols(), .K = a.cols(), .kernel = {1, 1},
                          .stride = {1, 1}, .padding = {0, 0}, .dilation = {1, 1}, .groups = 1});
}

}  // namespace residua::inline RESIDUA_ABI::kernels
