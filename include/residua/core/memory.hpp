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
#include <utility>
#include <vector>

#include <residua/core/segments.hpp>
#include <residua/core/version.hpp>

namespace residua::inline RESIDUA_ABI {

/// What memory_statistics() tells; sizes in bytes.
struct MemoryStatistics {
  std::size_t live = 0;                ///< held by tensors now
  std::size_t cached = 0;              ///< free, kept for the next tensors
  std::size_t peak = 0;                ///< largest `live` so far
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

/// Blocks come in sizes of 2^k · {1, 1¼, 1½, 1¾}; a freed block waits in its size's list for the next request. Large ones
/// are pieces of segments instead, of just the size.
/// Freed and used blocks together stay below 1½ times the most that was ever in use (plus 64 MiB): free pieces go back to
/// the system first, then the largest free blocks. One cache serves all threads, and a thread that ends leaves nothing behind.
///
/// How many threads of a parallel_for hold scratch at the same moment is up to chance. So each of them has lists of its own
/// there, also for large blocks, and whichever first needs a size gets it for all: later calls find what they need,
/// whatever thread they run on.
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
    std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.live;
    trim(statistics_.live);
  }

  /// Gives the free scratch of parallel_for back: all its threads, however many, start with the same.
  void clear_scratch() {
    std::lock_guard lock(mutex_);
    for (std::size_t home = 1; home < free_.size(); ++home) {
      for (std::size_t bin = 0; bin < bins; ++bin) {
        while (free_[home][bin] != nullptr) destroy_first(free_[home], bin);
      }
    }
  }

  /// Fills all free memory with bytes that make a NaN: whoever reads what it did not write will show it.
  void poison() {
    std::lock_guard lock(mutex_);
    for (const auto& list : free_) {
      for (std::size_t bin = 0; bin < bins; ++bin) {
        for (Block* block = list[bin]; block != nullptr; block = block->next) {
          std::memset(block->data(), 0xFF, size_of(bin));
        }
      }
    }
    segments_.for_each_free([](void* begin, std::size_t size) { std::memset(begin, 0xFF, size); });
  }

  void count_copy() {
    std::lock_guard lock(mutex_);
    ++statistics_.copies;
  }

  [[gnu::noinline]] MemoryStatistics statistics() {
    std::lock_guard lock(mutex_);
    MemoryStatistics result = statistics_;
    result.cached += segments_.touched();
    return result;
  }

 private:
  Block* take(std::size_t bytes) {
    const ParallelPlace place = parallel_place();
    if (place.of == 0 && bytes >= large) return take_piece(bytes);
    const std::size_t bin = bin_of(bytes);
    const std::uint32_t home = place.of == 0 ? 0 : 1 + place.number;
    {
      const auto lock = locked();
      if (free_.size() < place.of + 1) free_.resize(place.of + 1);
      if (Block* block = free_[home][bin]) {
        free_[home][bin] = block->next;
        statistics_.cached -= size_of(bin);
        count_live(size_of(bin));
        block->owners.store(1, std::memory_order_relaxed);
        return block;
      }
    }
    for (std::uint32_t other = 1; other <= place.of; ++other) {
      if (other != home) take_back(create(bin, other));
    }
    return create(bin, home);
  }

