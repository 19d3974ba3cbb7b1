// Shape: the sizes of a tensor's axes.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <ostream>
#include <span>

#include <residua/core/eigen.hpp>
#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI {

/// The sizes of up to eight axes, outermost first; the last axis is the features, all before it are rows.
/// An image batch is Shape{N, H, W, C}; Shape{} is a single number.
class Shape {
 public:
  static constexpr Index max_rank = 8;

  Shape() = default;
  constexpr Shape(std::initializer_list<Index> sizes) : Shape(std::span<const Index>(sizes.begin(), sizes.size())) {}

  /// Throws Error for more than eight axes, a negative size, or more elements than an Index counts.
  [[gnu::noinline]] constexpr explicit Shape(std::span<const Index> sizes) {
    if (sizes.size() > static_cast<std::size_t>(max_rank)) {
      fail("Shape", "expected at most ", max_rank, " axes, got ", sizes.size());
    }
    for (Index size : sizes) append(size);
  }

  Index rank() const { return rank_; }

  /// Size of an axis; negative axes count from the end: shape[-1] is the number of features.
  Index operator[](Index axis) const { return sizes_[static_cast<std::size_t>(position(axis))]; }

  /// Number of elements: the product of all sizes.
  Index size() const { return size_; }

  Index features() const { return rank_ == 0 ? 1 : (*this)[-1]; }
  Index rows() const {
    Index rows = 1;
    for (Index axis = 0; axis + 1 < rank_; ++axis) rows *= (*this)[axis];
    return rows;
  }

  /// The same shape with another size at one axis.
  Shape with(Index axis, Index size) const {
    Shape result;
    const Index changed = position(axis);
    for (Index i = 0; i < rank_; ++i) result.append(i == changed ? size : (*this)[i]);
    return result;
  }

  /// Axes first … last - 1 as a shape of their own.
  Shape part(Index first, Index last) const {
    Shape result;
    for (Index i = first; i < last; ++i) result.append((*this)[i]);
    return result;
  }

  constexpr void append(Index size) {
    if (rank_ == max_rank) fail("Shape", "expected at most ", max_rank, " axes, got more");
    if (size < 0) fail("Shape", "expected sizes of at least 0, got ", size, " at axis ", rank_);
    // The product of the non-zero sizes is kept in range too, so that no order of multiplication overflows.
    if (size > 0 && extent_ > std::numeric_limits<Index>::max() / 64 / size) {
      fail("Shape", "expected a countable number of elements, got ", extent_, " x ", size);
    }
    sizes_[static_cast<std::size_t>(rank_++)] = size;
    extent_ *= std::max<Index>(size, 1);
    size_ *= size;
  }

  const Index* begin() const { return sizes_.data(); }
  const Index* end() const { return sizes_.data() + rank_; }

  friend bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

  /// Written as [8, 56, 56, 32].
  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    out << '[';
    for (Index i = 0; i < shape.rank(); ++i) out << (i ? ", " : "") << shape[i];
    return out << ']';
  }

 private:
  Index position(Index axis) const {
    const Index counted = axis < 0 ? axis + rank_ : axis;
    if (counted < 0 || counted >= rank_) no_such(axis);
    return counted;
  }
  [[noreturn, gnu::cold, gnu::noinline]] void no_such(Index axis) const {
    fail("Shape", "axis ", axis, " is outside of ", *this);
  }

  std::array<Index, static_cast<std::size_t>(max_rank)> sizes_{};
  Index rank_ = 0;
  Index size_ = 1;
  Index extent_ = 1;
};

namespace detail {

inline constexpr Shape no_elements{0};

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
