// The weight gradient of a convolution of any kernel, stride, padding, dilation and groups: a sum over pixels of outer
// products. Letters as in convolution_shape.hpp.
#pragma once

#include <algorithm>
#include <vector>

#include <residua/kernels/direct_convolution.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Columns of pixels, copied so that they follow each other: (pixels, width) of rows of J pixels that are `step` elements
/// apart. Copies whole vectors: `to` has room for one more.
template <typename S, typename RowOf>
void copy_columns(Index rows, Index J, const RowOf& row_of, Index step, Index width, S* to) {
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    S* pixel = to;
    for (Index r = 0; r < rows; ++r) {
      const S* from = row_of(r);
      for (Index j = 0; j < J; ++j, from += step, pixel += width) {
        for (Index c = 0; c < width; c += V::lanes) store<V>(pixel + c, load<V>(from + c));
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
/// The units of work are dealt to at most 16 partial sums, which are added in order at the end; where the weights are
/// large there are fewer of them, and each is shared out by tiles of dy and panels of x instead. What many tiles read is
/// copied first, since columns of pixels far apart would push each other out of the cache.
template <typename S>
void direct_weight_gradient(const S* x, const S* dy, S* dweight, const ConvolutionShape& s) {
  const auto& kernels = micro_kernels<S>();
  const Index I = s.out(0), J = s.out(1), cg = s.C / s.groups, kg = s.K / s.groups;
  const bool whole_rows = rows_are_one(s);
  const Index across = whole_rows ? 1 : s.kernel[1], width = whole_rows ? s.kernel[1] * cg : cg;
  const Index row = s.taps() * cg, size = s.K * row;
  const Panels<S> panels(width);
  const Index tile_rows = kernels.outer_rows[panels.width - 1], tiles = (kg + tile_rows - 1) / tile_rows;
  const Index all_panels = s.kernel[0] * across * panels.count();  // of all taps
  const bool copies = tiles >= 4 || J == 1;

  const PixelUnits units(s.N, I, J, copies ? 256 : std::max(s.C, s.K));
  const Index parts = std::clamp<Index>(std::min(units.count(), (Index{1} << 22) / size), 1, 16);
  const Index shares = std::clamp<Index>(s.multiply_adds() >> 20, 1, 16) / parts;
  const Index tile_shares = std::clamp<Index>(shares / 4, 1, tiles);
  const Index panel_shares = std::clamp<Index>(shares, 1, std::min<Index>(4, all_panels));
  Tensor<S> sums(Shape{parts, size}, uninitialized);
  S* const sum = sums.data();
  if (units.count() == 0) std::fill_n(sum, size, S(0));

  parallel_for(parts * tile_shares * panel_shares, [&](Index job) {
    const Index part = job / (tile_shares * panel_shares), t = job / panel_shares % tile_shares, v = job % panel_shares;
    const Index tile0 = t * tiles / tile_shares, tile1 = (t + 1) * tiles / tile_shares;
    const Index panel0 = v * all_panels / panel_shares, panel1 = (v + 1) * all_panels / panel_shares;
    const Index room = units.images * units.rows * J;
    const Index tile_step = room * tile_rows + kernels.lanes;
    Tensor<S> dy_copy(Shape{copies ? tile1 - tile0 : 0, tile_step}, uninitialized);
    Tensor<S> x_copy(Shape{copies ? room : 0, panels.width * panels.lanes}, uninitialized);
    const Index first = part * units.count() / parts, last = (part + 1) * units.count() / parts;
    for (Index u = first; u < last; ++u) {
      const auto [n0, n1, i0, i1] = units.unit(u);
      const Slab<S> slab(x, s.H, s.W, s.C, n0, n1, i0 * s.stride[0] - s.padding[0],
                         (i1 - 1) * s.stride[0] - s.padding[0] + (s.kernel[0] - 1) * s.dilation[0] + 1, -s.padding[1],
                         (J - 1) * s.stride[1] - s.padding[1] + (s.kernel[1] - 1) * s.dilation[1] + 1);
      const Index height = i1 - i0, rows = (n1 - n0) * height;
      const Ahead dy_ahead = rows_of_unit(units, u + 1, dy, I, J * s.K, 1);
      const Ahead x_ahead = rows_of_unit(units, u + 1, x, s.H, s.W * s.C, s.stride[0]);
      const Index steps = s.groups * (panel1 - panel0) * (tile1 - tile0);
      Index step = 0;
      std::vector<Segment<S>, detail::CachedAllocator<Segment<S>>> segments(
          static_cast<std::size_t>(copies ? 1 : rows));
      for (Index g = 0; g < s.groups; ++g) {
        const S* const of_group = dy + (n0 * I + i0) * J * s.K + g * kg;  // the unit's rows of dy follow each other
        if (copies) {
          copy_tiles(of_group + tile0 * tile_rows, s.K, rows * J, tile1 - tile0, tile_rows, dy_copy.data(), tile_step);
        }
        for (Index panel = panel0; panel < panel1; ++panel) {
          const Index tap = panel / panels.count(), p = panel % panels.count();
          const Index shift = slab.offset(tap / across * s.dilation[0], tap % across * s.dilation[1]) + g * cg;
          const Index column = panels.first_column(p), span = panels.width_of(p) * panels.lanes;
          const auto x_row = [&](Index r) {
            return slab.pixel(r / height, r % height * s.stride[0], 0) + shift + column;
          };
          if (copies) copy_columns(rows, J, x_row, s.stride[1] * s.C, span, x_copy.data());
          for (Index tile = tile0; tile < tile1; ++tile, ++step) {
            dy_ahead.part(step, steps).ask();
            x_ahead.part(step, steps).ask();
            const Index k = tile * tile_rows;
            const S* const a = copies ? dy_copy.cdata() + (tile - tile0) * tile_step : of_group + k;
            if (copies) segments[0] = {a, x_copy.cdata(), rows * J};
            for (Index r = 0; !copies && r < rows; ++r) {
              segments[static_cast<std::size_t>(r)] = {a + r * J * s.K, x_row(r), J};
            }
            kernels.outer[panels.width - 1][panels.width_of(p) - 1](
                segments.data(), static_cast<Index>(segments.size()), copies ? tile_rows : s.K,
                copies ? span : s.stride[1] * s.C, sum + part * size + (g * kg + k) * row + tap * width + column, row,
                std::min(tile_rows, kg - k), panels.columns_of(p), u > first);
          }
        }
      }
    }
  });
  std::copy_n(sum, size, dweight);
  for (Index part = 1; part < parts; ++part) add_range<S>(size, dweight, sum + part * size);
}

/// c (M, N) = aᵀ · b,  a (K, M), b (K, N): the weight gradient of a convolution of 1 × 1 taps over K images of one pixel.
template <typename S>
void matmul_at(ConstMatrixMap<S> a, ConstMatrixMap<S> b, MatrixMap<S> c) {
  direct_weight_gradient(b.data(), a.data(), c.data(),
                         {.N = a.rows(), .H = 1, .W = 1, .C = b.cols(), .K = a.cols(), .kernel = {1, 1},
                          .stride = {1, 1}, .padding = {0, 0}, .dilation = {1, 1}, .groups = 1});
}

}  // namespace residua::inline RESIDUA_ABI::kernels
