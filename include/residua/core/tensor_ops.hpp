// Joining, cutting and turning tensors.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <residua/core/tensor.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// `axis` counted from the front. Throws Error where x has no such axis.
inline Index axis_of(std::string_view place, const Shape& x, Index axis) {
  if (axis < -x.rank() || axis >= x.rank()) fail(place, "axis ", axis, " is outside of ", x);
  return axis < 0 ? axis + x.rank() : axis;
}

/// How far apart neighbours along each axis stand in memory.
inline std::array<Index, Shape::max_rank> strides(const Shape& shape) {
  std::array<Index, Shape::max_rank> result{};
  Index stride = 1;
  for (Index axis = shape.rank(); axis-- > 0; stride *= shape[axis]) result[static_cast<std::size_t>(axis)] = stride;
  return result;
}

}  // namespace detail

/// The tensors one after the other along `axis`; the other axes are equal. concat({a, b}, 0) joins two batches.
/// Throws Error for no tensors, an axis they do not have, or shapes that do not match.
template <typename S>
Tensor<S> concat(std::span<const Tensor<S>> tensors, Index axis) {
  if (tensors.empty()) fail("concat", "expected at least 1 tensor, got 0");
  const Shape& first = tensors[0].shape();
  axis = detail::axis_of("concat", first, axis);
  Index joined = 0;
  for (const Tensor<S>& x : tensors) {
    if (x.rank() != first.rank() || x.shape().with(axis, 0) != first.with(axis, 0)) {
      fail("concat", "expected ", first, " but for axis ", axis, ", got ", x.shape());
    }
    joined += x.dim(axis);
  }
  Tensor<S> y(first.with(axis, joined), uninitialized);
  const Index outer = first.part(0, axis).size(), inner = first.part(axis + 1, first.rank()).size();
  S* const out = y.data();
  parallel_ranges(outer, 1 + 32768 / std::max<Index>(1, joined * inner), [&](Index begin, Index end) {
    S* to = out + begin * joined * inner;
    for (Index o = begin; o < end; ++o) {
      for (const Tensor<S>& x : tensors) {
        const Index run = x.dim(axis) * inner;
        to = std::copy_n(x.cdata() + o * run, run, to);
      }
    }
  });
  return y;
}
template <typename S>
Tensor<S> concat(std::initializer_list<Tensor<S>> tensors, Index axis) {
  return concat(std::span<const Tensor<S>>(tensors.begin(), tensors.size()), axis);
}
template <typename S>
Tensor<S> concat(const std::vector<Tensor<S>>& tensors, Index axis) {
  return concat(std::span<const Tensor<S>>(tensors), axis);
}

/// Positions first … last - 1 of `axis`, as a tensor of its own.
/// Throws Error for an axis x does not have, or positions outside of it.
template <typename S>
Tensor<S> slice(const Tensor<S>& x, Index axis, Index first, Index last) {
  axis = detail::axis_of("slice", x.shape(), axis);
  if (first < 0 || last < first || last > x.dim(axis)) {
    fail("slice", "expected positions 0 <= first <= last <= ", x.dim(axis), ", got ", first, " and ", last,
         " (axis ", axis, " of ", x.shape(), ")");
  }
  Tensor<S> y(x.shape().with(axis, last - first), uninitialized);
  const Index outer = x.shape().part(0, axis).size(), inner = x.shape().part(axis + 1, x.rank()).size();
  const Index run = (last - first) * inner, step = x.dim(axis) * inner;
  S* const out = y.data();
  parallel_ranges(outer, 1 + 32768 / std::max<Index>(1, run), [&](Index begin, Index end) {
    for (Index o = begin; o < end; ++o) std::copy_n(x.cdata() + o * step + first * inner, run, out + o * run);
  });
  return y;
}

