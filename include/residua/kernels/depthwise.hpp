// Convolutions whose groups are narrow: each channel by taps of its own, C = K = G, or by taps of the few channels of its
// group. With groups of `width` channels, and c + i counted around in channel c's group,
//
//     y[n, h, w, c] = Σ_{r, s, i} w[r, s, i, c] · x[n, h·stride − padding + r·dilation, w·stride − padding + s·dilation, c + i]
//
// so that a vector of channels c takes all its factors from the very vector of x that it stands over, which is turned by one
// channel from i to i: `next_in_group`.
// Pixels are found through tables of pointers, which lead to zeros outside of the image. The input gradient is the same
// sum over dy with the taps turned, and with zeros put between its pixels where the stride was larger than one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <residua/kernels/convolution_shape.hpp>
#include <residua/kernels/matmul.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// What a row of results is made of: for each row of taps that meets the source, where its pixels lie. Result p and tap s
/// meet at pixel p · step + s · dilation.
template <typename S>
struct DepthwiseRows {
  const S* const* const* pixels;
  Index count;  // of rows of taps
  Index taps, step, dilation;
  Index width = 1;  // of a group
};

inline constexpr int depthwise_pixels = 8, depthwise_taps = 4;

/// y[p] = Σ_{r, s, i} weights[r][s, i] ⊙ (the pixel pixels[r][p · step + s · dilation], i lanes on in each group) for eight
/// results.
template <typename S>
using DepthwiseKernel = void (*)(DepthwiseRows<S> rows, const S* const* weights, Index channels, S* const* y,
                                 Epilogue<S> end);

/// sums[r][s] += Σ_p dy[p] ⊙ pixels[r][p · step + s · dilation]; taps in fours: sums has room for a multiple of 4.
template <typename S>
using DepthwiseTapsKernel = void (*)(DepthwiseRows<S> rows, Index channels, const S* dy, Index dy_pixels,
                                     S* const* sums);

namespace depthwise {

// Each lane takes the number of the next one in its group of `width`, the last that of the first. For each instruction set a
// function of its own, since g++ takes longer vectors apart before a function is inlined.
#define RESIDUA_NEXT_IN_GROUP(ISA, TARGET, BYTES)                                                               \
  template <Index width, typename V, std::size_t... lane>                                                      \
  TARGET inline void next_in_group(V& v, std::integral_constant<Index, BYTES>, std::index_sequence<lane...>) { \
    v = __builtin_shufflevector(v, v, (Index(lane) / width * width + (Index(lane) + 1) % width)...);           \
  }
RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_NEXT_IN_GROUP)
#undef RESIDUA_NEXT_IN_GROUP

/// sum[p] += Σ_{s, i} weights[s, i] ⊙ (the pixel x[p · step + s · dilation], i lanes on in each group), at the vector of
/// channels that begins with c. With `row`, a number of neighbouring taps, and the step each pixel is read once. Else row = 0,
/// and `step` says nothing.
template <Index bytes, Index row, Index width, Index step, typename S, typename V>
RESIDUA_INLINE void add_row(const DepthwiseRows<S>& rows, const S* const* x, const S* weights, Index c, Index channels,
                            V (&sum)[depthwise_pixels]) {
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr std::integral_constant<Index, bytes> vector;
  constexpr std::make_index_sequence<static_cast<std::size_t>(bytes) / sizeof(S)> lanes;
  weights += c;
  if constexpr (row > 0) {
    constexpr int count = (depthwise_pixels - 1) * int(step) + int(row);
    V pixel[count];
    if constexpr (width > 1) {
      RESIDUA_UNROLL for (int q = 0; q < count; ++q) pixel[q] = *reinterpret_cast<const InMemory*>(x[q] + c);
    }
    for (Index i = 0; i < width; ++i, weights += channels) {
      V weight[row];
      RESIDUA_UNROLL for (int s = 0; s < row; ++s) {
        weight[s] = *reinterpret_cast<const InMemory*>(weights + s * width * channels);
      }
      RESIDUA_UNROLL for (int q = 0; q < count; ++q) {
        if constexpr (width == 1) pixel[q] = *reinterpret_cast<const InMemory*>(x[q] + c);
        RESIDUA_UNROLL for (int s = 0; s < row; ++s) {
          const int p = (q - s) / int(step);
          if (q >= s && p * step == q - s && p < depthwise_pixels) sum[p] += pixel[q] * weight[s];
        }
        if constexpr (width > 1) next_in_group<width>(pixel[q], vector, lanes);
      }
    }
  } else {
    for (Index s = 0; s < rows.taps; ++s, x += rows.dilation) {
      V pixel[depthwise_pixels];
      if constexpr (width > 1) {
        RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) {
          pixel[p] = *reinterpret_cast<const InMemory*>(x[p * rows.step] + c);
        }
      }
      for (Index i = 0; i < width; ++i, weights += channels) {
        const V weight = *reinterpret_cast<const InMemory*>(weights);
        RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) {
          if constexpr (width == 1) pixel[p] = *reinterpret_cast<const InMemory*>(x[p * rows.step] + c);
          sum[p] += pixel[p] * weight;
          if constexpr (width > 1) next_in_group<width>(pixel[p], vector, lanes);
        }
      }
    }
  }
}

