// Memory for large tensors: segments of the system's memory, cut into pieces of the sizes that are wanted.
//
// A network's activations, gradients and scratch are of many sizes, most of them in use for a part of a step only. With
// blocks of one size each, those of the one would lie idle while the others are made. So free neighbours become one piece
// again, and a piece serves any size that it is large enough for.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include <residua/core/version.hpp>

namespace residua::inline RESIDUA_ABI::detail {

inline constexpr std::size_t alignment = 64;

/// The header in front of every block; the elements begin one alignment further on.
struct Block {
  std::atomic<std::size_t> owners{1};
  std::uint32_t bin = 0, home = 0;  // its size, and the list it returns to
  Block* next = nullptr;            // in that list

  void* data() { return reinterpret_cast<std::byte*>(this) + alignment; }
};

/// A part of a segment. Of a free one the first `touched` bytes may have memory of the system's, the others little or none.
struct Piece : Block {
  std::size_t size = 0, touched = 0;          // with the header; 0 touched while in use
  Piece *before = nullptr, *after = nullptr;  // its neighbours in the segment
  Piece* previous = nullptr;                  // in the list of free ones, as is `next`

  static constexpr std::uint32_t no_bin = ~std::uint32_t{0};

  Piece() { bin = no_bin; }
  bool is_free() const { return touched > 0; }
};
static_assert(sizeof(Piece) <= alignment);

/// What the system is asked to do with the whole pages of some memory, if it can: make them large ones, of 2 MiB, since
/// kernels that walk through much memory then look up addresses more rarely, or take them back.
enum class Pages { make_large, take_back };

inline void advise([[maybe_unused]] void* begin, [[maybe_unused]] std::size_t size, [[maybe_unused]] Pages wish) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t page = std::uintptr_t{1} << 16;  // a multiple of any system's
  const auto at = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = (at + page - 1) / page * page, last = (at + size) / page * page;
  if (first >= last) return;
  ::madvise(reinterpret_cast<void*>(first), last - first, wish == Pages::make_large ? MADV_HUGEPAGE : MADV_DONTNEED);
#endif
}

/// So much fresh memory from the system itself; null where it has none. An allocator may hand out what the program has used
/// before, in small pages that do not become large ones.
inline void* map_pages(std::size_t size) {
#if defined(__linux__)
  void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
#else
  return ::operator new(size, std::align_val_t{alignment}, std::nothrow);
#endif
}
inline void unmap_pages(void* memory, [[maybe_unused]] std::size_t size) {
#if defined(__linux__)
  ::munmap(memory, size);
#else
  ::operator delete(memory, std::align_val_t{alignment});
#endif
}

/// The segments and their free pieces. Whoever calls holds a lock.
class Segments {
 public:
  static constexpr std::size_t usual_size = std::size_t{64} << 20;

  /// Of a piece for so many bytes: one alignment for the header, and one of slack, so that kernels may read whole vectors at
  /// the end; whole pages.
  static std::size_t piece_size(std::size_t bytes) { return (bytes + 2 * alignment + page - 1) / page * page; }

  /// How much of the free pieces may have memory of the system's.
  std::size_t touched() const { return touched_; }

  /// A segment of one piece; null where the system has no memory.
  static Piece* create(std::size_t size) {
    void* const memory = map_pages(size);
    if (memory == nullptr) return nullptr;
    advise(memory, size, Pages::make_large);
    Piece* const piece = new (memory) Piece;
    piece->size = size;
    return piece;
  }
  void add(Piece* segment) { insert(segment, page); }

  /// Of the free pieces that are large enough the one that needs least new memory, then the smallest; null without any.
  Piece* take(std::size_t size) {
    Piece* best = nullptr;
    std::pair<std::size_t, std::size_t> least;
    for (Piece* piece = free_; piece != nullptr; piece = next(piece)) {
      const std::pair cost(size - std::min(size, piece->touched), piece->size);
      if (piece->size < size || (best != nullptr && cost >= least)) continue;
      best = piece;
      least = cost;
    }
    if (best == nullptr) return nullptr;
    const std::size_t touched = remove(best);
    if (best->size > size) {
      Piece* const rest = new (reinterpret_cast<std::byte*>(best) + size) Piece;
      rest->size = best->size - size;
      best->size = size;
      link(rest, best->after);
      link(best, rest);
      insert(rest, std::max(touched, size + page) - size);
    }
    best->owners.store(1, std::memory_order_relaxed);
    return best;
  }

  void put_back(Piece* piece) {
    std::size_t touched = piece->size;
    if (Piece* const after = piece->after; after != nullptr && after->is_free()) {
      touched += remove(after);
      join(piece, after);
    }
    if (Piece* const before = piece->before; before != nullptr && before->is_free()) {
      remove(before);
      touched += before->size;  // all of it, since what is touched is a beginning
      join(before, piece);
      piece = before;
    }
    insert(piece, touched);
  }

  /// Gives memory of free pieces, so many bytes or all there is, back to the system; segments that nothing is used of whole.
  void give_back(std::size_t bytes) {
    const std::size_t wanted = touched_ - std::min(bytes, touched_);
    for (Piece *piece = free_, *following; piece != nullptr && touched_ > wanted; piece = following) {
      following = next(piece);
      const bool whole = piece->before == nullptr && piece->after == nullptr;
      if (!whole && piece->touched == page) continue;
      const std::size_t touched = remove(piece);
      if (whole) {
        unmap_pages(piece, piece->size);
      } else {
        advise(piece->data(), touched - alignment, Pages::take_back);
        insert(piece, page);
      }
    }
  }

  /// Calls f(begin, bytes) for what free pieces have of the system's memory.
  template <typename F>
  void for_each_free(F&& f) const {
    for (Piece* piece = free_; piece != nullptr; piece = next(piece)) f(piece->data(), piece->touched - alignment);
  }

 private:
  static constexpr std::size_t page = 4096;

  static Piece* next(Piece* piece) { return static_cast<Piece*>(piece->next); }

  /// Makes them neighbours.
  static void link(Piece* before, Piece* after) {
    before->after = after;
    if (after != nullptr) after->before = before;
  }
  static void join(Piece* piece, Piece* after) {
    piece->size += after->size;
    link(piece, after->after);
  }

  /// Into the list of free ones.
  void insert(Piece* piece, std::size_t touched) {
    piece->touched = touched;
    touched_ += touched;
    piece->previous = nullptr;
    piece->next = free_;
    if (free_ != nullptr) free_->previous = piece;
    free_ = piece;
  }
  /// Out of it; tells what was touched.
  std::size_t remove(Piece* piece) {
    if (piece->previous != nullptr) piece->previous->next = piece->next;
    if (piece->next != nullptr) next(piece)->previous = piece->previous;
    if (piece == free_) free_ = next(piece);
    touched_ -= piece->touched;
    return std::exchange(piece->touched, 0);
  }

  Piece* free_ = nullptr;
  std::size_t touched_ = 0;
};

}  // namespace residua::inline RESIDUA_ABI::detail
