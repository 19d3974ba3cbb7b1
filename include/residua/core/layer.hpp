// Layer: a value that computes forward and backward.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <residua/core/network.hpp>
#include <residua/core/parameter.hpp>
#include <residua/core/tape.hpp>
#include <residua/core/visit.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

template <typename T>
Index multiply_adds(const T& layer, const Shape& input) {
  if constexpr (requires { layer.multiply_adds(input); }) {
    return layer.multiply_adds(input);
  } else {
    return 0;
  }
}

}  // namespace detail

// --- children --------------------------------------------------------------------------------------------------------

/// child.forward in the scope of its name, seen by the tape's observer. What a composite calls for each child; `finish`
/// is what it does to the result next, and says afterwards whether the child has done it.
template <typename S, typename Child>
Tensor<S> forward(const Child& child, std::string_view name, Tensor<S> x, Tape<S>& tape, Finish<S>* finish = nullptr) {
  auto scope = tape.scope(name);
  const auto next = tape.finish_with(finish);
  if (!tape.observed()) return child.forward(std::move(x), tape);
  const Shape input = x.shape();
  const std::size_t before = memory_statistics().live;
  Tensor<S> y = child.forward(std::move(x), tape);
  const auto memory = static_cast<std::int64_t>(memory_statistics().live - before);
  if (!name.empty()) tape.report({tape.place(""), false, input, y, {}, detail::multiply_adds(child, input), memory});
  return y;
}

/// child.backward in the scope of its name, seen by the tape's observer.
template <typename S, typename Child>
Tensor<S> backward(Child& child, std::string_view name, Tensor<S> dy, Tape<S>& tape) {
  auto scope = tape.scope(name);
  if (!tape.observed()) return child.backward(std::move(dy), tape);
  const Tensor<S> seen = dy;
  const std::size_t before = memory_statistics().live;
  Tensor<S> dx = child.backward(std::move(dy), tape);
  const auto memory = static_cast<std::int64_t>(memory_statistics().live - before);
  if (!name.empty()) tape.report({tape.place(""), true, seen.shape(), dx, seen, 0, memory});
  return dx;
}

namespace detail {

/// What a layer's forward asks of a parameter or buffer that somebody may have assigned to.
template <typename S>
void check_value(std::string_view layer, std::string_view name, const Tensor<S>& value, const Shape& shape,
                 const Tape<S>& tape) {
  if (value.shape() != shape) {
    tape.fail(layer, "expected ", name, " of shape ", shape, ", found one of ", value.shape());
  }
}

/// What a layer's backward asks first of the gradient it is given.
template <typename S>
void check_gradient(std::string_view layer, const Tensor<S>& dy, const Shape& y, const Tape<S>& tape) {
  if (dy.shape() != y) tape.fail(layer, "expected an output gradient of shape ", y, ", got ", dy.shape());
}

}  // namespace detail

// --- prediction only -------------------------------------------------------------------------------------------------

template <typename S> class Layer;
template <typename S> class BatchNorm;
template <typename S> class Conv2d;
template <typename S> class Linear;
template <typename S> class Residual;
template <typename S> class Sequential;
template <typename S> class Trunk;

namespace detail {

/// What inference() makes of the layers that most networks are built of. An interface, so that a program that does not ask for
/// it does not compile it; whoever asks includes residua.hpp, or blocks/inference.hpp, where it is implemented.
template <typename S>
struct PredictionForms {
  virtual Layer<S> of(const BatchNorm<S>& layer) const = 0;
  virtual Layer<S> of(const Conv2d<S>& layer) const = 0;
  virtual Layer<S> of(const Linear<S>& layer) const = 0;
  virtual Layer<S> of(const Residual<S>& layer) const = 0;
  virtual Layer<S> of(const Sequential<S>& layer) const = 0;
  virtual Layer<S> of(const Trunk<S>& layer) const = 0;

 protected:
  ~PredictionForms() = default;
};
template <typename S> struct AllPredictionForms;

/// Whether it is of one of these that a layer has its inference().
template <typename S, typename L>
constexpr bool has_prediction_form(Layer<S> (L::*)() const) {
  return std::same_as<L, BatchNorm<S>> || std::same_as<L, Conv2d<S>> || std::same_as<L, Linear<S>> ||
         std::same_as<L, Residual<S>> || std::same_as<L, Sequential<S>> || std::same_as<L, Trunk<S>>;
}

}  // namespace detail

// --- any layer -------------------------------------------------------------------------------------------------------

