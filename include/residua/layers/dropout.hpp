// Dropout: in training, elements are dropped at random.
#pragma once

#include <algorithm>

#include <residua/layers/dropping.hpp>

namespace residua::inline RESIDUA_ABI {

struct DropoutOptions {
  double p = 0.5;  ///< probability of an element to be dropped
};

/// y = x / (1 − p) or 0, the latter with probability p, in training; y = x in evaluation. Of any shape.
/// Throws Error for a p outside of [0, 1].
///
/// Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).
template <typename S>
class Dropout : public Dropping<Dropout<S>, DropoutOptions, S> {
 public:
  static constexpr const char* name = "Dropout";

  explicit Dropout(const DropoutOptions& o = {}) : Dropping<Dropout, DropoutOptions, S>(o) {}

  void thin(const detail::Drop<S>& drop, const Shape& shape, const S* x, S* y) const {
    const Index size = shape.size();
    parallel_ranges((size + 3) / 4, Index{1} << 12, [&](Index first, Index last) {
      for (Index i = first; i < last; ++i) {
        const auto factors = drop.factors(i);
        const Index at = 4 * i, end = std::min(size, at + 4);
        for (Index j = at; j < end; ++j) y[j] = x[j] * factors[static_cast<std::size_t>(j - at)];
      }
    });
  }
};

}  // namespace residua::inline RESIDUA_ABI