/// The same for all rows of taps.
template <Index bytes, Index row, Index width, Index step = 1, typename S, typename V>
RESIDUA_INLINE void add_rows(const DepthwiseRows<S>& rows, const S* const* weights, Index c, Index channels,
                             V (&sum)[depthwise_pixels]) {
  for (Index r = 0; r < rows.count; ++r) {
    add_row<bytes, row, width, step>(rows, rows.pixels[r], weights[r], c, channels, sum);
  }
}

/// The same by the loops that suit the groups and the row of taps, 0 where there are none that read each pixel once. Short
/// vectors are too few to keep the taps of a row, or the channels of a group.
template <Index bytes, typename S, typename V>
RESIDUA_INLINE void add_suitable_rows(Index row, Index width, const DepthwiseRows<S>& rows, const S* const* weights, Index c,
                                      Index channels, V (&sum)[depthwise_pixels]) {
  if constexpr (bytes > 16) {
    if (row == 3 && width == 1 && rows.step == 2) return add_rows<bytes, 3, 1, 2>(rows, weights, c, channels, sum);
    if (row == 3 && width == 1) return add_rows<bytes, 3, 1>(rows, weights, c, channels, sum);
    if (row == 5 && width == 1) return add_rows<bytes, 5, 1>(rows, weights, c, channels, sum);
    if (row == 7 && width == 1) return add_rows<bytes, 7, 1>(rows, weights, c, channels, sum);
  }
  if constexpr (bytes == 64) {
    if (width == 8) return add_rows<bytes, 3, 8>(rows, weights, c, channels, sum);
    if (width == 4 && row == 3 && rows.step == 1) return add_rows<bytes, 3, 4>(rows, weights, c, channels, sum);
    if (width == 4) return add_rows<bytes, 0, 4>(rows, weights, c, channels, sum);
  }
  add_rows<bytes, 0, 1>(rows, weights, c, channels, sum);
}

template <Index bytes, typename S>
RESIDUA_INLINE void pixels(DepthwiseRows<S> rows, const S* const* weights, Index channels, S* const* y, Epilogue<S> end) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr Index lanes = bytes / Index(sizeof(S));
  const bool once = rows.dilation == 1 && (rows.step == 1 || (rows.step == 2 && rows.taps == 3));
  const Index row = once ? rows.taps : 0, width = rows.width;
  for (Index c = 0; c < channels; c += lanes) {
    V sum[depthwise_pixels] = {};
    add_suitable_rows<bytes>(row, width, rows, weights, c, channels, sum);
    if (end.bias != nullptr) {
      const V bias = *reinterpret_cast<const InMemory*>(end.bias + c);
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) sum[p] += bias;
    }
    if (end.accumulate) {
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) sum[p] += *reinterpret_cast<const InMemory*>(y[p] + c);
    }
    if (end.relu) {
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) sum[p] = sum[p] < 0 ? V{} : sum[p];
    }
    if (channels - c >= lanes) {
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) *reinterpret_cast<InMemory*>(y[p] + c) = sum[p];
    } else {
      S last[depthwise_pixels][lanes];
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) *reinterpret_cast<InMemory*>(last[p]) = sum[p];
      for (int p = 0; p < depthwise_pixels; ++p) copy_part(last[p], channels - c, y[p] + c);
    }
  }
}

