// The loop that applies a formula to all elements, a vector at a time.
//
// The compiler's vector types let a formula be written as for one number: + − · / work on each lane, a comparison gives a
// mask, and `mask ? a : b` chooses by lane. What a lane computes does not depend on where in memory its number stands.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include <residua/core/tensor.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

namespace kernels {

#if defined(__AVX512F__)
inline constexpr Index vector_bytes = 64;
#elif defined(__AVX__)
inline constexpr Index vector_bytes = 32;
#else
inline constexpr Index vector_bytes = 16;
#endif

/// How many S one vector holds.
template <typename S> inline constexpr Index lanes = vector_bytes / static_cast<Index>(sizeof(S));

template <typename T, Index count>
struct VectorOf {
  typedef T type __attribute__((vector_size(count * static_cast<Index>(sizeof(T)))));
};

/// A vector of S, and one of T with as many lanes.
template <typename S> using Vector = typename VectorOf<S, lanes<S>>::type;
template <typename T, typename S> using VectorLike = typename VectorOf<T, lanes<S>>::type;

/// The number type of a vector's lanes.
template <typename V> using Lane = std::remove_cvref_t<decltype(V{}[0])>;

/// The first n lanes from memory, zero in the others.
template <typename V>
V load(const Lane<V>* from, Index n) {
  constexpr Index all = sizeof(V) / sizeof(Lane<V>);
  V v{};
  if (n >= all) {
    std::memcpy(&v, from, sizeof v);
  } else {
    for (Index i = 0; i < n; ++i) v[i] = from[i];
  }
  return v;
}

/// The first n lanes to memory.
template <typename V>
void store(Lane<V>* to, V v, Index n) {
  constexpr Index all = sizeof(V) / sizeof(Lane<V>);
  if (n >= all) {
    std::memcpy(to, &v, sizeof v);
  } else {
    for (Index i = 0; i < n; ++i) to[i] = v[i];
  }
}

/// √v, lane by lane.
template <typename V>
V sqrt(V v) {
  Eigen::Array<Lane<V>, static_cast<int>(sizeof(V) / sizeof(Lane<V>)), 1> roots;
  std::memcpy(roots.data(), &v, sizeof v);
  roots = roots.sqrt();
  std::memcpy(&v, roots.data(), sizeof v);
  return v;
}

/// y[i] = f(x[i], …) for i < size; y may be the memory of an x.
template <typename S, typename F, typename... X>
void map_range(Index size, S* y, F&& f, const X*... x) {
  Index i = 0;
  for (; i + lanes<S> <= size; i += lanes<S>) store(y + i, f(load<Vector<S>>(x + i, lanes<S>)...), lanes<S>);
  if (i < size) store(y + i, f(load<Vector<S>>(x + i, size - i)...), size - i);
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
