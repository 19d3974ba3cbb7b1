// The loops that apply a formula to all elements, a vector at a time, and that add up.
#pragma once

#include <utility>

#include <residua/core/pack.hpp>
#include <residua/core/tensor.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

namespace kernels {

/// y[i] = f(x[i], …) for i < size, f of packs; y may be the memory of an x. The loop stands here since g++ does not inline
/// a longer f that is called from a function in between.
template <typename S, typename F, typename... X>
void map_range(Index size, S* y, F&& f, const X*... x) {
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    Index i = 0;
    for (; i + V::lanes <= size; i += V::lanes) store_ahead<V>(y + i, f(load_ahead<V>(x + i)...));
    if (i < size) store<V>(y + i, f(load<V>(x + i, size - i)...), size - i);
  });
}

/// f(x[0], …) ∘ f(x[1], …) ∘ …, for an operation ∘ on packs that may be done in any order, such as + and the larger of two;
/// `neutral` changes nothing in it, and is the result for no elements. The order it is done in depends on the size and the
/// kind of processor alone.
template <typename S, typename Operation, typename F, typename... X>
S reduce_range(Index size, S neutral, Operation&& operation, F&& f, const X*... x) {
  S result = neutral;
  with_best_vectors([=, to = &result](auto bytes) {
    using V = Pack<S, bytes>;
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
    S lanes[2 * V::lanes] = {};
    store<V>(lanes, all);
    if (i < size) store<V>(lanes, operation(all, f(load<V>(x + i, size - i)...)), size - i);
    for (Index width = V::lanes / 2; width > 0; width /= 2) {
      store<V>(lanes, operation(load<V>(lanes), load<V>(lanes + width)));
    }
    *to = lanes[0];
  });
  return result;
}

/// Σ f(x[i], …)
template <typename S, typename F, typename... X>
S sum_range(Index size, F&& f, const X*... x) {
  return reduce_range<S>(size, S(0), [](auto a, auto b) { return a + b; }, f, x...);
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
  map_range(size, sum, [](auto a, auto b) { return a + b; }, sum, x);
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
  kernels::map(size, y.data(), [](auto u, auto v) { return u + v; }, p, q);
  return y;
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