/// to[s · step + l] += sum[s][l] for the first `count` lanes, or all where that is more.
template <Index bytes, typename S, typename V, int taps>
RESIDUA_INLINE void add_to(S* to, Index step, const V (&sum)[taps], Index count) {
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr Index lanes = bytes / Index(sizeof(S));
  if (count >= lanes) {
    RESIDUA_UNROLL for (int s = 0; s < taps; ++s) *reinterpret_cast<InMemory*>(to + s * step) += sum[s];
  } else {  // what follows may be another thread's
    S part[taps][lanes];
    RESIDUA_UNROLL for (int s = 0; s < taps; ++s) *reinterpret_cast<InMemory*>(part[s]) = sum[s];
    for (int s = 0; s < taps; ++s) {
      for (Index l = 0; l < count; ++l) to[s * step + l] += part[s][l];
    }
  }
}

/// sums[r][s] += Σ_p dy[p] ⊙ pixels[r][p + s] for some rows of `row` neighbouring taps, at the vector of channels that begins
/// with c: each pixel is read once.
template <Index bytes, Index row, Index some, typename S>
RESIDUA_INLINE void add_taps(const S* const* const* pixels, Index c, Index channels, const S* dy, Index dy_pixels,
                             S* const* sums) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  V sum[some][row] = {}, window[some][row];
  RESIDUA_UNROLL for (int r = 0; r < some; ++r) {
    RESIDUA_UNROLL for (int s = 0; s < row - 1; ++s) window[r][s] = *reinterpret_cast<const InMemory*>(pixels[r][s] + c);
  }
  for (Index p = 0; p < dy_pixels; ++p) {
    const V d = *reinterpret_cast<const InMemory*>(dy + p * channels + c);
    RESIDUA_UNROLL for (int r = 0; r < some; ++r) {
      window[r][row - 1] = *reinterpret_cast<const InMemory*>(pixels[r][p + row - 1] + c);
      RESIDUA_UNROLL for (int s = 0; s < row; ++s) sum[r][s] += window[r][s] * d;
      RESIDUA_UNROLL for (int s = 0; s < row - 1; ++s) window[r][s] = window[r][s + 1];
    }
  }
  RESIDUA_UNROLL for (int r = 0; r < some; ++r) add_to<bytes>(sums[r] + c, channels, sum[r], channels - c);
}

template <Index bytes, typename S>
RESIDUA_INLINE void taps(DepthwiseRows<S> rows, Index channels, const S* dy, Index dy_pixels, S* const* sums) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  const Index row = bytes > 16 && rows.step == 1 && rows.dilation == 1 ? rows.taps : 0;
  for (Index c = 0; c < channels; c += bytes / Index(sizeof(S))) {
    Index r = 0;
    if constexpr (bytes > 16) {  // as many rows at once as keep the processor busy
      for (; row == 3 && r + 3 <= rows.count; r += 3) {
        add_taps<bytes, 3, 3>(rows.pixels + r, c, channels, dy, dy_pixels, sums + r);
      }
      for (; row == 5 && r < rows.count; ++r) {
        add_taps<bytes, 5, 1>(rows.pixels + r, c, channels, dy, dy_pixels, sums + r);
      }
      for (; row == 7 && r < rows.count; ++r) {
        add_taps<bytes, 7, 1>(rows.pixels + r, c, channels, dy, dy_pixels, sums + r);
      }
    }
    for (; r < rows.count; ++r) {
      for (Index s = 0; s < rows.taps; s += depthwise_taps) {
        const S* const* x = rows.pixels[r] + s * rows.dilation;
        const S* d = dy + c;
        V sum[depthwise_taps] = {};
        for (Index p = 0; p < dy_pixels; ++p, x += rows.step, d += channels) {
          const V v = *reinterpret_cast<const InMemory*>(d);
          RESIDUA_UNROLL for (int t = 0; t < depthwise_taps; ++t) {
            sum[t] += *reinterpret_cast<const InMemory*>(x[t * rows.dilation] + c) * v;
          }
        }
        add_to<bytes>(sums[r] + s * channels + c, channels, sum, channels - c);
      }
    }
  }
}

}  // namespace depthwise

