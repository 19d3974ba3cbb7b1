// Parameter and Buffer: what a layer learns and what it remembers, with an identity that outlives copies and moves.
#pragma once

#include <memory>
#include <utility>

#include <residua/core/elementwise.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {
template <typename T> class Tracked;

/// Where a tracked value is now: inside its owner, or once the owner is gone in memory of its own, which its destructor asks
/// for. Of no type, so that it is compiled once for all.
struct Anchor {
  void* at;
  void (*destroy)(void*) = nullptr;  // the value, when it has no owner

  explicit Anchor(void* value) : at(value) {}
  Anchor(const Anchor&) = delete;
  Anchor& operator=(const Anchor&) = delete;
  ~Anchor() {
    if (destroy != nullptr) destroy(at);
  }
};
}  // namespace detail

/// A shared handle of a Parameter or Buffer: `p->value`. It follows its target when the layer moves, sees what is
/// assigned to it, and keeps it alive when the layer is gone.
template <typename T>
class Handle {
 public:
  T* operator->() const { return static_cast<T*>(anchor_->at); }
  T& operator*() const { return *operator->(); }
  friend bool operator==(const Handle& a, const Handle& b) { return a.anchor_ == b.anchor_; }

 private:
  friend class detail::Tracked<T>;
  explicit Handle(std::shared_ptr<detail::Anchor> anchor) : anchor_(std::move(anchor)) {}
  std::shared_ptr<detail::Anchor> anchor_;
};

namespace detail {

/// A T with an identity. A copy is somebody else, a move takes the identity along, an assignment keeps it.
// Not inlined: each would stand once for each member of each layer.
template <typename T>
class Tracked : public T {
 public:
  [[gnu::noinline]] explicit Tracked(T initial) : T(std::move(initial)), anchor_(new Anchor(content())) {}
  [[gnu::noinline]] Tracked(const Tracked& other) : Tracked(other.copied()) {}
  [[gnu::noinline]] Tracked(Tracked&& other) noexcept
      : T(std::move(static_cast<T&>(other))), anchor_(std::move(other.anchor_)) {
    if (anchor_) anchor_->at = content();
  }
  [[gnu::noinline]] Tracked& operator=(const Tracked& other) {
    if (this == &other) return *this;
    if (!anchor_) return *this = Tracked(other);  // after a move from here the identity is gone: take the copy's
    T::assign(other.copied());
    return *this;
  }
  [[gnu::noinline]] Tracked& operator=(Tracked&& other) noexcept {
    if (this == &other) return *this;
    T::assign(std::move(static_cast<T&>(other)));
    if (!anchor_ && (anchor_ = std::move(other.anchor_))) anchor_->at = content();
    return *this;
  }
  [[gnu::noinline]] ~Tracked() {
    if (!anchor_ || anchor_.use_count() == 1) return;
    anchor_->at = new T(std::move(*content()));
    anchor_->destroy = &destroy_content;
  }

  Handle<T> handle() const { return Handle<T>(anchor_); }

 private:
  T* content() { return this; }
  static void destroy_content(void* at) { delete static_cast<T*>(at); }

  std::shared_ptr<Anchor> anchor_;
};

}  // namespace detail

/// How the file format, which is PyTorch's, orders what we keep channels-last. Only readers and writers of files turn it.
enum class Layout {
  plain,        ///< the same in memory and in files
  convolution,  ///< (K, R, S, C) in memory, (K, C, R, S) in files
  image,        ///< (H, W, C) in memory, (C, H, W) in files
  count,        ///< one number, a 64-bit integer in files
};

template <typename S>
struct ParameterData {
  Tensor<S> value;
  Tensor<S> grad;             ///< ∂loss/∂value; empty until first added to, then of value's shape
  bool requires_grad = true;  ///< false freezes it: no gradient is computed, no optimizer touches it
  Layout layout = Layout::plain;

  /// grad += expression: an Eigen expression with as many elements as `value`, read row by row.
  /// Nothing is evaluated where requires_grad is false.
  template <typename Derived>
  void add_gradient(const Eigen::DenseBase<Derived>& expression) {
    if (!requires_grad) return;
    const Index rows = expression.rows(), cols = expression.cols();
    if (rows * cols != value.size()) {
      fail("Parameter", "expected a gradient with the size of ", value.shape(), ", got ", rows, " x ", cols);
    }
    check_grad();
    const bool first = grad.empty();
    if (first) grad = Tensor<S>(value.shape(), uninitialized);
    MatrixMap<S> sum(grad.data(), rows, cols);
    if (first) {
      sum = expression.derived().matrix();
    } else {
      sum += expression.derived().matrix();
    }
  }

  /// grad += dvalue, of value's shape.
  void add_gradient(Tensor<S> dvalue) {
    if (!requires_grad) return;
    if (dvalue.shape() != value.shape()) {
      fail("Parameter", "expected a gradient of shape ", value.shape(), ", got ", dvalue.shape());
    }
    check_grad();
    grad = detail::sum(std::move(grad), std::move(dvalue));
  }

  /// Throws Error when `grad` was given a shape that is not value's.
  void check_grad() const {
    if (!grad.empty() && grad.shape() != value.shape()) {
      fail("Parameter", "expected a gradient of shape ", value.shape(), ", found one of ", grad.shape());
    }
  }

  /// A copy has the value; the gradient belongs to a training step of the original.
  ParameterData copied() const { return {value, {}, requires_grad, layout}; }

  void assign(ParameterData other) {
    value = std::move(other.value);
    requires_grad = other.requires_grad;
    layout = other.layout;
    if (!other.grad.empty() || grad.shape() != value.shape()) grad = std::move(other.grad);
  }
};

/// A tensor that is learned. It keeps its identity as long as its layer lives: copying a layer copies the value into a
/// new parameter, assigning a layer assigns into the existing one, so handles an optimizer holds stay good.
template <typename S>
class Parameter : public detail::Tracked<ParameterData<S>> {
 public:
  /// No elements: an option that is off, like the bias of Conv2d({.bias = false}).
  Parameter() : Parameter(Tensor<S>()) {}
  explicit Parameter(Tensor<S> initial, Layout in_files = Layout::plain)
      : detail::Tracked<ParameterData<S>>({std::move(initial), {}, true, in_files}) {}

  /// Whether there is something to learn here: it exists and is not frozen.
  bool trainable() const { return this->requires_grad && !this->value.empty(); }
};

template <typename S>
struct BufferData {
  Tensor<S> value;
  Layout layout = Layout::plain;

  BufferData copied() const { return *this; }
  void assign(BufferData other) { *this = std::move(other); }
};

/// A tensor that is remembered and saved but not learned, like running statistics. Identity as for Parameter.
template <typename S>
class Buffer : public detail::Tracked<BufferData<S>> {
 public:
  Buffer() : Buffer(Tensor<S>()) {}
  explicit Buffer(Tensor<S> initial, Layout in_files = Layout::plain)
      : detail::Tracked<BufferData<S>>({std::move(initial), in_files}) {}
};

/// What `net.parameters()` and `net.named_buffers()` are made of.
template <typename S> using ParameterHandle = Handle<ParameterData<S>>;
template <typename S> using BufferHandle = Handle<BufferData<S>>;

}  // namespace residua::inline RESIDUA_ABI
