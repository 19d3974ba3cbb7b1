// Softmax along one axis.
#pragma once

#include <algorithm>
#include <limits>

#include <residua/kernels/copy_matrix.hpp>
#include <residua/kernels/vector_math.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// A tensor around one of its axes: (outer, size, inner), row-major. Softmax treats outer · inner vectors of `size`
/// elements that stand `inner` apart.
struct AxisView {
  Index outer, size, inner;

  /// Where inner is 1: calls f(first element, vectors) for blocks of neighbouring vectors, in parallel.
  template <typename F>
  void for_each_block(F&& f) const {
    parallel_ranges(outer, std::clamp<Index>(32768 / std::max<Index>(1, size), 1, 256), [&](Index first, Index last) {
      f(first * size, last - first);
    });
  }

  /// Else: calls f(first element, width) for runs of vectors that stand side by side, in parallel.
  template <typename F>
  void for_each_run(F&& f) const {
    const Index widest = 256, runs = (inner + widest - 1) / widest;
    const Index grain = std::max<Index>(1, 32768 / std::max<Index>(1, size * std::min(inner, widest)));
    parallel_ranges(outer * runs, grain, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i) {
        const Index column = i % runs * widest;
        f(i / runs * size * inner + column, std::min(widest, inner - column));
      }
    });
  }
};

/// Rows this narrow are turned, a block of them, to stand side by side: one alone would fill few lanes. However few there
/// are, so that a row's result does not depend on what stands beside it.
inline constexpr Index narrow_row = 48;

/// y = softmax(x) of `width` vectors side by side, whose elements stand `step` apart; y may be x's memory. `top` and
/// `sum` (width) receive max x and Σ e^(x − max), which is NaN where an x is.
template <typename S>
void softmax_of_columns(const S* x, S* y, Index size, Index width, Index step, S* top, S* sum) {
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    std::copy_n(x, width, top);
    std::fill_n(sum, width, S(0));
    for (Index i = step; i < size * step; i += step) {
      for (Index c = 0; c < width; c += V::lanes) {
        const V most = load<V>(top + c, width - c), v = load<V>(x + i + c, width - c);
        store<V>(top + c, where(v > most, v, most), width - c);
      }
    }
    for (Index i = 0; i < size * step; i += step) {
      for (Index c = 0; c < width; c += V::lanes) {
        const V power = exp(load<V>(x + i + c, width - c) - load<V>(top + c, width - c));
        store<V>(y + i + c, power, width - c);
        store<V>(sum + c, load<V>(sum + c, width - c) + power, width - c);
      }
    }
    for (Index i = 0; i < size * step; i += step) {
      for (Index c = 0; c < width; c += V::lanes) {
        store<V>(y + i + c, load<V>(y + i + c, width - c) / load<V>(sum + c, width - c), width - c);
      }
    }
  });
}

/// The same of rows.   x, y (rows, size), top, sum (rows)
template <typename S>
void softmax_of_rows(const S* x, S* y, Index rows, Index size, S* top, S* sum) {
  if (size <= narrow_row) {
    Tensor<S> turned(Shape{size, rows}, uninitialized);
    S* const columns = turned.data();
    copy_matrix(x, 1, size, size, rows, columns, rows);
    softmax_of_columns<S>(columns, columns, size, rows, rows, top, sum);
    copy_matrix<S>(columns, 1, rows, rows, size, y, size);
    return;
  }
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    for (Index row = 0; row < rows; ++row) {
      const S* const in = x + row * size;
      S* const out = y + row * size;
      top[row] = reduce_row<V>(size, V(-std::numeric_limits<S>::infinity()),
                               [](const auto& a, const auto& b) RESIDUA_INLINE_LAMBDA { return where(a > b, a, b); },
                               [](const V& v) RESIDUA_INLINE_LAMBDA { return v; }, in);
      const V most = top[row];
      V total;
      for (Index i = 0; i < size; i += V::lanes) {
        store<V>(out + i, exp(load<V>(in + i, size - i) - most), size - i);
        total += load<V>(out + i, size - i);  // without what fills up the last vector
      }
      sum[row] = sum_of_lanes(total);
      const V share = S(1) / sum[row];
      map_row<V>(size, out, [&](const V& v) RESIDUA_INLINE_LAMBDA { return v * share; }, out);
    }
  });
}