#define RESIDUA_DEPTHWISE(ISA, TARGET, BYTES)                                                                        \
  template <typename S>                                                                                              \
  TARGET void depthwise_pixels_##ISA(DepthwiseRows<S> rows, const S* const* weights, Index channels, S* const* y,    \
                                     Epilogue<S> end) {                                                              \
    depthwise::pixels<BYTES>(rows, weights, channels, y, end);                                                       \
  }                                                                                                                  \
  template <typename S>                                                                                              \
  TARGET void depthwise_taps_##ISA(DepthwiseRows<S> rows, Index channels, const S* dy, Index n, S* const* sums) {    \
    depthwise::taps<BYTES>(rows, channels, dy, n, sums);                                                             \
  }
RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_DEPTHWISE)
#undef RESIDUA_DEPTHWISE

/// Whether the channels of a convolution are computed so: its groups are as wide as the kernels know; of 8 channels where
/// there are three taps in a row, and they and the results are neighbours.
template <typename S>
bool narrow_groups(const ConvolutionShape& s) {
  const Index width = s.C / s.groups;
  if (s.C != s.K || s.groups == 1 || s.algorithm == ConvAlgorithm::winograd) return false;
  if (width == 1) return true;
  const bool neighbours = s.kernel[1] == 3 && s.stride[1] == 1 && s.dilation[1] == 1;
  return vector_size() == 64 && (width == 4 || (width == 8 && neighbours));
}

/// Weights (C, R, S, width) as (R, S, width, C), where number i of channel c is for the i-th channel after it in its group;
/// `turned` as those of the input gradient: by half a turn, and of each group the transpose.
template <typename S>
Tensor<S> depthwise_weights(const S* weight, const ConvolutionShape& s, bool turned) {
  const Index width = s.C / s.groups;
  Tensor<S> result(Shape{s.taps(), width, s.C}, uninitialized);
  S* to = result.data();
  for (Index t = 0; t < s.taps(); ++t) {
    for (Index i = 0; i < width; ++i) {
      for (Index c = 0; c < s.C; ++c) {
        const Index other = (c + i) % width, k = turned ? c / width * width + other : c, of = turned ? c % width : other;
        *to++ = weight[(k * s.taps() + (turned ? s.taps() - 1 - t : t)) * width + of];
      }
    }
  }
  return result;
}

/// The source of a depthwise sum along one axis: position p is pixel p / spread, where that is a whole number and a pixel
/// of the image; else there are zeros.
struct DepthwiseAxis {
  Index size, spread;

  /// The pixel, or −1.
  Index pixel(Index position) const {
    return position >= 0 && position % spread == 0 && position / spread < size ? position / spread : -1;
  }
};

