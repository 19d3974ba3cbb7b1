// Convolution as the sum it is: of any kernel, stride, padding, dilation and groups. Letters as in convolution_shape.hpp.
//
// Forward and input gradient are the same loop, a correlation: a pixel of the result is a sum over taps of (row of the
// source) · (matrix of the tap). Nothing is unrolled into a patch matrix: the product reads its rows where they lie in the
// source, or in a copy of what is near its border.
#pragma once

#include <algorithm>

#include <residua/kernels/convolution_shape.hpp>
#include <residua/kernels/matmul.hpp>
#include <residua/kernels/windows.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// How the pixels of N images of I × J are dealt out as units of work: several images each, or a band of rows of one. Few
/// pixels with many outputs are one unit, whose work is shared out by outputs; many with few channels are larger units.
struct PixelUnits {
  Index N, I, J, images, rows;

  PixelUnits(Index n, Index i, Index j, Index channels, Index outputs = 0) : N(n), I(i), J(j) {
    const Index most = channels < 16 && n * i * j >= 8192 ? 1024 : 512;
    const Index wanted = outputs >= most && N * I * J <= most ? most : std::clamp<Index>(65536 / channels, 64, most);
    images = std::clamp<Index>(wanted / std::max<Index>(1, I * J), 1, std::max<Index>(1, N));
    rows = I * J <= wanted ? I : std::max<Index>(1, wanted / J);
    rows = std::max<Index>(1, (I + bands() - 1) / std::max<Index>(1, bands()));
  }
  Index bands() const { return (I + rows - 1) / rows; }
  Index count() const { return (N + images - 1) / images * bands(); }

  struct Unit {
    Index n0, n1, i0, i1;
  };
  Unit unit(Index u) const {
    const Index n = u / bands() * images, band = u % bands();  // of about one height
    return {n, std::min(N, n + images), band * I / bands(), (band + 1) * I / bands()};
  }
};

/// What unit u reads, of images with H rows of `row` numbers, where its own rows are `step` apart and each spans so many;
/// nothing where there is no such unit, or where rows are skipped. A border that other units read too is left out.
template <typename S>
Ahead rows_of_unit(const PixelUnits& units, Index u, const S* images, Index H, Index row, Index step, Index span) {
  if (u >= units.count() || step > span) return {};
  const auto [n0, n1, i0, i1] = units.unit(u);
  const Index first = std::min(n0 * H + i0 * step, units.N * H);
  return {images + first * row, std::min((n1 - n0) * (i1 - i0) * step, units.N * H - first) * row};
}

/// The taps of one kernel row are neighbours in memory, and read as one, where nothing lies between them.
inline bool rows_are_one(const ConvolutionShape& s) { return s.groups == 1 && s.dilation[1] == 1; }

/// Whether sums are made along the source's channels, `depth` in a row, since the results have few.
template <typename S>
bool suits_dots(const ConvolutionShape& s, Index results, Index depth) {
  return s.groups == 1 && results > 0 && results <= few_columns && enough_for_dots<S>(depth);
}

/// The same for forward.
template <typename S>
bool forward_suits_dots(const ConvolutionShape& s) {
  return suits_dots<S>(s, s.K, s.C * (rows_are_one(s) ? s.kernel[1] : 1));
}

/// Whether forward is one unit of work, so that each weight is used once.
inline bool is_one_unit(const ConvolutionShape& s) {
  return PixelUnits(s.N, s.out(0), s.out(1), s.C, s.K / s.groups).count() == 1;
}

/// y[n, i, j, :] = Σ_taps x[n, i·step + tap_h, j·step + tap_w, :] · B_tap, for a grid of pixels of y.
template <typename S>
struct Correlation {
  const S* x;
  Index N, H, W, C;      // the source
  S* y;
  Index YH, YW, K;       // the result
  Index first[2] = {0, 0}, every[2] = {1, 1};  // which pixels of the result: first + every · (i, j)
  Index I, J;            // how many of them
  Index step[2];         // pixels of the source from one to the next
  Index origin[2];       // the source's pixel of tap (0, 0) for (i, j) = (0, 0)
  Index reach[2];        // the last tap's distance from tap (0, 0)
  Index groups;

