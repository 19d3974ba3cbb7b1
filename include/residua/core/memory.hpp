// Where tensors' memory comes from: shared blocks, and a capped cache of free ones.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include <residua/core/eigen.hpp>
#include <residua/core/segments.hpp>

namespace residua::inline RESIDUA_ABI {

/// What memory_statistics() tells; sizes in bytes.
struct MemoryStatistics {
  std::size_t live = 0;                ///< held by tensors now
  std::size_t cached = 0;              ///< free, kept for the next tensors
  std::size_t peak = 0;                ///< largest `live` so far, of each thread's scratch on its own
  std::uint64_t system_requests = 0;   ///< how often the system was asked for memory
  std::uint64_t copies = 0;            ///< how often a write had to copy a shared tensor first
};

namespace detail {

/// Which of how many threads of a parallel_for this one is; number 0 of 0 outside.
struct ParallelPlace {
  std::uint32_t number = 0, of = 0;
};
inline ParallelPlace& parallel_place() {
  thread_local ParallelPlace place;
  return place;
}

/// What a thread does between two looks at what another is about to change.
inline void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/// A number that many read, and one at a time changes.
class Tally {
 public:
  operator std::size_t() const { return value_.load(std::memory_order_relaxed); }
  void set(std::size_t value) { value_.store(value, std::memory_order_relaxed); }
  void operator+=(std::size_t more) { set(*this + more); }
  void operator-=(std::size_t less) { set(*this - less); }

 private:
  std::atomic<std::size_t> value_{0};
};

/// Blocks come in sizes of 2^k · {1, 1¼, 1½, 1¾}; a freed block waits in its size's list for the next request. Large ones
/// are pieces of segments instead, of just the size.
/// Whenever a block is made, or given back outside of parallel_for, freed and used ones together are brought below 1½ times the
/// most that was ever in use (plus 64 MiB): free pieces go back to the system first, then the largest free blocks. One cache
/// serves all threads, and a thread that ends leaves nothing behind.
///
/// How many threads of a parallel_for hold scratch at the same moment is up to chance. So each of them has lists of its own
/// there, also for large blocks, and whichever first needs one more of a size gets it for all: later calls find what they
/// need on other threads too, and the threads seldom wait for each other.
class MemoryCache {
 public:
  [[gnu::noinline]] static MemoryCache& instance() {
    static MemoryCache* cache = new MemoryCache;  // never destroyed: tensors with static lifetime may outlive any order
    return *cache;
  }

  // Static and not inlined, as tensors begin and end in many places: what each of them costs the compiler adds up.
  [[gnu::noinline]] static Block* acquire(std::size_t bytes) { return instance().take(bytes); }
  [[gnu::noinline]] static void release(Block* block) { instance().take_back(block); }

  /// Gives all free memory back to the system, of segments that are in use in whole pages.
  void clear() {
    const auto lock = common().locked();
    common().peak.set(common().live);
    std::size_t live = common().live;
    for (Home& home : others()) {
      const auto own = home.locked();
      home.peak.set(home.live);
      live += home.live;
    }
    trim(live);
  }

  /// Gives the free scratch of parallel_for back: all its threads, however many, start with the same.
  void clear_scratch() {
    for (Home& home : others()) {
      const auto lock = home.locked();
      home.peak.set(home.live);
      for (std::size_t bin = 0; bin < bins; ++bin) {
        while (home.free[bin] != nullptr) home.destroy_first(bin);
      }
    }
  }

  /// Fills all free memory with bytes that make a NaN: whoever reads what it did not write will show it.
  void poison() {
    for (Home& home : homes()) {
      const auto lock = home.locked();
      for (std::size_t bin = 0; bin < bins; ++bin) {
        for (Block* block = home.free[bin]; block != nullptr; block = block->next) {
          std::memset(block->data(), 0xFF, size_of(bin));
        }
      }
    }
    const auto lock = common().locked();
    segments_.for_each_free([](void* begin, std::size_t size) { std::memset(begin, 0xFF, size); });
  }

  void count_copy() { copies_.fetch_add(1, std::memory_order_relaxed); }

  [[gnu::noinline]] MemoryStatistics statistics() {
    const auto lock = common().locked();
    MemoryStatistics result;
    for (const Home& home : homes()) {
      result.live += home.live;
      result.cached += home.cached;
      result.peak += home.peak;
    }
    result.cached += segments_.touched();
    result.system_requests = system_requests_.load(std::memory_order_relaxed);
    result.copies = copies_.load(std::memory_order_relaxed);
    return result;
  }

 private:
  static constexpr std::size_t smallest = 6;  // 2^6 bytes
  static constexpr std::size_t bins = 256;
  static constexpr std::size_t large = std::size_t{1} << 18;  // bytes
  static constexpr std::uint32_t most_threads = 64;  // with lists of their own; any more share them

