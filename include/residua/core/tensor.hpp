// Tensor: a value with a shape.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <type_traits>
#include <utility>

#include <residua/core/eigen.hpp>
#include <residua/core/error.hpp>
#include <residua/core/memory.hpp>
#include <residua/core/shape.hpp>

namespace residua::inline RESIDUA_ABI {

struct Uninitialized {};
/// Asks for a tensor whose elements will all be written before any is read.
inline constexpr Uninitialized uninitialized{};

/// A contiguous, row-major array of numbers with a run-time shape: (N, H, W, C) for images, (N, T, C) for sequences.
///
/// The last axis is the features, everything before it the rows, so every tensor is also a matrix rows × features.
/// A tensor is a value. Copies share their memory until one of them is written to; they may live in different threads.
///
///   reading   cdata(), carray(), cmatrix(), and data(), array(), matrix(), operator() of a const tensor
///   writing   data(), array(), matrix(), operator() of a non-const tensor: first makes the memory its own
///
/// All views are Eigen maps. A writing view is good until the tensor is next copied or passed on.
template <typename S>
class Tensor {
  static_assert(std::is_arithmetic_v<S>, "residua: a Tensor holds numbers");

 public:
  using Scalar = S;

  /// No elements: shape [0].
  Tensor() : shape_(detail::no_elements) {}

  /// All zeros.
  explicit Tensor(const Shape& shape) : Tensor(shape, S(0)) {}

  // None of these is inlined: tensors come and go in many places, and what each costs the compiler adds up.

  /// All elements equal.
  [[gnu::noinline]] Tensor(const Shape& shape, S value) : Tensor(shape, uninitialized) { std::fill_n(owned(), size(), value); }

  [[gnu::noinline]] Tensor(const Shape& shape, Uninitialized)
      : storage_(static_cast<std::size_t>(shape.size()) * sizeof(S)), shape_(shape) {}

  /// Copies `values`, given in row-major order. Throws Error when their number is not the shape's.
  Tensor(const Shape& shape, std::span<const S> values) : Tensor(checked(shape, values), uninitialized) {
    std::copy(values.begin(), values.end(), owned());
  }

  [[gnu::noinline]] Tensor(const Tensor& other) : storage_(other.storage_), shape_(other.shape_) {}
  [[gnu::noinline]] Tensor& operator=(const Tensor& other) {
    storage_ = other.storage_;
    shape_ = other.shape_;
    return *this;
  }
  /// What a tensor was moved from is empty.
  [[gnu::noinline]] Tensor(Tensor&& other) noexcept
      : storage_(std::move(other.storage_)), shape_(std::exchange(other.shape_, detail::no_elements)) {}
  [[gnu::noinline]] Tensor& operator=(Tensor&& other) noexcept {
    storage_ = std::exchange(other.storage_, {});
    shape_ = std::exchange(other.shape_, detail::no_elements);
    return *this;
  }

  /// A rank-2 tensor from any Eigen matrix expression.
  template <typename Derived>
  static Tensor from(const Eigen::DenseBase<Derived>& expression) {
    Tensor result(Shape{expression.rows(), expression.cols()}, uninitialized);
    result.matrix() = expression.derived().matrix().template cast<S>();
    return result;
  }

  const Shape& shape() const { return shape_; }
  Index rank() const { return shape_.rank(); }
  Index dim(Index axis) const { return shape_[axis]; }
  Index size() const { return shape_.size(); }
  Index rows() const { return shape_.rows(); }
  Index features() const { return shape_.features(); }
  bool empty() const { return size() == 0; }

  const S* cdata() const { return static_cast<const S*>(storage_.data()); }
  ConstArrayMap<S> carray() const { return {cdata(), size()}; }
  ConstMatrixMap<S> cmatrix() const { return {cdata(), rows(), features()}; }

  const S* data() const { return cdata(); }
  ConstArrayMap<S> array() const { return carray(); }
  ConstMatrixMap<S> matrix() const { return cmatrix(); }

  S* data() {
    if (!storage_.unique()) make_unique();
    return owned();
  }
  ArrayMap<S> array() { return {data(), size()}; }
  MatrixMap<S> matrix() { return {data(), rows(), features()}; }

  /// One element. Throws Error when the number of positions is not the rank or one is out of range; loops use views.
  template <std::integral... Positions>
  S operator()(Positions... positions) const {
    return cdata()[offset({static_cast<Index>(positions)...})];
  }
  template <std::integral... Positions>
  S& operator()(Positions... positions) {
    const Index at = offset({static_cast<Index>(positions)...});
    return data()[at];
  }

  /// The same elements, in the same order, with another shape; shares memory. Throws Error when the sizes differ.
  Tensor reshaped(const Shape& shape) const& { return Tensor(*this).reshape(shape); }
  Tensor reshaped(const Shape& shape) && { return std::move(reshape(shape)); }

  /// The elements converted to another scalar.
  template <typename T>
  Tensor<T> cast() const {
    Tensor<T> result(shape_, uninitialized);
    std::transform(cdata(), cdata() + size(), result.data(), [](S value) { return static_cast<T>(value); });
    return result;
  }

  /// True when no other tensor shares the memory, so that a write copies nothing.
  bool unique() const { return storage_.unique(); }

  /// Equal shapes and equal elements.
  friend bool operator==(const Tensor& a, const Tensor& b) {
    return a.shape_ == b.shape_ && std::equal(a.cdata(), a.cdata() + a.size(), b.cdata());
  }

 private:
  S* owned() { return static_cast<S*>(storage_.data()); }

  [[gnu::noinline]] void make_unique() {
    detail::MemoryCache::instance().count_copy();
    detail::Storage copy(static_cast<std::size_t>(size()) * sizeof(S));
    std::copy_n(cdata(), size(), static_cast<S*>(copy.data()));
    storage_ = std::move(copy);
  }

  Tensor& reshape(const Shape& shape) {
    if (shape.size() != size()) fail("Tensor", "cannot give ", shape_, " the shape ", shape);
    shape_ = shape;
    return *this;
  }

  static const Shape& checked(const Shape& shape, std::span<const S> values) {
    if (static_cast<std::size_t>(shape.size()) != values.size()) {
      fail("Tensor", "expected ", shape.size(), " values for ", shape, ", got ", values.size());
    }
    return shape;
  }

  Index offset(std::initializer_list<Index> positions) const {
    if (static_cast<Index>(positions.size()) != rank()) {
      fail("Tensor", "expected ", rank(), " positions for ", shape_, ", got ", positions.size());
    }
    Index at = 0, axis = 0;
    for (Index position : positions) {
      if (position < 0 || position >= dim(axis)) {
        fail("Tensor", "position ", position, " at axis ", axis, " is outside of ", shape_);
      }
      at = at * dim(axis++) + position;
    }
    return at;
  }

  detail::Storage storage_;
  Shape shape_;
};

}  // namespace residua::inline RESIDUA_ABI
