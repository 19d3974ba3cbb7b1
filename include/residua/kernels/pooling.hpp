// Pooling: the maximum or the sum over windows of an image, for each channel. Images are (N, H, W, C).
//
// Forward, an output visits the inputs of its window. Backward, an input visits the outputs whose windows cover it: every
// gradient is written once, by one thread, and sums have one order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include <residua/kernels/vector_math.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Positions first … last - 1.
struct Span {
  Index first, last;
  Index size() const { return last - first; }
};

/// The windows along one axis: o's begins at o · stride − padding and holds `kernel` positions `dilation` apart.
struct PoolAxis {
  Index in, out, kernel, stride, padding, dilation;

  /// PyTorch's output size; below 1 where the kernel is larger than the padded input. With `ceil_mode` a last window may
  /// go over the edge, if it begins inside the input or the padding before it.
  PoolAxis(Index size, Index k, Index s, Index p, Index d, bool ceil_mode)
      : in(size), out(0), kernel(k), stride(s), padding(p), dilation(d) {
    const Index room = in + 2 * padding - dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
    if (room >= 0) out = room / stride + 1;
    if (ceil_mode && (out - 1) * stride >= in + padding) --out;
  }

  /// The part of o's window inside the input; its positions are `dilation` apart.
  Span window(Index o) const {
    const Index start = o * stride - padding;
    return {start >= 0 ? start : start + (dilation - 1 - start) / dilation * dilation,
            std::min(in, start + dilation * (kernel - 1) + 1)};
  }
  /// The outputs whose windows reach over input position i.
  Span covering(Index i) const {
    const Index lowest = i + padding - dilation * (kernel - 1);
    return {lowest <= 0 ? 0 : (lowest + stride - 1) / stride, std::min(out, (i + padding) / stride + 1)};
  }
  /// How many positions o's window has inside the padded input.
  Index padded_size(Index o) const {
    const Index start = o * stride - padding;
    return std::min(start + kernel, in + padding) - start;
  }
};

/// The windows of adaptive pooling: `out` of them, each as long as it must be to cover the input evenly.
struct AdaptiveAxis {
  Index in, out;

  Span window(Index o) const { return {o * in / out, ((o + 1) * in + out - 1) / out}; }
  Span covering(Index i) const { return {i * out / in, ((i + 1) * out + in - 1) / in}; }
};

/// Places in an image, as a mask of packs of S compares them; they are kept as 32 bits each.
template <typename V> using Places = Pack<typename V::Bits, sizeof(typename V::Raw)>;
template <typename V> using StoredPlaces = Pack<std::int32_t, V::lanes * 4>;

template <typename V>
RESIDUA_INLINE Places<V> load_places(const std::int32_t* from, Index n) {
  return Places<V>(__builtin_convertvector(load<StoredPlaces<V>>(from, n).raw, typename Places<V>::Raw));
}
template <typename V>
RESIDUA_INLINE void store_places(std::int32_t* to, const Places<V>& places, Index n) {
  store(to, StoredPlaces<V>(__builtin_convertvector(places.raw, typename StoredPlaces<V>::Raw)), n);
}

/// One row of windows over an image, a number at a time.
template <typename S>
void max_pool_row(const S* image, Span h, S* y, std::int32_t* at, Index channels, Index row_step,
                  const PoolAxis& columns) {
  for (Index p = 0; p < columns.out; ++p) {
    const Span w = columns.window(p);
    for (Index c = 0; c < channels; ++c) {
      S best = -std::numeric_limits<S>::infinity();
      Index found = h.first < h.last && w.first < w.last ? h.first * columns.in + w.first : -1;
      for (Index i = h.first; i < h.last; i += row_step) {
        for (Index j = w.first; j < w.last; j += columns.dilation) {
          const S v = image[(i * columns.in + j) * channels + c];
          if (!(v > best || v != v)) continue;
          best = v;
          found = i * columns.in + j;
        }
      }
      *y++ = best;
      *at++ = static_cast<std::int32_t>(found);
    }
  }
}

/// y[n, o, p] = max over the window of x;  at[n, o, p]: where in the image it was first found, as h · W + w.
/// NaN is larger than all numbers. A window without a single input gives −∞, found at −1.
template <typename S>
void max_pool(const S* x, S* y, std::int32_t* at, Index images, Index channels, const PoolAxis& rows,
              const PoolAxis& columns) {
  parallel_for(images * rows.out, [&](Index block) {
    const Span h = rows.window(block % rows.out);
    const S* const image = x + block / rows.out * rows.in * columns.in * channels;
    const Index row = block * columns.out * channels;
    S strange = 0;  // NaN where there is NaN, or an infinity, in the row
    with_best_vectors([=, &strange](auto bytes) {
      using V = Pack<S, bytes>;
      V zero;
      for (Index p = 0; p < columns.out; ++p) {
        const Span w = columns.window(p);
        for_each_vector<V>(0, channels, [&](Index c, auto n) {
          V best = -std::numeric_limits<S>::infinity();
          Places<V> found = static_cast<typename V::Bits>(h.size() > 0 && w.size() > 0 ? h.first * columns.in + w.first : -1);
          for (Index i = h.first; i < h.last; i += rows.dilation) {
            for (Index j = w.first; j < w.last; j += columns.dilation) {
              const Index position = i * columns.in + j;
              const V v = load<V>(image + position * channels + c, n);
              const auto larger = v > best;
              best = where(larger, v, best);
              found = where(larger, Places<V>(static_cast<typename V::Bits>(position)), found);
              zero += v * S(0);
            }
          }
          const Index to = row + p * channels + c;
          store(y + to, best, n);
          store_places<V>(at + to, found, n);
        });
      }
      strange = sum_of_lanes(zero);
    });
    if (strange != 0) max_pool_row(image, h, y + row, at + row, channels, rows.dilation, columns);
  });
}