  /// `taps`: distances (h, w) of each tap from tap (0, 0); each reads `depth` elements. `b`: packed, a matrix for each group;
  /// or `few`, the matrix of a single group with few columns, transposed: (K, taps · depth).
  void run(const Index* taps, Index tap_count, Index depth, const Packed<S>& b, const S* few, Epilogue<S> end) const {
    const PixelUnits units(N, I, J, C, K / groups);
    const Index kg = K / groups, cg = C / groups;
    parallel_for(units.count(), [&](Index u) {
      const auto [n0, n1, i0, i1] = units.unit(u);
      const Index top = origin[0] + i0 * step[0], left = origin[1];
      const Index last_row = top + (i1 - 1 - i0) * step[0], last_column = left + (J - 1) * step[1];
      const Windows<S> windows(x, H, W, C, n0, n1, {top, left}, {last_row, last_column}, reach);
      const detail::Scratch<Index> offset(tap_count);
      for (Index t = 0; t < tap_count; ++t) offset[t] = windows.offset(taps[2 * t], taps[2 * t + 1]);
      const Ahead ahead = rows_of_unit(units, u + 1, x, H, W * C, step[0], reach[0] + 1);
      RowTable<S> rows((n1 - n0) * (i1 - i0) * J);
      for (Index n = n0; n < n1; ++n) {
        for (Index i = i0; i < i1; ++i) {
          S* to = y + ((n * YH + first[0] + every[0] * i) * YW + first[1]) * K;
          for (Index j = 0; j < J;) {
            const auto [from, count] = windows.run(n - n0, top + (i - i0) * step[0], left + j * step[1], step[1], J - j);
            rows.add(from, step[1] * C, to + j * every[1] * K, every[1] * K, count);
            j += count;
          }
        }
      }
      if (few != nullptr) return rows.multiply_few(offset.data(), tap_count, depth, few, K, 1, end, ahead);
      for (Index g = 0; g < groups; ++g) {
        Epilogue<S> finish = end;
        if (end.bias != nullptr) finish.bias = end.bias + g * kg;
        // The groups that follow write their columns later, unless they add to what is there.
        const Index room = end.accumulate || tap_count == 0 ? kg : K - g * kg;
        rows.multiply(offset.data(), tap_count, depth, b, g, finish, g * kg, room, ahead.part(g, groups));
        for (Index t = 0; t < tap_count; ++t) offset[t] += cg;  // to the next group's channels
      }
    });
  }
};

/// Weights (K, R, S, C/G) as forward's right-hand sides, (R·S·C/G, K/G) for each group. `where_used`: not packed yet.
template <typename S>
Packed<S> pack_weights(const S* weight, const ConvolutionShape& s, bool where_used = false) {
  const Index depth = s.taps() * (s.C / s.groups), kg = s.K / s.groups;
  const RightSide<S> b{weight, 1, depth, kg * depth};
  if (where_used) return Packed<S>(depth, kg, s.groups, b);
  Packed<S> packed(depth, kg, s.groups);
  packed.fill(0, depth, b);
  return packed;
}

/// y = x ∗ weight, finished by `end` (bias, sum, ReLU).   x (N, H, W, C), y (N, H', W', K). The weights are packed, or `few`,
/// as they are, where forward_suits_dots.
template <typename S>
void direct_convolution(const S* x, const Packed<S>& weights, const S* few, S* y, const ConvolutionShape& s,
                        Epilogue<S> end) {
  const bool whole_rows = rows_are_one(s);
  const Index across = whole_rows ? 1 : s.kernel[1], depth = s.C / s.groups * (whole_rows ? s.kernel[1] : 1);
  const Index tap_count = s.kernel[0] * across;
  const detail::Scratch<Index> taps(2 * tap_count);
  Index* tap = taps.data();
  for (Index r = 0; r < s.kernel[0]; ++r) {
    for (Index c = 0; c < across; ++c) {
      *tap++ = r * s.dilation[0];
      *tap++ = c * s.dilation[1];
    }
  }
  const Correlation<S> forward{.x = x, .N = s.N, .H = s.H, .W = s.W, .C = s.C,
                               .y = y, .YH = s.out(0), .YW = s.out(1), .K = s.K,
                               .I = s.out(0), .J = s.out(1),
                               .step = {s.stride[0], s.stride[1]},
                               .origin = {-s.padding[0], -s.padding[1]},
                               .reach = {(s.kernel[0] - 1) * s.dilation[0], (s.kernel[1] - 1) * s.dilation[1]},
                               .groups = s.groups};
  forward.run(taps.data(), tap_count, depth, weights, few, end);
}

/// The taps that reach one residue class of input pixels: those with (first + padding − r · dilation) divisible by stride.
/// Pixel first + stride · i of the input takes its gradient from pixel i + (first + padding − r · dilation) / stride of dy.
struct ClassTaps {
  Index lowest = 0, highest = -1;  // range of that quotient

  /// Of `width` classes from the first on.
  ClassTaps(const ConvolutionShape& s, int axis, Index first, Index width) {
    for (Index f = first; f < first + width; ++f) {
      for (Index r = 0; r < s.kernel[axis]; ++r) {
        if (!hits(s, axis, f, r)) continue;
        const Index q = quotient(s, axis, f, r);
        lowest = highest < lowest ? q : std::min(lowest, q);
        highest = std::max(highest, q);
      }
    }
  }
  static Index numerator(const ConvolutionShape& s, int axis, Index first, Index r) {
    return first + s.padding[axis] - r * s.dilation[axis];
  }
  static bool hits(const ConvolutionShape& s, int axis, Index first, Index r) {
    return numerator(s, axis, first, r) % s.stride[axis] == 0;
  }
  static Index quotient(const ConvolutionShape& s, int axis, Index first, Index r) {
    return numerator(s, axis, first, r) / s.stride[axis];
  }
  /// The tap with that quotient, or −1.
  static Index tap_of(const ConvolutionShape& s, int axis, Index first, Index q) {
    for (Index r = 0; r < s.kernel[axis]; ++r) {
      if (hits(s, axis, first, r) && quotient(s, axis, first, r) == q) return r;
    }
    return -1;
  }
};

