// Depthwise convolution: each channel by taps of its own, C = K = G.
//
//     y[n, i, j, c] = Σ_{r, s} w[r, s, c] · x[n, i·stride − padding + r·dilation, j·stride − padding + s·dilation, c]
//
// Pixels are found through tables of pointers, which lead to zeros outside of the image. The input gradient is the same
// sum over dy with the taps turned, and with zeros put between its pixels where the stride was larger than one.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

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
};

inline constexpr int depthwise_pixels = 8, depthwise_taps = 4;

/// y[p] = Σ_{r, s} weights[r][s] ⊙ pixels[r][p · step + s · dilation] for eight results.
template <typename S>
using DepthwiseKernel = void (*)(DepthwiseRows<S> rows, const S* const* weights, Index channels, S* const* y,
                                 Epilogue<S> end);

/// sums[r][s] += Σ_p dy[p] ⊙ pixels[r][p · step + s · dilation]; taps in fours: sums has room for a multiple of 4.
template <typename S>
using DepthwiseTapsKernel = void (*)(DepthwiseRows<S> rows, Index channels, const S* dy, Index dy_pixels,
                                     S* const* sums);

namespace depthwise {

/// sum[p] += Σ_s weights[s] ⊙ x[p · step + s · dilation], at the vector of channels that begins with c. With `row`, a number
/// of taps, for neighbouring taps and results of which there are as many: each pixel is read once. Else row = 0.
template <Index bytes, Index row, typename S, typename V>
RESIDUA_INLINE void add_row(const DepthwiseRows<S>& rows, const S* const* x, const S* weights, Index c, Index channels,
                            V (&sum)[depthwise_pixels]) {
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  if constexpr (row > 0) {
    V weight[row];
    RESIDUA_UNROLL for (int s = 0; s < row; ++s) weight[s] = *reinterpret_cast<const InMemory*>(weights + s * channels + c);
    RESIDUA_UNROLL for (int q = 0; q < depthwise_pixels + row - 1; ++q) {
      const V pixel = *reinterpret_cast<const InMemory*>(x[q] + c);
      RESIDUA_UNROLL for (int s = 0; s < row; ++s) {
        if (q - s >= 0 && q - s < depthwise_pixels) sum[q - s] += pixel * weight[s];
      }
    }
  } else {
    for (Index s = 0; s < rows.taps; ++s, x += rows.dilation) {
      const V weight = *reinterpret_cast<const InMemory*>(weights + s * channels + c);
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) {
        sum[p] += *reinterpret_cast<const InMemory*>(x[p * rows.step] + c) * weight;
      }
    }
  }
}

template <Index bytes, Index taps, typename S>
RESIDUA_INLINE void pixels(DepthwiseRows<S> rows, const S* const* weights, Index channels, S* const* y,
                           Epilogue<S> end) {
  typedef S V __attribute__((vector_size(bytes)));
  typedef S InMemory __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr Index lanes = bytes / Index(sizeof(S));
  for (Index c = 0; c < channels; c += lanes) {
    V sum[depthwise_pixels] = {};
    for (Index r = 0; r < rows.count; ++r) add_row<bytes, taps>(rows, rows.pixels[r], weights[r], c, channels, sum);
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
      RESIDUA_UNROLL for (int p = 0; p < depthwise_pixels; ++p) {
        const V last = sum[p];
        std::memcpy(y[p] + c, &last, static_cast<std::size_t>(channels - c) * sizeof(S));
      }
    }
  }
}

template <Index bytes, typename S>
RESIDUA_INLINE void taps(DepthwiseRows<S> rows, Index channels, const S* dy, Index dy_pixels, S* const* sums) {
  typedef S V __attribute__((vector_size(bytes), aligned(sizeof(S)), may_alias));
  constexpr Index lanes = bytes / Index(sizeof(S));
  for (Index c = 0; c < channels; c += lanes) {
    const Index count = std::min(lanes, channels - c);
    for (Index r = 0; r < rows.count; ++r) {
      for (Index s = 0; s < rows.taps; s += depthwise_taps) {
        const S* const* x = rows.pixels[r] + s * rows.dilation;
        const S* d = dy + c;
        V sum[depthwise_taps] = {};
        for (Index p = 0; p < dy_pixels; ++p, x += rows.step, d += channels) {
          const V v = *reinterpret_cast<const V*>(d);
          RESIDUA_UNROLL for (int t = 0; t < depthwise_taps; ++t) {
            sum[t] += *reinterpret_cast<const V*>(x[t * rows.dilation] + c) * v;
          }
        }
        RESIDUA_UNROLL for (int t = 0; t < depthwise_taps; ++t) {
          S* const to = sums[r] + (s + t) * channels + c;
          if (count == lanes) {
            *reinterpret_cast<V*>(to) += sum[t];
          } else {
            for (Index l = 0; l < count; ++l) to[l] += sum[t][l];
          }
        }
      }
    }
  }
}

}  // namespace depthwise

// Short vectors are too few to keep the taps of a row.
#define RESIDUA_DEPTHWISE(ISA, TARGET, BYTES)                                                                        \
  template <typename S>                                                                                              \
  TARGET void depthwise_pixels_##ISA(DepthwiseRows<S> rows, const S* const* weights, Index channels, S* const* y,    \
                                     Epilogue<S> end) {                                                              \
    const bool neighbours = BYTES > 16 && rows.step == 1 && rows.dilation == 1;                                      \
    if (neighbours && rows.taps == 3) {                                                                              \
      depthwise::pixels<BYTES, 3>(rows, weights, channels, y, end);                                                  \
    } else if (neighbours && rows.taps == 7) {                                                                       \
      depthwise::pixels<BYTES, 7>(rows, weights, channels, y, end);                                                  \
    } else {                                                                                                         \
      depthwise::pixels<BYTES, 0>(rows, weights, channels, y, end);                                                  \
    }                                                                                                                \
  }                                                                                                                  \
  template <typename S>                                                                                              \
  TARGET void depthwise_taps_##ISA(DepthwiseRows<S> rows, Index channels, const S* dy, Index n, S* const* sums) {    \
    depthwise::taps<BYTES>(rows, channels, dy, n, sums);                                                             \
  }
