// ImageDataset: labelled images in memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <residua/core/tensor.hpp>

namespace residua::inline RESIDUA_ABI {

/// Images of one size with a label each, as bytes.
struct ImageDataset {
  Tensor<std::uint8_t> images;       ///< (N, H, W, C)
  std::vector<Index> labels;         ///< N numbers, each the position of a class
  std::vector<std::string> classes;  ///< their names

  Index size() const { return static_cast<Index>(labels.size()); }

  /// The first `count` images. Throws Error when there are fewer.
  ImageDataset first(Index count) const {
    if (count < 0 || count > size()) {
      fail("ImageDataset", "expected a count from 0 to ", size(), ", got ", count);
    }
    const Shape shape = images.shape().with(0, count);
    const std::span<const std::uint8_t> pixels(images.cdata(), static_cast<std::size_t>(shape.size()));
    return {Tensor<std::uint8_t>(shape, pixels), {labels.begin(), labels.begin() + count}, classes};
  }
};

/// Which part of a dataset: what to learn from, or what to be judged by.
enum class Split { train, test };

}  // namespace residua::inline RESIDUA_ABI
