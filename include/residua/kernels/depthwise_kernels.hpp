// The innermost loops of convolutions whose groups are narrow, compiled for several instruction sets. With groups of `width`
// channels, and c + i counted around in channel c's group,
//
//     y[n, h, w, c] = Σ_{r, s, i} w[r, s, i, c] · x[n, h·stride − padding + r·dilation, w·stride − padding + s·dilation, c + i]
//
// so that a vector of channels c takes all its factors from the very vector of x that it stands over, which is turned by one
// channel from i to i: `next_in_group`.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include <residua/core/pack.hpp>
#include <residua/kernels/microkernel.hpp>

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

/// sums[r][s, i] += Σ_p (dy[p], i lanes on in each group) ⊙ pixels[r][p · step + s · dilation]. There is room for a multiple of
/// 4 taps. Groups have three in a row, that are neighbours; their sums are (vectors of channels, s, i, lanes), since numbers
/// that lie far apart can push each other out of the cache.
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
/// and width = 1, and `step` says nothing.
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
    for (Index s = 0; s < rows.taps; ++s, x += rows.dilation, weights += channels) {
      const V weight = *reinterpret_cast<const InMemory*>(weights);
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) {
        sum[p] += *reinterpret_cast<const InMemory*>(x[p * rows.step] + c) * weight;
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
    if (width == 8 && rows.step == 2) return add_rows<bytes, 3, 8, 2>(rows, weights, c, channels, sum);
    if (width == 8) return add_rows<bytes, 3, 8>(rows, weights, c, channels, sum);
    if (width == 4 && rows.step == 2) return add_rows<bytes, 3, 4, 2>(rows, weights, c, channels, sum);
    if (width == 4) return add_rows<bytes, 3, 4>(rows, weights, c, channels, sum);
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

/// Of groups: sums[s, i] += Σ_p (dy[p], i lanes on in each group) ⊙ x[p · step + s] for one row of three taps, at the vector of
/// channels that begins with c.
template <Index bytes, Index width, typename S>
RESIDUA_INLINE void add_taps_of_groups(const DepthwiseRows<S>& rows, const S* const* x, Index c, Index channels, const S* dy,
                                       Index dy_pixels, S* sums) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr std::make_index_sequence<static_cast<std::size_t>(bytes) / sizeof(S)> lanes;
  V sum[3 * width] = {};
  for (Index p = 0; p < dy_pixels; ++p, x += rows.step) {
    V d = *reinterpret_cast<const InMemory*>(dy + p * channels + c), pixel[3];
    RESIDUA_UNROLL for (int s = 0; s < 3; ++s) pixel[s] = *reinterpret_cast<const InMemory*>(x[s] + c);
    RESIDUA_UNROLL for (int i = 0; i < width; ++i) {
      RESIDUA_UNROLL for (int s = 0; s < 3; ++s) sum[s * width + i] += pixel[s] * d;
      next_in_group<width>(d, std::integral_constant<Index, bytes>(), lanes);
    }
  }
  constexpr Index vector = bytes / Index(sizeof(S));
  add_to<bytes>(sums + 3 * width * c, vector, sum, vector);
}

template <Index bytes, typename S>
RESIDUA_INLINE void taps(DepthwiseRows<S> rows, Index channels, const S* dy, Index dy_pixels, S* const* sums) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  const Index row = bytes > 16 && rows.step == 1 && rows.dilation == 1 ? rows.taps : 0;
  for (Index c = 0; c < channels; c += bytes / Index(sizeof(S))) {
    Index r = 0;
    if constexpr (bytes == 64) {
      for (; rows.width == 4 && r < rows.count; ++r) {
        add_taps_of_groups<bytes, 4>(rows, rows.pixels[r], c, channels, dy, dy_pixels, sums[r]);
      }
      for (; rows.width == 8 && r < rows.count; ++r) {
        add_taps_of_groups<bytes, 8>(rows, rows.pixels[r], c, channels, dy, dy_pixels, sums[r]);
      }
    }
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

}  // namespace residua::inline RESIDUA_ABI::kernels
