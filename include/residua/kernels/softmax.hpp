// Softmax along one axis.
#pragma once

#include <algorithm>
#include <limits>

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
};

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

/// y = e^(x − max) / Σ e^(x − max)
template <typename S>
void softmax(const S* x, S* y, const AxisView& axis) {
  if (axis.inner == 1) {
    axis.for_each_run([&](Index at, Index) {
      const S share = S(1) / exponentials(x + at, y + at, axis.size, largest(x + at, axis.size));
      map_range(axis.size, y + at, [share](auto v) { return v * share; }, static_cast<const S*>(y + at));
    });
    return;
  }
  axis.for_each_run([&](Index at, Index width) {  // several vectors side by side
    const auto x_at = [&](Index i) { return x + at + i * axis.inner; };
    const auto y_at = [&](Index i) { return y + at + i * axis.inner; };
    Tensor<S> scratch(Shape{2, width}, uninitialized);
    S* const top = scratch.data();
    S* const sum = top + width;
    std::copy_n(x_at(0), width, top);
    for (Index i = 1; i < axis.size; ++i) {
      ArrayMap<S>(top, width) = ArrayMap<S>(top, width).max(ConstArrayMap<S>(x_at(i), width));
    }
    std::fill_n(sum, width, S(0));
    for (Index i = 0; i < axis.size; ++i) {
      map_range(width, y_at(i), [](auto v, auto m) { return exp(v - m); }, x_at(i), static_cast<const S*>(top));
      ArrayMap<S>(sum, width) += ConstArrayMap<S>(y_at(i), width);
    }
    for (Index i = 0; i < axis.size; ++i) ArrayMap<S>(y_at(i), width) /= ConstArrayMap<S>(sum, width);
  });
}

/// dx = y · (dy − Σ dy · y);  dx may be dy's memory.
template <typename S>
void softmax_gradient(const S* y, const S* dy, S* dx, const AxisView& axis) {
  if (axis.inner == 1) {
    axis.for_each_run([&](Index at, Index) {
      const S product = sum_range<S>(axis.size, [](auto v, auto d) { return v * d; }, y + at, dy + at);
      map_range(axis.size, dx + at, [product](auto v, auto d) { return v * (d - product); }, y + at, dy + at);
    });
    return;
  }
  axis.for_each_run([&](Index at, Index width) {
    Tensor<S> scratch(Shape{width}, S(0));
    ArrayMap<S> product(scratch.data(), width);
    for (Index i = 0; i < axis.size; ++i) {
      const Index row = at + i * axis.inner;
      product += ConstArrayMap<S>(y + row, width) * ConstArrayMap<S>(dy + row, width);
    }
    for (Index i = 0; i < axis.size; ++i) {
      const Index row = at + i * axis.inner;
      ArrayMap<S>(dx + row, width) = ConstArrayMap<S>(y + row, width) * (ConstArrayMap<S>(dy + row, width) - product);
    }
  });
}

}  // namespace residua::inline RESIDUA_ABI::kernels
