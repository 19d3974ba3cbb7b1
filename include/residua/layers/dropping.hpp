// Dropping: what layers that drop at random share.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/core/threads.hpp>
#include <residua/layers/identity.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// Drops with probability p and scales what it keeps by 1 / (1 − p), so that the mean stays. It is a generator and no
/// mask: what is drawn for a position can be drawn again in backward.
template <typename S>
class Drop {
 public:
  Drop(Random& random, double p)
      : random_(random.fork()),
        dropped_(static_cast<std::uint64_t>(p * 0x1p32)),
        kept_(p < 1 ? S(1 / (1 - p)) : S(0)) {}

  /// The factors at positions 4·i … 4·i + 3.
  std::array<S, 4> factors(Index i) const {
    const auto bits = random_.block(static_cast<std::uint64_t>(i));
    const auto factor = [&](std::uint32_t b) { return b < dropped_ ? S(0) : kept_; };
    return {factor(bits[0]), factor(bits[1]), factor(bits[2]), factor(bits[3])};
  }

 private:
  Random random_;
  std::uint64_t dropped_;  // 32 random bits below this mean "drop"
  S kept_;
};

}  // namespace detail

/// y = x with parts of it dropped, with probability `options.p`, in training; y = x in evaluation. `Derived` gives
/// `thin(drop, shape, x, y)`: y = x · factors, which may be the same memory, and the same factors in backward for dy.
template <typename Derived, typename Options, typename S>
class Dropping : public Samplewise<Derived, S> {
 public:
  Options options;

  explicit Dropping(const Options& o) : options(o) {
    if (!(o.p >= 0 && o.p <= 1)) fail(Derived::name, "expected p between 0 and 1, got ", o.p);
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    std::optional<detail::Drop<S>> drop;
    if (tape.training() && options.p > 0) drop.emplace(tape.random(), options.p);
    tape.push_for(false, x.shape(), drop);
    return drop ? thinned(std::move(x), *drop) : x;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [shape, drop] = tape.template pop<Shape, std::optional<detail::Drop<S>>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient(Derived::name, dy, shape, tape);
    return drop ? thinned(std::move(dy), *drop) : dy;
  }

  Layer<S> inference() const { return Identity<S>(); }

  static void visit(auto&, auto&&) {}

 private:
  Tensor<S> thinned(Tensor<S> x, const detail::Drop<S>& drop) const {
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    static_cast<const Derived&>(*this).thin(drop, y.shape(), in, y.data());
    return y;
  }
};

}  // namespace residua::inline RESIDUA_ABI