/// The tables for one row of a result.
template <typename S>
class DepthwiseTables {
 public:
  /// Results are `step` positions of the source apart; the first tap of the first is at −origin.
  DepthwiseTables(const ConvolutionShape& s, DepthwiseAxis h, DepthwiseAxis w, const Index (&step)[2],
                  const Index (&origin)[2], Index columns)
      : s_(s), h_(h), w_(w), step_{step[0], step[1]}, origin_{origin[0], origin[1]},
        dilation_(s.kernel[1] == 1 ? 1 : s.dilation[1]),  // of a single tap it says nothing, and may be anything
        length_((columns + depthwise_pixels) * step[1] + (s.kernel[1] + depthwise_taps) * dilation_),
        zeros_(Shape{in_whole_vectors<S>(s.C)}), columns_(length_), pointers_(length_ * s.kernel[0]), pixels_(s.kernel[0]) {
    for (Index p = 0; p < length_; ++p) columns_[p] = w.pixel(p - origin[1]);
  }

  /// For row i of the result, from an image; calls meets(count, r) for the rows of taps that meet it.
  template <typename Meets>
  DepthwiseRows<S> row(const S* image, Index i, Meets&& meets) {
    count_ = 0;
    for (Index r = 0; r < s_.kernel[0]; ++r) {
      const Index h = h_.pixel(i * step_[0] - origin_[0] + r * s_.dilation[0]);
      if (h < 0) continue;
      const S** const to = pointers_.data() + count_ * length_;
      const S *const row = image + h * w_.size * s_.C, *const zeros = zeros_.cdata();
      for (Index p = 0; p < length_; ++p) {
        const Index w = columns_[p];
        to[p] = w < 0 ? zeros : row + w * s_.C;
      }
      pixels_[count_] = to;
      meets(count_++, r);
    }
    return {pixels_.data(), count_, s_.kernel[1], step_[1], dilation_, s_.C / s_.groups};
  }

  /// The row of the source that row i of the result is the first to read, and what follows it; or with `before` one of the
  /// rows before that.
  Ahead newest(const S* image, Index i, Index before = 0) const {
    const Index last = i * step_[0] - origin_[0] + (s_.kernel[0] - 1) * s_.dilation[0];
    const Index h = h_.pixel(last - before), size = w_.size * s_.C;
    return h < 0 ? Ahead() : Ahead(image + h * size, (h_.size - h) * size);
  }

  /// The rows that were returned last, from so many results later on.
  void advance(Index results) {
    for (Index r = 0; r < count_; ++r) pixels_[r] += results * step_[1];
  }

 private:
  const ConvolutionShape& s_;
  DepthwiseAxis h_, w_;
  Index step_[2], origin_[2], dilation_, length_;
  Tensor<S> zeros_;
  detail::Scratch<Index> columns_;  // of the source, or −1
  detail::Scratch<const S*> pointers_;
  detail::Scratch<const S* const*> pixels_;
  Index count_ = 0;  // of rows of taps that meet the image
};

/// y (N, I, J, C) from the images of a source (N, h.size, w.size, C) and weights (R, S, width, C), finished by `end`.
template <typename S>
void depthwise_correlation(const S* x, DepthwiseAxis h, DepthwiseAxis w, const Tensor<S>& weights, S* y, Index I, Index J,
                           const Index (&step)[2], const Index (&origin)[2], const ConvolutionShape& s,
                           const Epilogue<S>& end) {
  const auto kernel = RESIDUA_BEST(depthwise_pixels, S);
  const Index pixel = Index(sizeof(S)) * s.C, across = pixel * (w.size * depthwise_pixels / std::max<Index>(1, J));
  const bool two = step[0] > 1 && s.kernel[0] > 1 && s.dilation[0] == 1;  // rows that no result before has read
  const bool large = s.N * I * J * pixel > Index{8} << 20;  // results that were not in the cache before
  parallel_ranges(s.N * I, std::max<Index>(1, 65536 / (J * s.C)), [&](Index first, Index last) {
    DepthwiseTables<S> tables(s, h, w, step, origin, J);
    const detail::Scratch<const S*> taps(s.kernel[0]);
    Tensor<S> outside(Shape{s.C});
    for (Index row = first; row < last; ++row) {
      const DepthwiseRows<S> rows = tables.row(x + row / I * h.size * w.size * s.C, row % I, [&](Index i, Index r) {
        taps[i] = weights.cdata() + r * s.kernel[1] * (s.C / s.groups) * s.C;
      });
      const S* const image = x + row / I * h.size * w.size * s.C;
      Ahead source = tables.newest(image, row % I), second = two ? tables.newest(image, row % I, 1) : Ahead();
      Ahead results(y + (row * J + depthwise_pixels) * s.C, large && row + 1 < s.N * I ? J * s.C : 0);
      source.take(across), second.take(across);
      for (Index j = 0; j < J; j += depthwise_pixels) {
        S* to[depthwise_pixels];
        for (Index p = 0; p < depthwise_pixels; ++p) to[p] = j + p < J ? y + (row * J + j + p) * s.C : outside.data();
        source.take(across).ask();
        second.take(across).ask();
        results.take(depthwise_pixels * pixel).ask_to_write();
        kernel(rows, taps.data(), s.C, to, end);
        tables.advance(depthwise_pixels);
      }
    }
  });
}