/// dx = dy correlated with the turned weights.   dy (N, H', W', K), weight (K, R, S, C/G), dx (N, H, W, C)
///
/// In forward  y[p] = Σ_r x[p·stride − padding + r·dilation] · w_r, so  dx[h] = Σ_r dy[(h + padding − r·dilation) / stride] · w_rᵀ
/// over the r that divide evenly: with stride s, s × s classes of input pixels, each with its own few taps. The classes of
/// neighbouring columns are computed as one, with zeros for the taps that a class lacks, where together their channels
/// still fit in two vectors; unless there are so few that sums are made along dy's channels. Zero times an infinity is NaN.
template <typename S>
void direct_input_gradient(const S* dy, const S* weight, S* dx, const ConvolutionShape& s) {
  const Index cg = s.C / s.groups, kg = s.K / s.groups;
  const bool suits = suits_dots<S>(s, s.C, s.K);
  const bool together = !suits && s.groups == 1 && s.W % s.stride[1] == 0 && s.stride[1] * s.C <= 2 * micro_kernels<S>().lanes;
  const Index width = together ? s.stride[1] : 1;  // classes at once
  for (Index fh = 0; fh < std::min(s.stride[0], s.H); ++fh) {
    for (Index fw = 0; fw < std::min(s.stride[1], s.W); fw += width) {
      const ClassTaps rows(s, 0, fh, 1), columns(s, 1, fw, width);
      const Index across = columns.highest - columns.lowest + 1;
      const detail::Scratch<Index> tap(s.kernel[0] * across * 2);  // of dy: quotients from the lowest
      const detail::Scratch<Index> number(s.kernel[0] * across * width);  // the weights' tap for each class, or −1
      Index count = 0;
      for (Index r = 0; r < s.kernel[0]; ++r) {
        if (!ClassTaps::hits(s, 0, fh, r)) continue;
        for (Index q = columns.lowest; q <= columns.highest; ++q) {
          bool needed = false;
          for (Index w = 0; w < width; ++w) {
            const Index c = ClassTaps::tap_of(s, 1, fw + w, q);
            number[count * width + w] = c < 0 ? -1 : r * s.kernel[1] + c;
            needed = needed || c >= 0;
          }
          if (!needed) continue;
          tap[2 * count] = ClassTaps::quotient(s, 0, fh, r) - rows.lowest;
          tap[2 * count + 1] = q - columns.lowest;
          ++count;
        }
      }
      const Index row_step = s.taps() * cg;
      const bool few = suits && count > 0;
      Tensor<S> transposed(Shape{few ? s.C : 0, count * s.K}, uninitialized);
      Packed<S> packed(count * kg, width * cg, few ? 0 : s.groups);
      if (few) {
        for (Index t = 0; t < count; ++t) {
          copy_matrix(weight + number[t] * cg, 1, row_step, s.C, s.K, transposed.data() + t * s.K, count * s.K);
        }
      } else if (width == 1) {
        for (Index t = 0; t < count; ++t) packed.fill(t * kg, kg, {weight + number[t] * cg, row_step, 1, kg * row_step});
      } else {
        Tensor<S> side_by_side(Shape{count, s.K, width, s.C});
        S* to = side_by_side.data();
        for (Index i = 0; i < side_by_side.rows(); ++i, to += s.C) {
          const Index t = number[i / (s.K * width) * width + i % width];
          if (t >= 0) std::copy_n(weight + i / width % s.K * row_step + t * s.C, s.C, to);
        }
        packed.fill(0, count * s.K, {side_by_side.cdata(), width * s.C, 1});
      }
      const Correlation<S> backward{.x = dy, .N = s.N, .H = s.out(0), .W = s.out(1), .C = s.K,
                                    .y = dx, .YH = s.H, .YW = s.W / width, .K = s.C * width,
                                    .first = {fh, fw}, .every = {s.stride[0], s.stride[1] / width},
                                    .I = (s.H - fh + s.stride[0] - 1) / s.stride[0],
                                    .J = (s.W - fw + s.stride[1] - 1) / s.stride[1],
                                    .step = {1, 1}, .origin = {rows.lowest, columns.lowest},
                                    .reach = {std::max<Index>(0, rows.highest - rows.lowest),
                                              std::max<Index>(0, columns.highest - columns.lowest)},
                                    .groups = s.groups};
      backward.run(tap.data(), count, kg, packed, few ? transposed.cdata() : nullptr, {});
    }
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
