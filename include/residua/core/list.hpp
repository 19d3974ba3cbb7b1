// List: values one after another.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include <residua/core/memory.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// What std::vector is, as far as the library needs it in programs that do not ask for one: of each type it would make them
/// compile some sixty functions, this a dozen. Grows at the end, in memory from the cache.
template <typename T>
class List {
  static_assert(std::is_nothrow_move_constructible_v<T>, "residua: what a list holds moves without throwing");
  static_assert(alignof(T) <= alignment);

 public:
  List() = default;
  List(const List& other) : List() {
    for (const T& value : other) push_back(value);
  }
  List(List&& other) noexcept { swap(other); }
  List& operator=(List other) noexcept {
    swap(other);
    return *this;
  }
  ~List() { clear(); }

  [[gnu::noinline]] void push_back(T value) {
    if (size_ == room_) grow();
    new (end()) T(std::move(value));
    ++size_;
  }
  void pop_back() { values_[--size_].~T(); }
  [[gnu::noinline]] void clear() {
    while (size_ > 0) pop_back();
  }

  Index size() const { return size_; }
  bool empty() const { return size_ == 0; }

  T* begin() { return values_; }
  T* end() { return values_ + size_; }
  const T* begin() const { return values_; }
  const T* end() const { return values_ + size_; }
  T& operator[](Index i) { return values_[i]; }
  const T& operator[](Index i) const { return values_[i]; }
  T& back() { return values_[size_ - 1]; }

 private:
  void grow() {
    const Index room = 2 * room_ + 1;
    Storage larger(static_cast<std::size_t>(room) * sizeof(T));
    T* const values = static_cast<T*>(larger.data());
    for (Index i = 0; i < size_; ++i) {
      new (values + i) T(std::move(values_[i]));
      values_[i].~T();
    }
    storage_ = std::move(larger);
    values_ = values;
    room_ = room;
  }

  void swap(List& other) noexcept {
    std::swap(storage_, other.storage_);
    std::swap(values_, other.values_);
    std::swap(size_, other.size_);
    std::swap(room_, other.room_);
  }

  Storage storage_;
  T* values_ = nullptr;
  Index size_ = 0, room_ = 0;  // values, and for how many there is memory
};

}  // namespace residua::inline RESIDUA_ABI::detail
