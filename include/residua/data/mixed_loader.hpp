// MixedLoader: a loader whose batches are mixed on their way, for training with MixUp or CutMix.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <utility>

#include <residua/core/eigen.hpp>
#include <residua/core/random.hpp>

namespace residua::inline RESIDUA_ABI {

/// The batches of another loader, each passed through `mix(batch, random)`:
///
///     MixedLoader mixed(loader, MixUp{.alpha = 0.2, .num_classes = 10}, rng);
///     fit(net, optimizer, mixed, [](const auto& y, const auto& t) { return cross_entropy(y, t); }, rng, {.epochs = 8});
///
/// What is drawn for a batch depends on the seed, the epoch and its number, so that a run goes on with
/// mixed.epoch(epoch, first_batch) as with a DataLoader.
template <typename Loader, typename Mix>
class MixedLoader {
 public:
  MixedLoader(Loader loader, Mix mix, const Random& random)
      : loader_(std::move(loader)), mix_(std::move(mix)), random_(random.split(0x6d6978)) {}

  Index size() const { return loader_.size(); }
  Index samples() const { return loader_.samples(); }

  class Epoch {
   public:
    class Iterator {
     public:
      auto operator*() const {
        Random own = random_.split(static_cast<std::uint64_t>(number_));
        return mix_(std::move(*at_), own);
      }
      Iterator& operator++() {
        ++at_;
        ++number_;
        return *this;
      }
      friend bool operator==(const Iterator& i, std::default_sentinel_t end) { return i.at_ == end; }

     private:
      friend class Epoch;
      using Inner = decltype(std::declval<const Loader&>().begin());
      Iterator(Inner at, Index number, const Mix& mix, const Random& random)
          : at_(std::move(at)), number_(number), mix_(mix), random_(random) {}

      Inner at_;
      Index number_;
      Mix mix_;
      Random random_;
    };

    Iterator begin() const { return {batches_.begin(), first_, mix_, random_}; }
    std::default_sentinel_t end() const { return {}; }

   private:
    friend class MixedLoader;
    using Batches = decltype(std::declval<const Loader&>().epoch(0));
    Epoch(Batches batches, Index first, const Mix& mix, const Random& random)
        : batches_(std::move(batches)), first_(first), mix_(mix), random_(random) {}

    Batches batches_;
    Index first_;
    Mix mix_;
    Random random_;
  };

  /// The batches of an epoch from number `first_batch` on, to be walked through once.
  Epoch epoch(Index epoch, Index first_batch = 0) const {
    return Epoch(loader_.epoch(epoch, first_batch), first_batch, mix_,
                 random_.split(static_cast<std::uint64_t>(epoch)));
  }

  auto begin() const { return epoch(0).begin(); }
  std::default_sentinel_t end() const { return {}; }

 private:
  Loader loader_;
  Mix mix_;
  Random random_;
};

}  // namespace residua::inline RESIDUA_ABI