/// Holds any layer of scalar S: any copyable type with
///
///     Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const;     // pushes what backward needs
///     Tensor<S> backward(Tensor<S> dy, Tape<S>& tape);         // pops it, adds parameter gradients, returns dx
///     static void visit(auto& self, auto&& v);                 // v("name", self.member) for parameters, buffers, layers
///
/// A layer made of layers calls residua::forward(child, "name", x, tape) and residua::backward for each, so that errors know
/// paths, and opens `auto scope = tape.scope("");` first, so that a forward that throws leaves nothing on the tape.
///
/// and, where it makes sense, `Layer<S> inference() const` (the same function for prediction only),
/// `Index multiply_adds(const Shape& input) const`, `using Finishes` (see Tape::finish) and the base class Samplewise (see
/// Network::samplewise). A value, as std::function is: copying it copies the layer with new parameters, assigning a layer of
/// the same type assigns into the existing parameters.
template <typename S>
class Layer : public Network<Layer<S>, S> {
 public:
  template <typename T>
    requires(!std::derived_from<std::remove_cvref_t<T>, Layer>)
  Layer(T&& layer) : held_(new Holder<std::remove_cvref_t<T>>(std::forward<T>(layer))) {
    using L = std::remove_cvref_t<T>;
    static_assert(std::copy_constructible<L>, "residua: a layer is a value and must be copyable");
    static_assert(requires(const L& l, Tensor<S> x, Tape<S>& t) { { l.forward(x, t) } -> std::same_as<Tensor<S>>; },
                  "residua: a layer needs Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const, with the network's S");
    static_assert(requires(L& l, Tensor<S> dy, Tape<S>& t) { { l.backward(dy, t) } -> std::same_as<Tensor<S>>; },
                  "residua: a layer needs Tensor<S> backward(Tensor<S> dy, Tape<S>& tape), with the network's S");
    static_assert(detail::Visitable<L>, "residua: a layer needs static void visit(auto& self, auto&& v)");
  }

  Layer(const Layer& other) : held_(other.held().clone()) {}
  Layer(Layer&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
  Layer& operator=(Layer other) {  // by value: it may be a part of this one, which ends here
    if (!held_ || !other.held_ || !held_->take(*other.held_)) std::swap(held_, other.held_);
    return *this;
  }
  ~Layer() { delete held_; }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const { return held().forward(std::move(x), tape); }
  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) { return held().backward(std::move(dy), tape); }

  /// The same function for prediction only; a copy of the layer where it has no faster form.
  Layer inference() const { return held().inference(detail::AllPredictionForms<S>()); }

  /// Multiplications each followed by an addition that forward does for an input of this shape; 0 where not counted.
  Index multiply_adds(const Shape& input) const { return held().multiply_adds(input); }

  /// See Network::samplewise.
  bool samplewise() const { return held().samplewise(); }

  const std::type_info& type() const { return held().type(); }

  /// The held layer when it is a T, else null.
  template <typename T> T* target() { return type() == typeid(T) ? static_cast<T*>(held().address()) : nullptr; }
  template <typename T> const T* target() const { return const_cast<Layer*>(this)->target<T>(); }

  void walk(detail::Walk<S>& walk) { held().walk(walk); }
  static void visit(auto& self, auto&& v) { v("", self); }

 private:
  struct Held {
    virtual ~Held() = default;
    virtual Held* clone() const = 0;
    virtual bool take(Held& other) = 0;
    virtual Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const = 0;
    virtual Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) = 0;
    virtual Layer inference(const detail::PredictionForms<S>& forms) const = 0;
    virtual Index multiply_adds(const Shape& input) const = 0;
    virtual bool samplewise() const = 0;
    virtual void walk(detail::Walk<S>& walk) = 0;
    virtual const std::type_info& type() const = 0;
    virtual void* address() = 0;
  };

  template <typename T>
  struct Holder final : Held {
    T layer;

    explicit Holder(const T& from) : layer(from) {}
    explicit Holder(T&& from) : layer(std::move(from)) {}

    // What is cold runs seldom, and is compiled for size. Only what is called through a pointer may be: g++ takes what follows
    // the call of such a function to run seldom too, in a user's function as well.
    [[gnu::cold]] Held* clone() const override { return new Holder(layer); }
    [[gnu::cold]] bool take(Held& other) override {
      if constexpr (std::is_move_assignable_v<T>) {
        if (other.type() != typeid(T)) return false;
        layer = std::move(static_cast<Holder&>(other).layer);
        return true;
      }
      return false;
    }
    Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const override {
      if constexpr (requires { requires std::same_as<typename T::Finishes, T>; }) {
        return layer.forward(std::move(x), tape);
      } else {
        const auto nothing = tape.finish_with(nullptr);
        return layer.forward(std::move(x), tape);
      }
    }
    Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) override { return layer.backward(std::move(dy), tape); }
    Layer inference([[maybe_unused]] const detail::PredictionForms<S>& forms) const override {
      if constexpr (requires { requires detail::has_prediction_form<S>(&T::inference); }) {
        return forms.of(layer);
      } else if constexpr (requires { layer.inference(); }) {
        return layer.inference();
      } else {
        return Layer(layer);
      }
    }
    Index multiply_adds(const Shape& input) const override {
      return detail::multiply_adds(layer, input);
    }
    bool samplewise() const override { return detail::samplewise<S>(layer); }
    [[gnu::cold]] void walk(detail::Walk<S>& walk) override { walk.node(layer); }
    const std::type_info& type() const override { return typeid(T); }
    void* address() override { return &layer; }
  };

  Held& held() const {
    if (!held_) fail("Layer", "expected a layer, got one that was moved from");
    return *held_;
  }

  Held* held_;
};

}  // namespace residua::inline RESIDUA_ABI