/// dx[n, h, w] = Σ dy of the outputs that were found there.
template <typename S>
void max_pool_gradient(const S* dy, const std::int32_t* at, S* dx, Index images, Index channels, const PoolAxis& rows,
                       const PoolAxis& columns) {
  parallel_for(images * rows.in, [&](Index block) {
    const Index i = block % rows.in;
    const Span o = rows.covering(i);
    const Index image = block / rows.in * rows.out * columns.out * channels;
    with_best_vectors([=](auto bytes) {
      using V = Pack<S, bytes>;
      for (Index j = 0; j < columns.in; ++j) {
        const Span p = columns.covering(j);
        const Places<V> here = static_cast<typename V::Bits>(i * columns.in + j);
        for_each_vector<V>(0, channels, [&](Index c, auto n) {
          V sum;
          for (Index r = o.first; r < o.last; ++r) {
            for (Index s = p.first; s < p.last; ++s) {
              const Index from = image + (r * columns.out + s) * channels + c;
              sum += where(load_places<V>(at + from, n) == here, load<V>(dy + from, n), V());
            }
          }
          store(dx + (block * columns.in + j) * channels + c, sum, n);
        });
      }
    });
  });
}

/// y[n, o, p] = Σ x[n, i, j] over the i and j that `span` tells for o and p.   x (N, H, W, C) → y (N, H', W', C)
template <typename S, typename Axis>
void window_sums(const Tensor<S>& x, Tensor<S>& y, const Axis& rows, const Axis& columns,
                 Span (Axis::*span)(Index) const) {
  const Index H = x.dim(1), W = x.dim(2), C = x.dim(3), out_rows = y.dim(1), out_columns = y.dim(2);
  S* const out = y.data();
  parallel_for(x.dim(0) * out_rows, [&](Index block) {
    const Span h = (rows.*span)(block % out_rows);
    const S* const image = x.cdata() + block / out_rows * H * W * C;
    for (Index p = 0; p < out_columns; ++p) {
      const Span w = (columns.*span)(p);
      S* const sum = out + (block * out_columns + p) * C;
      std::fill_n(sum, C, S(0));
      for (Index i = h.first; i < h.last; ++i) {
        for (Index j = w.first; j < w.last; ++j) add_range(C, sum, image + (i * W + j) * C);
      }
    }
  });
}

/// y[n, o, p] = x[n, o, p] / divisor(o, p).   x, y (N, H, W, C), which may be the same memory
template <typename S, typename Divisor>
void divide_pixels(const S* x, Tensor<S>& y, const Divisor& divisor) {
  const Index H = y.dim(1), W = y.dim(2), C = y.dim(3);
  S* const out = y.data();
  parallel_for(y.dim(0) * H, [&](Index block) {
    for (Index p = 0; p < W; ++p) {
      const Index at = (block * W + p) * C;
      const S by = static_cast<S>(divisor(block % H, p));
      map_range(C, out + at, [by](auto v) { return v / by; }, x + at);
    }
  });
}

/// y[n, o, p] = (Σ over the window of x) / divisor(o, p).   x (N, H, W, C) → y (N, rows.out, columns.out, C)
template <typename S, typename Axis, typename Divisor>
Tensor<S> average_pool(const Tensor<S>& x, const Axis& rows, const Axis& columns, const Divisor& divisor) {
  Tensor<S> y(Shape{x.dim(0), rows.out, columns.out, x.dim(3)}, uninitialized);
  window_sums(x, y, rows, columns, &Axis::window);
  divide_pixels(y.cdata(), y, divisor);
  return y;
}

/// dx[n, i, j] = Σ dy / divisor over the windows that cover (i, j)
template <typename S, typename Axis, typename Divisor>
Tensor<S> average_pool_gradient(Tensor<S> dy, const Axis& rows, const Axis& columns, const Divisor& divisor) {
  const S* const in = dy.cdata();
  Tensor<S> shares = detail::take_over(dy);
  divide_pixels(in, shares, divisor);
  Tensor<S> dx(Shape{shares.dim(0), rows.in, columns.in, shares.dim(3)}, uninitialized);
  window_sums(shares, dx, rows, columns, &Axis::covering);
  return dx;
}

}  // namespace residua::inline RESIDUA_ABI::kernels