  /// The free blocks of a thread, and how much it has. Changed by whoever holds the lock; the counts are read without.
  struct alignas(alignment) Home {
    std::mutex mutex;
    Tally live, cached, peak;
    std::array<Block*, bins> free{};
    std::array<std::uint32_t, bins> blocks{};  // of each size, free and in use

    /// The lock is not held for long: whoever finds it taken tries again before going to sleep.
    std::unique_lock<std::mutex> locked() {
      for (int attempt = 0; attempt < 100; ++attempt) {
        std::unique_lock lock(mutex, std::try_to_lock);
        if (lock) return lock;
        pause_briefly();
      }
      return std::unique_lock(mutex);
    }

    void count_live(std::size_t size) {
      live += size;
      peak.set(std::max<std::size_t>(peak, live));
    }

    void put(Block* block) {
      cached += size_of(block->bin);
      block->next = std::exchange(free[block->bin], block);
    }

    /// A free block of this size, which is in use from now on; null without any.
    Block* take(std::size_t bin) {
      Block* const block = free[bin];
      if (block == nullptr) return nullptr;
      free[bin] = block->next;
      cached -= size_of(bin);
      count_live(size_of(bin));
      block->owners.store(1, std::memory_order_relaxed);
      return block;
    }

    void destroy_first(std::size_t bin) {
      Block* block = free[bin];
      free[bin] = block->next;
      cached -= size_of(bin);
      --blocks[bin];
      block->~Block();
      ::operator delete(static_cast<void*>(block), std::align_val_t{alignment});
    }
  };

  /// Those of the threads that there have been.
  std::span<Home> homes() { return {homes_.data(), used_}; }
  std::span<const Home> homes() const { return {homes_.data(), used_}; }
  std::span<Home> others() { return homes().subspan(1); }

  /// Outside of parallel_for. Its lock also guards the segments, and is taken before those of others.
  Home& common() { return homes_[0]; }

  Block* take(std::size_t bytes) {
    const ParallelPlace place = parallel_place();
    if (place.of == 0 && bytes >= large) return take_piece(bytes);
    const std::size_t bin = bin_of(bytes);
    const std::uint32_t number = place.of == 0 ? 0 : 1 + place.number % most_threads;
    Home& home = homes_[number];
    if (Block* const block = take_free(home, bin)) return block;

    Block* block = create(bin, number);
    if (block == nullptr) {  // the free blocks may be what is missing
      clear();
      block = create(bin, number);
    }
    if (block == nullptr) throw std::bad_alloc();
    {
      const auto lock = home.locked();
      home.count_live(size_of(bin));
    }
    provide(bin, blocks_of(home, bin), std::min(place.of, most_threads));
    const auto lock = common().locked();
    trim(limit());
    return block;
  }

  /// One more free block for each thread that has fewer of this size, as far as there is memory.
  void provide(std::size_t bin, std::uint32_t wanted, std::uint32_t threads) {
    if (threads > 0) threads_ = threads;
    for (std::size_t used = used_; used < 1 + threads && !used_.compare_exchange_weak(used, 1 + threads);) continue;
    for (std::uint32_t i = 1; i <= threads; ++i) {
      if (blocks_of(homes_[i], bin) >= wanted) continue;
      Block* const block = create(bin, i);
      if (block == nullptr) return;
      const auto lock = homes_[i].locked();
      homes_[i].put(block);
    }
  }

  static Block* take_free(Home& home, std::size_t bin) {
    const auto lock = home.locked();
    return home.take(bin);
  }
  static std::uint32_t blocks_of(Home& home, std::size_t bin) {
    const auto lock = home.locked();
    return home.blocks[bin];
  }

  Block* take_piece(std::size_t bytes) {
    const std::size_t size = Segments::piece_size(bytes);
    auto lock = common().locked();
    Piece* piece = segments_.take(size);
    if (piece == nullptr) {
      lock.unlock();
      Piece* segment = Segments::create(std::max(size, Segments::usual_size));
      if (segment == nullptr) segment = Segments::create(size);
      if (segment == nullptr) {  // the free blocks may be what is missing
        clear();
        segment = Segments::create(size);
      }
      if (segment == nullptr) throw std::bad_alloc();
      lock.lock();
      system_requests_.fetch_add(1, std::memory_order_relaxed);
      segments_.add(segment);
      piece = segments_.take(size);
    }
    common().count_live(size);
    return piece;
  }

  void take_back(Block* block) {
    Home& home = homes_[block->home];
    const auto lock = home.locked();
    if (block->bin == Piece::no_bin) {
      home.live -= static_cast<Piece*>(block)->size;
      segments_.put_back(static_cast<Piece*>(block));
    } else {
      home.live -= size_of(block->bin);
      home.put(block);
    }
    if (&home == &common()) trim(limit());
  }

