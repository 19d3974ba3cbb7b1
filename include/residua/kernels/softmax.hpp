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

  /// Calls f(first element, width) for runs of neighbouring vectors, in parallel.
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

  /// Where inner is 1: calls f(first element, vectors) for blocks of neighbouring vectors, in parallel.
  template <typename F>
  void for_each_block(F&& f) const {
    parallel_ranges(outer, 256, [&](Index first, Index last) { f(first * size, last - first); });
  }
};

/// Vectors this short are turned, a block of them, to stand side by side: one alone would fill few lanes.
inline constexpr Index short_vector = 48;

/// max x, or perhaps NaN where there is one.
template <typename S>
S largest(const S* x, Index n) {
  return reduce_range<S>(n, -std::numeric_limits<S>::infinity(),
                         [](auto a, auto b) { return where(a > b, a, b); }, [](auto v) { return v; }, x);
}

/// y = e^(x − max) for one vector; returns Σ y.
template <typename S>
S exponentials(const S* x, S* y, Index n, S max) {
  map_range(n, y, [max](auto v) { return exp(v - max); }, x);
  return sum_range<S>(n, [](auto v) { return v; }, static_cast<const S*>(y));
}

/// Softmax of `width` vectors side by side, whose elements stand `step` apart; y may be x's memory.
template <typename S>
void softmax_of_columns(const S* x, S* y, Index size, Index width, Index step) {
  Tensor<S> scratch(Shape{2, width}, uninitialized);
  S* const top = scratch.data();
  S* const sum = top + width;
  std::copy_n(x, width, top);
  for (Index i = 1; i < size; ++i) {
    ArrayMap<S>(top, width) = ArrayMap<S>(top, width).max(ConstArrayMap<S>(x + i * step, width));
  }
  std::fill_n(sum, width, S(0));
  for (Index i = 0; i < size; ++i) {
    S* const row = y + i * step;
    map_range(width, row, [](auto v, auto m) { return exp(v - m); }, x + i * step, static_cast<const S*>(top));
    ArrayMap<S>(sum, width) += ConstArrayMap<S>(row, width);
  }
  for (Index i = 0; i < size; ++i) ArrayMap<S>(y + i * step, width) /= ConstArrayMap<S>(sum, width);
}

/// y = e^(x − max) / Σ e^(x − max)
template <typename S>
void softmax(const S* x, S* y, const AxisView& axis) {
  if (axis.inner > 1) {
    axis.for_each_run([&](Index at, Index width) { softmax_of_columns(x + at, y + at, axis.size, width, axis.inner); });
  } else if (axis.size <= short_vector) {
    axis.for_each_block([&](Index at, Index count) {
      Tensor<S> turned(Shape{axis.size, count}, uninitialized);
      copy_matrix(x + at, 1, axis.size, axis.size, count, turned.data(), count);
      softmax_of_columns(turned.cdata(), turned.data(), axis.size, count, count);
      copy_matrix(turned.cdata(), 1, count, count, axis.size, y + at, axis.size);
    });
  } else {
    axis.for_each_run([&](Index at, Index) {
      const S share = S(1) / exponentials(x + at, y + at, axis.size, largest(x + at, axis.size));
      map_range(axis.size, y + at, [share](auto v) { return v * share; }, static_cast<const S*>(y + at));
    });
  }
}

/// The same for `width` vectors side by side, whose elements stand `step` apart.
template <typename S>
void softmax_gradient_of_columns(const S* y, const S* dy, S* dx, Index size, Index width, Index step) {
  Tensor<S> scratch(Shape{width}, S(0));
  ArrayMap<S> product(scratch.data(), width);
  for (Index i = 0; i < size; ++i) {
    product += ConstArrayMap<S>(y + i * step, width) * ConstArrayMap<S>(dy + i * step, width);
  }
  for (Index i = 0; i < size; ++i) {
    ArrayMap<S>(dx + i * step, width) =
        ConstArrayMap<S>(y + i * step, width) * (ConstArrayMap<S>(dy + i * step, width) - product);
  }
}

/// dx = y · (dy − Σ dy · y);  dx may be dy's memory.
template <typename S>
void softmax_gradient(const S* y, const S* dy, S* dx, const AxisView& axis) {
  if (axis.inner > 1) {
    axis.for_each_run([&](Index at, Index width) {
      softmax_gradient_of_columns(y + at, dy + at, dx + at, axis.size, width, axis.inner);
    });
  } else if (axis.size <= short_vector) {
    axis.for_each_block([&](Index at, Index count) {
      Tensor<S> turned(Shape{2 * axis.size, count}, uninitialized);
      S *const from = turned.data(), *const to = from + axis.size * count;
      copy_matrix(y + at, 1, axis.size, axis.size, count, from, count);
      copy_matrix(dy + at, 1, axis.size, axis.size, count, to, count);
      softmax_gradient_of_columns<S>(from, to, to, axis.size, count, count);
      copy_matrix<S>(to, 1, count, count, axis.size, dx + at, axis.size);
    });
  } else {
    axis.for_each_run([&](Index at, Index) {
      const S product = sum_range<S>(axis.size, [](auto v, auto d) { return v * d; }, y + at, dy + at);
      map_range(axis.size, dx + at, [product](auto v, auto d) { return v * (d - product); }, y + at, dy + at);
    });
  }
}

}  // namespace residua::inline RESIDUA_ABI::kernels