/// y = x ∗ weight, finished by `end`; weights (R, S, width, C) as depthwise_weights makes them.
template <typename S>
void depthwise_convolution(const S* x, const Tensor<S>& weights, S* y, const ConvolutionShape& s,
                           const Epilogue<S>& end) {
  depthwise_correlation(x, {s.H, 1}, {s.W, 1}, weights, y, s.out(0), s.out(1), s.stride, s.padding, s, end);
}

/// dx[h, w] = Σ dy over the pixels whose taps reach (h, w), times those taps.
template <typename S>
void depthwise_input_gradient(const S* dy, const S* weight, S* dx, const ConvolutionShape& s) {
  const Index origin[2] = {s.dilation[0] * (s.kernel[0] - 1) - s.padding[0],
                           s.dilation[1] * (s.kernel[1] - 1) - s.padding[1]};
  depthwise_correlation<S>(dy, {s.out(0), s.stride[0]}, {s.out(1), s.stride[1]}, depthwise_weights(weight, s, true), dx,
                           s.H, s.W, {1, 1}, origin, s, {});
}

/// dweight[c, r, s] = Σ_pixels dy · x. The rows of dy are dealt to up to 16 partial sums, added in order at the end.
template <typename S>
void depthwise_weight_gradient(const S* x, const S* dy, S* dweight, const ConvolutionShape& s) {
  const auto kernel = RESIDUA_BEST(depthwise_taps, S);
  const Index I = s.out(0), J = s.out(1), parts = std::min<Index>(16, s.N * I);
  const Index taps = (s.kernel[1] + depthwise_taps - 1) / depthwise_taps * depthwise_taps;
  const Index size = s.kernel[0] * taps * s.C;
  Tensor<S> sums(Shape{parts, size});
  S* const sum = sums.data();
  parallel_for(parts, [&](Index part) {
    DepthwiseTables<S> tables(s, {s.H, 1}, {s.W, 1}, s.stride, s.padding, J);
    const detail::Scratch<S*> to(s.kernel[0]);
    for (Index row = part * s.N * I / parts; row < (part + 1) * s.N * I / parts; ++row) {
      const DepthwiseRows<S> rows = tables.row(x + row / I * s.H * s.W * s.C, row % I, [&](Index i, Index r) {
        to[i] = sum + part * size + r * taps * s.C;
      });
      if (row + 1 < s.N * I) {
        tables.newest(x + (row + 1) / I * s.H * s.W * s.C, (row + 1) % I).take(Index(sizeof(S)) * s.W * s.C).ask();
        Ahead(dy + (row + 1) * J * s.C, J * s.C).ask();
      }
      kernel(rows, s.C, dy + row * J * s.C, J, to.data());
    }
  });
  for (Index part = 1; part < parts; ++part) add_range<S>(size, sum, sum + part * size);
  for (Index c = 0; c < s.C; ++c) {
    for (Index t = 0; t < s.taps(); ++t) {
      *dweight++ = sum[(t / s.kernel[1] * taps + t % s.kernel[1]) * s.C + c];
    }
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