/// y = e^(x − max) / Σ e^(x − max)
template <typename S>
void softmax(const S* x, S* y, const AxisView& axis) {
  const auto with_scratch = [](Index vectors, auto&& f) {
    Tensor<S> scratch(Shape{2, vectors}, uninitialized);
    f(scratch.data(), scratch.data() + vectors);
  };
  if (axis.inner == 1) {
    axis.for_each_block([&](Index at, Index rows) {
      with_scratch(rows, [&](S* top, S* sum) { softmax_of_rows(x + at, y + at, rows, axis.size, top, sum); });
    });
  } else {
    axis.for_each_run([&](Index at, Index width) {
      with_scratch(width, [&](S* top, S* sum) {
        softmax_of_columns(x + at, y + at, axis.size, width, axis.inner, top, sum);
      });
    });
  }
}

/// dx = y · (dy − Σ dy · y) of vectors side by side; dx may be dy's memory.
template <typename S>
void softmax_gradient_of_columns(const S* y, const S* dy, S* dx, Index size, Index width, Index step) {
  Tensor<S> scratch(Shape{(width + 15) / 16 * 16}, S(0));  // whole vectors
  S* const product = scratch.data();
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    for (Index i = 0; i < size * step; i += step) {
      for (Index c = 0; c < width; c += V::lanes) {
        const V part = load<V>(y + i + c, width - c) * load<V>(dy + i + c, width - c);
        store<V>(product + c, load<V>(product + c) + part);
      }
    }
    for (Index i = 0; i < size * step; i += step) {
      for (Index c = 0; c < width; c += V::lanes) {
        const V away = load<V>(dy + i + c, width - c) - load<V>(product + c);
        store<V>(dx + i + c, load<V>(y + i + c, width - c) * away, width - c);
      }
    }
  });
}

/// The same of rows.
template <typename S>
void softmax_gradient_of_rows(const S* y, const S* dy, S* dx, Index rows, Index size) {
  if (size <= narrow_row) {
    Tensor<S> turned(Shape{2 * size, rows}, uninitialized);
    S *const of_y = turned.data(), *const of_dy = of_y + size * rows;
    copy_matrix(y, 1, size, size, rows, of_y, rows);
    copy_matrix(dy, 1, size, size, rows, of_dy, rows);
    softmax_gradient_of_columns<S>(of_y, of_dy, of_dy, size, rows, rows);
    copy_matrix<S>(of_dy, 1, rows, rows, size, dx, size);
    return;
  }
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    for (Index at = 0; at < rows * size; at += size) {
      const V product = sum_row<V>(size, [](const V& v, const V& d) RESIDUA_INLINE_LAMBDA { return v * d; }, y + at, dy + at);
      map_row<V>(size, dx + at, [&](const V& v, const V& d) RESIDUA_INLINE_LAMBDA { return v * (d - product); }, y + at,
                 dy + at);
    }
  });
}

/// dx = y · (dy − Σ dy · y);  dx may be dy's memory.
template <typename S>
void softmax_gradient(const S* y, const S* dy, S* dx, const AxisView& axis) {
  if (axis.inner == 1) {
    axis.for_each_block([&](Index at, Index rows) { softmax_gradient_of_rows(y + at, dy + at, dx + at, rows, axis.size); });
  } else {
    axis.for_each_run([&](Index at, Index width) {
      softmax_gradient_of_columns(y + at, dy + at, dx + at, axis.size, width, axis.inner);
    });
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