  Block* take_piece(std::size_t bytes) {
    const std::size_t size = Segments::piece_size(bytes);
    auto lock = locked();
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
      ++statistics_.system_requests;
      segments_.add(segment);
      piece = segments_.take(size);
    }
    count_live(size);
    return piece;
  }

  void take_back(Block* block) {
    const auto lock = locked();
    if (block->bin == Piece::no_bin) {
      statistics_.live -= static_cast<Piece*>(block)->size;
      segments_.put_back(static_cast<Piece*>(block));
    } else {
      const std::size_t size = size_of(block->bin);
      statistics_.live -= size;
      statistics_.cached += size;
      block->next = std::exchange(free_[block->home][block->bin], block);
    }
    trim(statistics_.peak + statistics_.peak / 2 + (std::size_t{64} << 20));
  }

  /// The lock is not held for long: whoever finds it taken tries again before going to sleep.
  std::unique_lock<std::mutex> locked() {
    for (int attempt = 0; attempt < 100; ++attempt) {
      std::unique_lock lock(mutex_, std::try_to_lock);
      if (lock) return lock;
      pause_briefly();
    }
    return std::unique_lock(mutex_);
  }

  static constexpr std::size_t smallest = 6;  // 2^6 bytes
  static constexpr std::size_t bins = 256;
  static constexpr std::size_t large = std::size_t{1} << 18;  // bytes

  Block* create(std::size_t bin, std::uint32_t home) {
    const std::size_t size = size_of(bin);
    // One alignment for the header and one of slack, so that kernels may read whole vectors at the end.
    const std::size_t whole = size + 2 * alignment;
    void* raw = ::operator new(whole, std::align_val_t{alignment}, std::nothrow);
    if (raw == nullptr) {  // the free blocks may be what is missing
      clear();
      raw = ::operator new(whole, std::align_val_t{alignment});
    }
    // Whatever the block is used for, it fills these pages, or most of them.
    if (size >= std::size_t{3} << 20) advise(raw, size_of(bin - 1), Pages::make_large);
    Block* block = new (raw) Block;
    block->bin = static_cast<std::uint32_t>(bin);
    block->home = home;
    std::lock_guard lock(mutex_);
    ++statistics_.system_requests;
    count_live(size);
    return block;
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

  void count_live(std::size_t size) {
    statistics_.live += size;
    statistics_.peak = std::max(statistics_.peak, statistics_.live);
  }

  /// By tensors and by what is free.
  std::size_t held() const { return statistics_.live + statistics_.cached + segments_.touched(); }

  void trim(std::size_t limit) {
    if (held() <= limit) return;
    segments_.give_back(held() - limit);
    for (std::size_t bin = bins; bin-- > 0;) {
      for (auto& list : free_) {
        while (list[bin] != nullptr && held() > limit) destroy_first(list, bin);
      }
    }
  }

  void destroy_first(std::array<Block*, bins>& list, std::size_t bin) {
    Block* block = list[bin];
    list[bin] = block->next;
    statistics_.cached -= size_of(bin);
    block->~Block();
    ::operator delete(static_cast<void*>(block), std::align_val_t{alignment});
  }

  std::mutex mutex_;
  std::vector<std::array<Block*, bins>> free_{1};  // outside of parallel_for, then for each thread inside
  Segments segments_;
  MemoryStatistics statistics_;
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
  ~Storage() {
    if (block_ && block_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1) MemoryCache::release(block_);
  }

  void* data() const { return block_ ? block_->data() : nullptr; }

  /// True when nobody else holds the block; what earlier owners did with it has happened by then.
  bool unique() const { return block_ == nullptr || block_->owners.load(std::memory_order_acquire) == 1; }

 private:
  Block* block_ = nullptr;
};

/// The cache as an allocator for standard containers.
template <typename T>
struct CachedAllocator {
  using value_type = T;
  CachedAllocator() = default;
  template <typename U> CachedAllocator(const CachedAllocator<U>&) {}

  T* allocate(std::size_t count) {
    return static_cast<T*>(MemoryCache::acquire(count * sizeof(T))->data());
  }
  void deallocate(T* data, std::size_t) {
    MemoryCache::release(reinterpret_cast<Block*>(reinterpret_cast<std::byte*>(data) - alignment));
  }
  friend bool operator==(CachedAllocator, CachedAllocator) { return true; }
};

}  // namespace detail

/// What the library holds at the moment, and how often it asked the system or copied. Process-wide.
inline MemoryStatistics memory_statistics() { return detail::MemoryCache::instance().statistics(); }

/// Gives the cache of free memory back to the system. Never needed for correctness.
inline void release_memory() { detail::MemoryCache::instance().clear(); }

}  // namespace residua::inline RESIDUA_ABI
