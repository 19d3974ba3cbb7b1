// Batches: a dataset cut into batches, in order or shuffled, each image transformed on its way.
#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <residua/core/threads.hpp>
#include <residua/data/dataset.hpp>
#include <residua/data/transforms.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename S>
struct Batch {
  Tensor<S> images;           ///< (N, H, W, C)
  std::vector<Index> labels;  ///< N
};

/// The images at `indices`, as numbers from 0 to 1, each passed through `transforms` in turn. What is drawn for the
/// image at an index depends on `random` and that index alone. Throws Error for no indices, an index out of range, a
/// dataset with another number of labels than images, or transforms that give images of different shapes.
template <typename S>
Batch<S> make_batch(const ImageDataset& data, std::span<const Index> indices, const Random& random = Random(0),
                    const std::vector<Transform<S>>& transforms = {}) {
  if (data.images.rank() != 4 || data.images.dim(0) != data.size()) {
    fail("make_batch", "expected ", data.size(), " images [N, H, W, C] for as many labels, got ", data.images.shape());
  }
  if (indices.empty()) fail("make_batch", "expected at least one index, got none");
  for (Index index : indices) {
    if (index < 0 || index >= data.size()) {
      fail("make_batch", "expected indices from 0 to ", data.size() - 1, ", got ", index);
    }
  }
  const Shape shape = data.images.shape().part(1, 4);
  const auto image = [&](Index index) {
    Tensor<S> x(shape, uninitialized);
    x.array() = ConstArrayMap<std::uint8_t>(data.images.cdata() + index * shape.size(), shape.size())
                    .template cast<S>() / S(255);
    Random own = random.split(static_cast<std::uint64_t>(index));
    for (const auto& transform : transforms) x = transform(std::move(x), own);
    return x;
  };

  // The first image tells the shape of all.
  const Tensor<S> first = image(indices[0]);
  const auto count = static_cast<Index>(indices.size());
  Shape batch_shape{count};
  for (Index size : first.shape()) batch_shape.append(size);
  Batch<S> batch{Tensor<S>(batch_shape, uninitialized), std::vector<Index>(indices.size())};
  S* const out = batch.images.data();
  parallel_for(count, [&](Index n) {
    const Index index = indices[static_cast<std::size_t>(n)];
    const Tensor<S> x = n == 0 ? first : image(index);
    if (x.shape() != first.shape()) {
      fail("make_batch", "expected images of one shape, ", first.shape(), ", got ", x.shape(), " at index ", index);
    }
    std::copy_n(x.cdata(), x.size(), out + n * x.size());
    batch.labels[static_cast<std::size_t>(n)] = data.labels[static_cast<std::size_t>(index)];
  });
  return batch;
}

struct BatchesOptions {
  Index batch_size = 1;
  bool shuffle = false;    ///< in a new order each epoch
  bool drop_last = false;  ///< leave out a last batch that is not full
};

/// The batches of one epoch after another:
///
///     Batches<float> batches(data, {.batch_size = 128, .shuffle = true}, rng, {RandomHorizontalFlip{}});
///     for (Index epoch = 0; epoch < epochs; ++epoch) {
///       batches.set_epoch(epoch);
///       for (auto [images, labels] : batches) …
///     }
///
/// The order depends on (seed, epoch), what is drawn for an image on (seed, epoch, its index): so any batch of any
/// epoch can be made again. `data` must outlive it. Throws Error for a batch_size below 1 or an empty dataset.
template <typename S>
class Batches {
 public:
  Batches(const ImageDataset& data, BatchesOptions options, const Random& random,
          std::vector<Transform<S>> transforms = {})
      : data_(&data), options_(options), random_(random), transforms_(std::move(transforms)),
        order_(static_cast<std::size_t>(data.size())) {
    if (options.batch_size < 1) fail("Batches", "expected batch_size of at least 1, got ", options.batch_size);
    if (data.size() == 0) fail("Batches", "expected a dataset that is not empty, got ", data.images.shape());
    set_epoch(0);
  }

  /// Goes to the order and the random draws of an epoch.
  void set_epoch(Index epoch) {
    epoch_ = epoch;
    std::iota(order_.begin(), order_.end(), Index{0});
    if (!options_.shuffle) return;
    Random random = random_.split(0).split(static_cast<std::uint64_t>(epoch));
    for (std::size_t left = order_.size(); left > 1; --left) {  // Fisher and Yates
      std::swap(order_[left - 1], order_[static_cast<std::size_t>(random.below(static_cast<Index>(left)))]);
    }
  }

  /// The number of batches in an epoch.
  Index size() const {
    const Index full = data_->size() / options_.batch_size;
    return full + (options_.drop_last || data_->size() % options_.batch_size == 0 ? 0 : 1);
  }

  /// Batch number i of the epoch. Throws Error when there is none.
  Batch<S> operator[](Index i) const {
    if (i < 0 || i >= size()) fail("Batches", "expected a batch from 0 to ", size() - 1, ", got ", i);
    const auto first = static_cast<std::size_t>(i * options_.batch_size);
    const auto count = std::min(static_cast<std::size_t>(options_.batch_size), order_.size() - first);
    return make_batch<S>(*data_, std::span(order_).subspan(first, count),
                         random_.split(1).split(static_cast<std::uint64_t>(epoch_)), transforms_);
  }

  /// Walks through the epoch; each batch is made when it is looked at.
  class Iterator {
   public:
    Iterator(const Batches& batches, Index i) : batches_(&batches), i_(i) {}
    Batch<S> operator*() const { return (*batches_)[i_]; }
    Iterator& operator++() {
      ++i_;
      return *this;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    const Batches* batches_;
    Index i_;
  };
  Iterator begin() const { return {*this, 0}; }
  Iterator end() const { return {*this, size()}; }

 private:
  const ImageDataset* data_;
  BatchesOptions options_;
  Random random_;
  std::vector<Transform<S>> transforms_;
  std::vector<Index> order_;
  Index epoch_ = 0;
};

}  // namespace residua::inline RESIDUA_ABI
