// Layout: how tensors stand in files, which is PyTorch's order, and how in memory.
#pragma once

#include <residua/core/parameter.hpp>
#include <residua/core/tensor_ops.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

inline bool channels_first_in_files(const Shape& in_memory, Layout layout) {
  return (layout == Layout::convolution && in_memory.rank() == 4) || (layout == Layout::image && in_memory.rank() == 3);
}

}  // namespace detail

/// A tensor as files have it: a convolution's weight (K, R, S, C) as (K, C, R, S), an image's (H, W, C) as (C, H, W).
template <typename S>
Tensor<S> to_file_layout(const Tensor<S>& x, Layout layout) {
  return detail::channels_first_in_files(x.shape(), layout) ? to_channels_first(x) : x;
}

/// The way back.
template <typename S>
Tensor<S> from_file_layout(const Tensor<S>& x, Layout layout) {
  return detail::channels_first_in_files(x.shape(), layout) ? to_channels_last(x) : x;
}

/// The shape that a tensor has in files.
inline Shape file_shape(const Shape& s, Layout layout) {
  if (!detail::channels_first_in_files(s, layout)) return s;
  return s.rank() == 4 ? Shape{s[0], s[3], s[1], s[2]} : Shape{s[2], s[0], s[1]};
}

}  // namespace residua::inline RESIDUA_ABI
