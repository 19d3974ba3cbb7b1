// Dropout: in training, elements are dropped at random.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include <residua/core/layer.hpp>
#include <residua/layers/identity.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// Drops with probability p and scales what it keeps by 1 / (1 − p), so that the mean stays. It is a generator and no
/// mask: what is drawn for a position can be drawn again in backward.
template <typename S>
class Drop {
 public:
  Drop(Random& random, double p)
      : random_(random.fork()), dropped_(static_cast<std::uint64_t>(p * 0x1p32)), kept_(p < 1 ? S(1 / (1 - p)) : S(0)) {}

  /// The factors at positions 4·i … 4·i + 3.
  std::array<S, 4> factors(Index i) const {
    const auto bits = random_.block(static_cast<std::uint64_t>(i));
    const auto factor = [&](std::uint32_t b) { return b < dropped_ ? S(0) : kept_; };
    return {factor(bits[0]), factor(bits[1]), factor(bits[2]), factor(bits[3])};
  }

  /// Throws Error unless p is a probability.
  static void check(std::string_view layer, double p) {
    if (!(p >= 0 && p <= 1)) fail(layer, "expected p between 0 and 1, got ", p);
  }

 private:
  Random random_;
  std::uint64_t dropped_;  // 32 random bits below this mean "drop"
  S kept_;
};

}  // namespace detail

struct DropoutOptions {
  double p = 0.5;  ///< probability of an element to be dropped
};

/// y = x / (1 − p) or 0, the latter with probability p, in training; y = x in evaluation. Of any shape.
/// Throws Error for a p outside of [0, 1].
///
/// Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).
template <typename S>
class Dropout : public Network<Dropout<S>, S> {
 public:
  DropoutOptions options;

  explicit Dropout(const DropoutOptions& o = {}) : options(o) { Drop::check("Dropout", o.p); }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    std::optional<Drop> drop;
    if (tape.training() && options.p > 0) drop.emplace(tape.random(), options.p);
    tape.push_for(false, x.shape(), drop);
    return drop ? thinned(std::move(x), *drop) : x;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [shape, drop] = tape.template pop<Shape, std::optional<Drop>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("Dropout", dy, shape, tape);
    return drop ? thinned(std::move(dy), *drop) : dy;
  }

  Layer<S> inference() const { return Identity<S>(); }

  static void visit(auto&, auto&&) {}

 private:
  using Drop = detail::Drop<S>;

  static Tensor<S> thinned(Tensor<S> x, const Drop& drop) {
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    S* const out = y.data();
    parallel_ranges((y.size() + 3) / 4, Index{1} << 12, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i) {
        const auto factors = drop.factors(i);
        const Index at = 4 * i, end = std::min(y.size(), at + 4);
        for (Index j = at; j < end; ++j) out[j] = in[j] * factors[static_cast<std::size_t>(j - at)];
      }
    });
    return y;
  }
};

}  // namespace residua::inline RESIDUA_ABI