  /// One of a home's blocks, which does not count as live or free yet; null where the system has no memory.
  Block* create(std::size_t bin, std::uint32_t home) {
    const std::size_t size = size_of(bin);
    // One alignment for the header and one of slack, so that kernels may read whole vectors at the end.
    void* const raw = ::operator new(size + 2 * alignment + gap(size, home), std::align_val_t{alignment}, std::nothrow);
    if (raw == nullptr) return nullptr;
    // Whatever the block is used for, it fills these pages, or most of them.
    if (size >= std::size_t{3} << 20) advise(raw, size_of(bin - 1), Pages::make_large);
    Block* const block = new (raw) Block;
    block->bin = static_cast<std::uint32_t>(bin);
    block->home = home;
    system_requests_.fetch_add(1, std::memory_order_relaxed);
    const auto lock = homes_[home].locked();
    ++homes_[home].blocks[bin];
    return block;
  }

  /// How far a thread's scratch keeps off what follows it. A processor that foresees strides fetches lines far beyond the end:
  /// if another thread is writing there, each takes them from the other again and again. Nothing ever touches the gap: of
  /// fresh memory it takes addresses only. It is not counted.
  static std::size_t gap([[maybe_unused]] std::size_t size, [[maybe_unused]] std::uint32_t home) {
#if defined(__SANITIZE_ADDRESS__)  // which shall see what goes beyond the end
    return 0;
#else
    return home == 0 ? 0 : std::clamp<std::size_t>(4 * size, std::size_t{16} << 10, std::size_t{512} << 10);
#endif
  }

  static std::size_t bin_of(std::size_t bytes) {
    const std::size_t wanted = std::max<std::size_t>(bytes, std::size_t{1} << smallest) - 1;
    const auto power = static_cast<std::size_t>(std::bit_width(wanted)) - 1;      // 2^power <= wanted
    return 4 * (power - smallest + 1) + ((wanted >> (power - 2)) & 3) - 3;
  }
  static std::size_t size_of(std::size_t bin) {
    const std::size_t power = smallest + bin / 4;
    return (std::size_t{1} << power) + (bin % 4) * (std::size_t{1} << (power - 2));
  }

  /// By tensors and by what is free.
  std::size_t held() const {
    std::size_t result = segments_.touched();
    for (const Home& home : homes()) result += home.live + home.cached;
    return result;
  }

  /// Each thread may need what any has needed.
  std::size_t limit() const {
    std::size_t scratch = 0;
    for (const Home& home : homes().subspan(1)) scratch = std::max<std::size_t>(scratch, home.peak);
    const std::size_t peak = homes_[0].peak + threads_ * scratch;
    return peak + peak / 2 + (std::size_t{64} << 20);
  }

  /// Gives free memory back where more than `most` is held. With the lock of common() held.
  void trim(std::size_t most) {
    const std::size_t now = held();
    if (now <= most) return;
    segments_.give_back(now - most);
    for (std::size_t bin = bins; bin-- > 0 && held() > most;) {
      while (common().free[bin] != nullptr && held() > most) common().destroy_first(bin);
      for (Home& home : others()) {
        const auto lock = home.locked();
        while (home.free[bin] != nullptr && held() > most) home.destroy_first(bin);
      }
    }
  }

  std::array<Home, 1 + most_threads> homes_;  // outside of parallel_for, then of each thread inside
  std::atomic<std::size_t> used_{1}, threads_{0};  // how many homes there have been; threads of the last parallel_for
  Segments segments_;
  std::atomic<std::uint64_t> system_requests_{0}, copies_{0};
};

/// A counted reference to a block. The count is atomic, so owners may live in different threads.
class Storage {
 public:
  Storage() = default;
  explicit Storage(std::size_t bytes) : block_(bytes == 0 ? nullptr : MemoryCache::acquire(bytes)) {}
  Storage(const Storage& other) : block_(other.block_) {
    if (block_) block_->owners.fetch_add(1, std::memory_order_relaxed);
  }
  Storage(Storage&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  Storage& operator=(Storage other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  [[gnu::noinline]] ~Storage() {
    if (block_ && block_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) MemoryCache::release(block_);
  }

  void* data() const { return block_ ? block_->data() : nullptr; }

  /// True when nobody else holds the block; what earlier owners did with it has happened by then.
  bool unique() const { return block_ == nullptr || block_->owners.load(std::memory_order_acquire) == 1; }

 private:
  Block* block_ = nullptr;
};

/// `size` values of a simple type, not initialised, in memory from the cache.
template <typename T>
class Scratch {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  explicit Scratch(Index size) : storage_(static_cast<std::size_t>(size) * sizeof(T)), size_(size) {}
  Scratch(Scratch&&) noexcept = default;

  T* data() const { return static_cast<T*>(storage_.data()); }
  T& operator[](Index i) const { return data()[i]; }
  Index size() const { return size_; }

 private:
  Storage storage_;
  Index size_;
};

}  // namespace detail

/// What the library holds at the moment, and how often it asked the system or copied. Process-wide.
inline MemoryStatistics memory_statistics() { return detail::MemoryCache::instance().statistics(); }

/// Gives the cache of free memory back to the system. Never needed for correctness.
inline void release_memory() { detail::MemoryCache::instance().clear(); }

}  // namespace residua::inline RESIDUA_ABI
