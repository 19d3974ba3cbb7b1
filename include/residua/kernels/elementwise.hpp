// One pass over all elements, in parallel.
#pragma once

#include <residua/core/tensor.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// y = f(x) for elements at a time: f takes an Eigen array and gives an array expression. x and y may be the same memory.
template <typename S, typename F>
void transform(Index size, const S* x, S* y, F&& f) {
  parallel_ranges(size, Index{1} << 15, [&](Index first, Index last) {
    ArrayMap<S>(y + first, last - first) = f(ConstArrayMap<S>(x + first, last - first));
  });
}

/// y = f(a, b), likewise.
template <typename S, typename F>
void transform(Index size, const S* a, const S* b, S* y, F&& f) {
  parallel_ranges(size, Index{1} << 15, [&](Index first, Index last) {
    ArrayMap<S>(y + first, last - first) =
        f(ConstArrayMap<S>(a + first, last - first), ConstArrayMap<S>(b + first, last - first));
  });
}

}  // namespace residua::inline RESIDUA_ABI::kernels
