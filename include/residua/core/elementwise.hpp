// The loops that apply a formula to all elements, a vector at a time, and that add up.
#pragma once

#include <functional>
#include <utility>

#include <residua/core/pack.hpp>
#include <residua/core/tensor.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

namespace kernels {

/// y[i] = f(x[i], …) for i < size, f of packs; y may be the memory of an x. A part of a loop that is compiled for the packs
/// already, where a longer f is a RESIDUA_INLINE_LAMBDA.
template <typename V, typename F, typename... X>
RESIDUA_INLINE void map_row(Index size, typename V::Scalar* y, F&& f, const X*... x) {
  Index i = 0;
  for (; i + V::lanes <= size; i += V::lanes) store_ahead<V>(y + i, f(load_ahead<V>(x + i)...));
  if (i < size) store<V>(y + i, f(load<V>(x + i, size - i)...), size - i);
}

/// f(x[0], …) ∘ f(x[1], …) ∘ …, for an operation ∘ on packs that may be done in any order, such as + and the larger of two;
/// `neutral` changes nothing in it, and is the result for no elements. The order it is done in depends on the size and the
/// kind of processor alone.
template <typename V, typename Operation, typename F, typename... X>
RESIDUA_INLINE typename V::Scalar reduce_row(Index size, const V& neutral, const Operation& operation, F&& f,
                                             const X*... x) {
  constexpr Index chains = 4, step = chains * V::lanes;
  V total[chains] = {neutral, neutral, neutral, neutral};
  Index i = 0;
  for (; i + step <= size; i += step) {
    RESIDUA_UNROLL for (Index k = 0; k < chains; ++k) {
      total[k] = operation(total[k], f(load_ahead<V>(x + i + k * V::lanes)...));
    }
  }
  for (; i + V::lanes <= size; i += V::lanes) total[0] = operation(total[0], f(load<V>(x + i)...));
  V all = operation(operation(total[0], total[1]), operation(total[2], total[3]));
  if (i < size) {
    typename V::Scalar lanes[V::lanes];
    store<V>(lanes, all);
    store<V>(lanes, operation(all, f(load<V>(x + i, size - i)...)), size - i);
    all = load<V>(lanes);
  }
  return reduce_lanes(all, operation);
}

/// Σ f(x[i], …)
template <typename V, typename F, typename... X>
RESIDUA_INLINE typename V::Scalar sum_row(Index size, F&& f, const X*... x) {
  return reduce_row<V>(size, V(), [](const auto& a, const auto& b) RESIDUA_INLINE_LAMBDA { return a + b; }, f, x...);
}

/// As map_row, compiled for the best vectors. The loop stands here once more since g++ does not inline a longer f that is
/// called from a function in between.
template <typename S, typename F, typename... X>
void map_range(Index size, S* y, F f, const X*... x) {
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    Index i = 0;
    for (; i + V::lanes <= size; i += V::lanes) store_ahead<V>(y + i, f(load_ahead<V>(x + i)...));
    if (i < size) store<V>(y + i, f(load<V>(x + i, size - i)...), size - i);
  });
}

/// As map_range, in parallel.
template <typename S, typename F, typename... X>
void map(Index size, S* y, F&& f, const X*... x) {
  parallel_ranges(size, Index{1} << 15, [&](Index first, Index last) {
    map_range(last - first, y + first, f, (x + first)...);
  });
}

/// sum[i] += x[i] for i < size.
template <typename S>
void add_range(Index size, S* sum, const S* x) {
  map_range<S>(size, sum, std::plus<>(), sum, x);
}

}  // namespace kernels

namespace detail {

/// Memory for a result of x's shape that replaces x: x's own when nobody else holds it, else fresh. x may be read through
/// a pointer taken before as long as both x and the result live.
template <typename S>
Tensor<S> take_over(Tensor<S>& x) {
  return x.unique() ? std::move(x) : Tensor<S>(x.shape(), uninitialized);
}

/// a + b where an empty tensor stands for "nothing": the sum of a fork's gradients. Written into whichever is unshared.
template <typename S>
Tensor<S> sum(Tensor<S> a, Tensor<S> b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  if (!a.unique()) std::swap(a, b);
  const S *p = a.cdata(), *q = b.cdata();
  const Index size = a.size();
  Tensor<S> y = take_over(a);
  kernels::map(size, y.data(), std::plus<>(), p, q);
  return y;
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
