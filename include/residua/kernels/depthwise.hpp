// Convolutions whose groups are narrow: each channel by taps of its own, C = K = G, or by taps of the few channels of its
// group.
//
// Pixels are found through tables of pointers, which lead to zeros outside of the image. The input gradient is the same
// sum over dy with the taps turned, and with zeros put between its pixels where the stride was larger than one.
#pragma once

#include <algorithm>

#include <residua/kernels/convolution_shape.hpp>
#include <residua/kernels/depthwise_kernels.hpp>
#include <residua/kernels/matmul.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Whether the channels of a convolution are computed so: its groups are as wide as the kernels know, and where that is more
/// than one channel there are three neighbouring taps in a row, and the results are neighbours or two pixels apart.
template <typename S>
bool narrow_groups(const ConvolutionShape& s) {
  const Index width = s.C / s.groups;
  if (s.C != s.K || s.groups == 1 || s.algorithm == ConvAlgorithm::winograd) return false;
  if (width == 1) return true;
  const bool suits = s.kernel[1] == 3 && s.stride[1] <= 2 && s.dilation[1] == 1;
  return vector_size() == 64 && (width == 4 || width == 8) && suits;
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
      source.take(across), second.take(across);
      for (Index j = 0; j < J; j += depthwise_pixels) {
        S* to[depthwise_pixels];
        for (Index p = 0; p < depthwise_pixels; ++p) to[p] = j + p < J ? y + (row * J + j + p) * s.C : outside.data();
        source.take(across).ask();
        second.take(across).ask();
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

/// dweight[k, r, s, c] = Σ_pixels dy · x, where narrow_groups. The rows of dy are dealt to up to 16 partial sums,
/// added in order at the end; fewer where there are so few pixels that to add them up would take longer.
template <typename S>
void depthwise_weight_gradient(const S* x, const S* dy, S* dweight, const ConvolutionShape& s) {
  const auto kernel = RESIDUA_BEST(depthwise_taps, S);
  const Index I = s.out(0), J = s.out(1), width = s.C / s.groups;
  const Index parts = std::clamp<Index>(s.N * I * J / 96, 1, std::clamp<Index>(s.N * I, 1, 16));
  const Index taps = (s.kernel[1] + depthwise_taps - 1) / depthwise_taps * depthwise_taps;
  const Index row_size = width > 1 ? 3 * width * in_whole_vectors<S>(s.C) : taps * s.C, size = s.kernel[0] * row_size;
  Tensor<S> sums(Shape{parts, size}, uninitialized);
  S* const sum = sums.data();
  parallel_for(parts, [&](Index part) {
    std::fill_n(sum + part * size, size, S(0));
    DepthwiseTables<S> tables(s, {s.H, 1}, {s.W, 1}, s.stride, s.padding, J);
    const detail::Scratch<S*> to(s.kernel[0]);
    for (Index row = part * s.N * I / parts; row < (part + 1) * s.N * I / parts; ++row) {
      const DepthwiseRows<S> rows = tables.row(x + row / I * s.H * s.W * s.C, row % I, [&](Index i, Index r) {
        to[i] = sum + part * size + r * row_size;
      });
      if (row + 1 < s.N * I) {
        tables.newest(x + (row + 1) / I * s.H * s.W * s.C, (row + 1) % I).take(Index(sizeof(S)) * s.W * s.C).ask();
        Ahead(dy + (row + 1) * J * s.C, J * s.C).ask();
      }
      kernel(rows, s.C, dy + row * J * s.C, J, to.data());
    }
  });
  parallel_ranges(size, 4096, [&](Index first, Index last) {
    for (Index part = 1; part < parts; ++part) add_range<S>(last - first, sum + first, sum + part * size + first);
  });
  const Index vector = width > 1 ? micro_kernels<S>().lanes : s.C;  // channels whose sums are neighbours
  for (Index group = 0; group < s.C; group += width) {
    const S* const of_group = sum + group / vector * 3 * width * vector + group % vector;
    for (Index k = 0; k < width; ++k) {
      for (Index t = 0; t < s.taps(); ++t) {
        const S* const of_tap = of_group + t / s.kernel[1] * row_size + t % s.kernel[1] * width * vector;
        // Channel c of the group met k after as many turns as k is ahead.
        for (Index c = 0; c < width; ++c) *dweight++ = of_tap[(k < c ? k - c + width : k - c) * vector + c];
      }
    }
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
