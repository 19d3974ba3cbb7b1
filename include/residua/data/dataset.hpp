// Datasets: anything that has a size and gives samples by their index; and ImageDataset, labelled images in memory.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <residua/core/tensor.hpp>

namespace residua::inline RESIDUA_ABI {

/// What goes into a network, and what should come out of it: the position of a class, or numbers.
/// An input of bytes reaches the network as numbers from 0 to 1.
template <typename X, typename T = Index>
struct Sample {
  Tensor<X> input;
  T target;
};

/// Any copyable type with a size and a sample at each index below it is a dataset:
///
///     struct Sine {                                                           // learn y = sin x
///       Index size() const { return 1000; }
///       Sample<float, Tensor<float>> operator[](Index i) const {
///         const float x = 0.01f * static_cast<float>(i);
///         return {Tensor<float>(Shape{1}, x), Tensor<float>(Shape{1}, std::sin(x))};
///       }
///     };
///
/// Many threads may ask for samples at once.
template <typename Data>
concept Dataset = std::copyable<Data> && requires(const Data& data, Index i) {
  { data.size() } -> std::convertible_to<Index>;
  data[i].input.cdata();
  data[i].target;
};

/// Images of one size with a label each, as bytes.
struct ImageDataset {
  Tensor<std::uint8_t> images;       ///< (N, H, W, C)
  std::vector<Index> labels;         ///< N numbers, each the position of a class
  std::vector<std::string> classes;  ///< their names

  Index size() const { return static_cast<Index>(labels.size()); }

  /// Image (H, W, C) and label number i. Throws Error when there is none, or for another number of labels than images.
  Sample<std::uint8_t> operator[](Index i) const {
    if (images.rank() != 4 || images.dim(0) != size()) {
      fail("ImageDataset", "expected ", size(), " images [N, H, W, C] for as many labels, got ", images.shape());
    }
    if (i < 0 || i >= size()) fail("ImageDataset", "expected an index from 0 to ", size() - 1, ", got ", i);
    const Shape shape = images.shape().part(1, 4);
    const std::span<const std::uint8_t> pixels(images.cdata() + i * shape.size(),
                                               static_cast<std::size_t>(shape.size()));
    return {Tensor<std::uint8_t>(shape, pixels), labels[static_cast<std::size_t>(i)]};
  }

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
