// DataLoader: a dataset cut into batches, in order or shuffled, made when they are asked for or by workers ahead of
// time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <residua/core/options.hpp>
#include <residua/data/batch.hpp>
#include <residua/data/prefetch.hpp>
#include <residua/data/randperm.hpp>

namespace residua::inline RESIDUA_ABI {

struct DataLoaderOptions {
  Index batch_size = 1;
  bool shuffle = false;       ///< in a new order each epoch
  Index num_workers = 0;      ///< threads that make batches ahead; 0: each is made when it is asked for, in the caller
  bool drop_last = false;     ///< leave out a last batch that is not full
  Index prefetch_factor = 2;  ///< how many batches ahead for each worker
};

/// The batches of a dataset, one epoch after another:
///
///     DataLoader<float> loader(data, {.batch_size = 128, .shuffle = true, .num_workers = 1}, rng,
///                              {RandomHorizontalFlip{}});
///     for (Index epoch = 0; epoch < epochs; ++epoch) {
///       for (auto [images, labels] : loader.epoch(epoch)) …
///     }
///
/// and of a dataset of one's own DataLoader<float, Sine>. A loader never changes: a batch is a function of the seed,
/// the epoch and its number. The order depends on (seed, epoch), what is drawn for a sample on (seed, epoch, its
/// index): so the same bytes come for any number of workers and threads, any batch can be made again, and a run that
/// was interrupted goes on with loader.epoch(epoch, first_batch).
///
/// Copies of a loader, and its epochs, share one copy of the dataset. Throws Error for a batch_size or prefetch_factor
/// below 1, a num_workers below 0, or an empty dataset.
template <typename S, Dataset Data = ImageDataset>
class DataLoader {
 public:
  using Item = Batch<S, TargetsOf<S, Data>>;

  DataLoader(Data data, DataLoaderOptions options, const Random& random, std::vector<Transform<S>> transforms = {})
      : made_of_(std::make_shared<const Ingredients>(
            Ingredients{std::move(data), options, random, std::move(transforms)})) {
    detail::require_at_least("DataLoader", "batch_size", 1, options.batch_size);
    detail::require_at_least("DataLoader", "num_workers", 0, options.num_workers);
    detail::require_at_least("DataLoader", "prefetch_factor", 1, options.prefetch_factor);
    if (made_of_->data.size() < 1) {
      fail("DataLoader", "expected a dataset that is not empty, got one of size ", made_of_->data.size());
    }
  }

  const Data& data() const { return made_of_->data; }

  /// The number of batches in an epoch.
  Index size() const {
    const Index batch_size = made_of_->options.batch_size, full = data().size() / batch_size;
    return full + (made_of_->options.drop_last || data().size() % batch_size == 0 ? 0 : 1);
  }

  /// The number of samples in an epoch.
  Index samples() const { return std::min(data().size(), size() * made_of_->options.batch_size); }

  /// Batch number i of an epoch; with shuffle each call draws the epoch's order anew. Throws Error when there is none.
  Item batch(Index epoch, Index i) const {
    if (i < 0 || i >= size()) fail("DataLoader", "expected a batch from 0 to ", size() - 1, ", got ", i);
    return made(order_of(epoch), epoch, i);
  }

  class Epoch;

  /// The batches of an epoch from number `first_batch` on, to be walked through once. The workers live as long as it
  /// does or an iterator of it; leaving the loop stops them after the batch they are at. What making a batch throws
  /// comes out of the loop at that batch. Throws Error for a negative epoch, or a first_batch beyond size().
  Epoch epoch(Index epoch, Index first_batch = 0) const {
    if (first_batch < 0 || first_batch > size()) {
      fail("DataLoader", "expected a first_batch from 0 to ", size(), ", got ", first_batch);
    }
    const Index workers = made_of_->options.num_workers, ahead = workers * made_of_->options.prefetch_factor;
    return Epoch(std::make_shared<detail::Prefetch<Item>>(
        first_batch, size(), workers, ahead,
        [loader = *this, order = order_of(epoch), epoch](Index i) { return loader.made(order, epoch, i); }));
  }

  /// A loader is the range of the batches of epoch 0.
  auto begin() const { return epoch(0).begin(); }
  std::default_sentinel_t end() const { return {}; }

 private:
  struct Ingredients {
    Data data;
    DataLoaderOptions options;
    Random random;
    std::vector<Transform<S>> transforms;
  };

  std::vector<Index> order_of(Index epoch) const {
    if (epoch < 0) fail("DataLoader", "expected an epoch of at least 0, got ", epoch);
    if (made_of_->options.shuffle) {
      Random own = made_of_->random.split(0).split(static_cast<std::uint64_t>(epoch));
      return randperm(data().size(), own);
    }
    std::vector<Index> order(static_cast<std::size_t>(data().size()));
    std::iota(order.begin(), order.end(), Index{0});
    return order;
  }

  Item made(const std::vector<Index>& order, Index epoch, Index i) const {
    const Index first = i * made_of_->options.batch_size;
    const Index count = std::min(made_of_->options.batch_size, data().size() - first);
    const auto indices = std::span(order).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    return make_batch<S>(data(), indices, made_of_->random.split(1).split(static_cast<std::uint64_t>(epoch)),
                         made_of_->transforms);
  }

  std::shared_ptr<const Ingredients> made_of_;
};

/// What DataLoader::epoch gives.
template <typename S, Dataset Data>
class DataLoader<S, Data>::Epoch {
 public:
  /// Stands at one batch. That may be moved from: `for (auto [images, labels] : …)` copies nothing.
  class Iterator {
   public:
    using value_type = Item;
    using difference_type = std::ptrdiff_t;

    Item&& operator*() const { return std::move(*batches_->current()); }
    Iterator& operator++() {
      batches_->next();
      return *this;
    }
    void operator++(int) { batches_->next(); }
    friend bool operator==(const Iterator& at, std::default_sentinel_t) { return !at.batches_->current(); }

   private:
    friend class Epoch;
    explicit Iterator(std::shared_ptr<detail::Prefetch<Item>> batches) : batches_(std::move(batches)) {}

    std::shared_ptr<detail::Prefetch<Item>> batches_;
  };

  Iterator begin() const {
    batches_->next();
    return Iterator(batches_);
  }
  std::default_sentinel_t end() const { return {}; }

 private:
  friend class DataLoader;
  explicit Epoch(std::shared_ptr<detail::Prefetch<Item>> batches) : batches_(std::move(batches)) {}

  std::shared_ptr<detail::Prefetch<Item>> batches_;
};

}  // namespace residua::inline RESIDUA_ABI