/// The axes of x in another order: axis i of the result is axis axes[i] of x. permute(x, {0, 3, 1, 2}) is PyTorch's order
/// of an image batch. Shares memory where no axis longer than one moves past another. Throws Error unless `axes` names
/// each axis of x once.
template <typename S>
Tensor<S> permute(const Tensor<S>& x, std::span<const Index> axes) {
  const Index rank = x.rank();
  if (static_cast<Index>(axes.size()) != rank) {
    fail("permute", "expected ", rank, " axes for ", x.shape(), ", got ", axes.size());
  }
  const auto strides = detail::strides(x.shape());
  std::array<std::size_t, Shape::max_rank> from{};  // x's axis for each of y
  std::array<bool, Shape::max_rank> seen{};
  Shape shape;
  bool in_order = true;
  for (std::size_t i = 0, longest_before = 0; i < axes.size(); ++i) {
    const Index axis = detail::axis_of("permute", x.shape(), axes[i]);
    from[i] = static_cast<std::size_t>(axis);
    if (std::exchange(seen[from[i]], true)) fail("permute", "expected each axis once, got ", axis, " twice");
    shape.append(x.dim(axis));
    if (x.dim(axis) == 1) continue;
    in_order = in_order && from[i] >= longest_before;
    longest_before = from[i];
  }
  if (in_order || x.empty()) return x.reshaped(shape);

  // The two inner loops go along y's last axis and along x's, `inner` in y; the others are `outer`.
  Tensor<S> y(shape, uninitialized);
  S* const out = y.data();
  const auto y_strides = detail::strides(shape);
  const std::size_t last = axes.size() - 1;
  const auto inner = static_cast<std::size_t>(std::find(from.begin(), from.begin() + rank, last) - from.begin());
  const bool whole_rows = inner == last;
  const Index width = shape[-1], step = strides[from[last]];
  const Index run = whole_rows ? 1 : x.dim(-1), stride = y_strides[inner];
  const Index chunk = 16, chunks = (run + chunk - 1) / chunk;  // of x's last axis: what one line of the cache holds
  parallel_ranges(x.size() / width / run * chunks, 1 + 16384 / (width * chunk), [&](Index begin, Index end) {
    for (Index block = begin; block < end; ++block) {
      const Index first = block % chunks * chunk, beyond = std::min(run, first + chunk);
      const S* source = x.cdata();
      S* target = out;
      Index outer = block / chunks;
      for (std::size_t i = last; i-- > 0;) {
        if (i == inner) continue;
        const Index position = outer % shape[static_cast<Index>(i)];
        outer /= shape[static_cast<Index>(i)];
        source += position * strides[from[i]];
        target += position * y_strides[i];
      }
      if (whole_rows) {
        std::copy_n(source, width, target);
        continue;
      }
      for (Index j = 0; j < width; ++j) {
        for (Index i = first; i < beyond; ++i) target[i * stride + j] = source[i + j * step];
      }
    }
  });
  return y;
}
template <typename S>
Tensor<S> permute(const Tensor<S>& x, std::initializer_list<Index> axes) {
  return permute(x, std::span<const Index>(axes.begin(), axes.size()));
}

/// PyTorch's order of an image to ours: (N, C, H, W) → (N, H, W, C), or (C, H, W) → (H, W, C).
/// Throws Error for another rank.
template <typename S>
Tensor<S> to_channels_last(const Tensor<S>& x) {
  if (x.rank() == 3) return permute(x, {1, 2, 0});
  if (x.rank() == 4) return permute(x, {0, 2, 3, 1});
  fail("to_channels_last", "expected [N, C, H, W] or [C, H, W], got ", x.shape());
}

/// Our order of an image to PyTorch's: (N, H, W, C) → (N, C, H, W), or (H, W, C) → (C, H, W).
/// Throws Error for another rank.
template <typename S>
Tensor<S> to_channels_first(const Tensor<S>& x) {
  if (x.rank() == 3) return permute(x, {2, 0, 1});
  if (x.rank() == 4) return permute(x, {0, 3, 1, 2});
  fail("to_channels_first", "expected [N, H, W, C] or [H, W, C], got ", x.shape());
}

}  // namespace residua::inline RESIDUA_ABI