RESIDUA_FOR_INSTRUCTION_SETS(RESIDUA_DEPTHWISE)
#undef RESIDUA_DEPTHWISE

/// Weights (C, R, S) as (R, S, C), perhaps turned by half a turn.
template <typename S>
Tensor<S> depthwise_weights(const S* weight, const ConvolutionShape& s, bool turned) {
  Tensor<S> result(Shape{s.taps(), s.C}, uninitialized);
  S* const to = result.data();
  for (Index c = 0; c < s.C; ++c) {
    for (Index t = 0; t < s.taps(); ++t) to[t * s.C + c] = weight[c * s.taps() + (turned ? s.taps() - 1 - t : t)];
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
        zeros_(Shape{s.C}), columns_(static_cast<std::size_t>(length_)),
        pointers_(static_cast<std::size_t>(length_ * s.kernel[0])) {
    pixels_.reserve(static_cast<std::size_t>(s.kernel[0]));
    for (Index p = 0; p < length_; ++p) columns_[static_cast<std::size_t>(p)] = w.pixel(p - origin[1]);
  }

  /// For row i of the result, from an image; calls meets(count, r) for the rows of taps that meet it.
  template <typename Meets>
  DepthwiseRows<S> row(const S* image, Index i, Meets&& meets) {
    Index count = 0;
    pixels_.clear();
    for (Index r = 0; r < s_.kernel[0]; ++r) {
      const Index h = h_.pixel(i * step_[0] - origin_[0] + r * s_.dilation[0]);
      if (h < 0) continue;
      const S** const to = pointers_.data() + count * length_;
      const S *const row = image + h * w_.size * s_.C, *const zeros = zeros_.cdata();
      for (Index p = 0; p < length_; ++p) {
        const Index w = columns_[static_cast<std::size_t>(p)];
        to[p] = w < 0 ? zeros : row + w * s_.C;
      }
      pixels_.push_back(to);
      meets(count++, r);
    }
    return {pixels_.data(), count, s_.kernel[1], step_[1], dilation_};
  }

  /// The rows that were returned last, from so many results later on.
  void advance(Index results) {
    for (const S* const*& row : pixels_) row += results * step_[1];
  }

 private:
  template <typename T> using List = std::vector<T, detail::CachedAllocator<T>>;
  const ConvolutionShape& s_;
  DepthwiseAxis h_, w_;
  Index step_[2], origin_[2], dilation_, length_;
  Tensor<S> zeros_;
  List<Index> columns_;  // of the source, or −1
  List<const S*> pointers_;
  List<const S* const*> pixels_;
};

/// y (N, I, J, C) from the images of a source (N, h.size, w.size, C) and weights (R, S, C), finished by `end`.
template <typename S>
void depthwise_correlation(const S* x, DepthwiseAxis h, DepthwiseAxis w, const Tensor<S>& weights, S* y, Index I, Index J,
                           const Index (&step)[2], const Index (&origin)[2], const ConvolutionShape& s,
                           const Epilogue<S>& end) {
  const auto kernel = RESIDUA_BEST(depthwise_pixels, S);
  parallel_ranges(s.N * I, std::max<Index>(1, 65536 / (J * s.C)), [&](Index first, Index last) {
    DepthwiseTables<S> tables(s, h, w, step, origin, J);
    std::vector<const S*, detail::CachedAllocator<const S*>> taps(static_cast<std::size_t>(s.kernel[0]));
    Tensor<S> outside(Shape{s.C});
    for (Index row = first; row < last; ++row) {
      const DepthwiseRows<S> rows = tables.row(x + row / I * h.size * w.size * s.C, row % I, [&](Index i, Index r) {
        taps[static_cast<std::size_t>(i)] = weights.cdata() + r * s.kernel[1] * s.C;
      });
      for (Index j = 0; j < J; j += depthwise_pixels) {
        S* to[depthwise_pixels];
        for (Index p = 0; p < depthwise_pixels; ++p) to[p] = j + p < J ? y + (row * J + j + p) * s.C : outside.data();
        if (rows.count > 0 && j + 2 * depthwise_pixels <= J) {  // what comes next is on its way meanwhile
          const Index line = 64 / Index(sizeof(S));
          const S* const* const ahead = rows.pixels[rows.count - 1] + depthwise_pixels * step[1];
          for (Index p = 0; p < depthwise_pixels; ++p) {
            for (Index c = 0; c < s.C; c += line) __builtin_prefetch(ahead[p * step[1]] + c);
          }
        }
        kernel(rows, taps.data(), s.C, to, end);
        tables.advance(depthwise_pixels);
      }
    }
  });
}

/// y = x ∗ weight, finished by `end`; weights (R, S, C) as depthwise_weights makes them.
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
    std::vector<S*, detail::CachedAllocator<S*>> to(static_cast<std::size_t>(s.kernel[0]));
    for (Index row = part * s.N * I / parts; row < (part + 1) * s.N * I / parts; ++row) {
      const DepthwiseRows<S> rows = tables.row(x + row / I * s.H * s.W * s.C, row % I, [&](Index i, Index r) {
        to[static_cast<std::size_t>(i)] = sum + part * size + r * taps * s.C;
      });
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
