// DropPath: in training, whole samples of a branch are dropped at random; also called stochastic depth.
#pragma once

#include <algorithm>

#include <residua/layers/dropping.hpp>

namespace residua::inline RESIDUA_ABI {

/// What is dropped together.
enum class DropPathMode {
  row,    ///< each sample by itself
  batch,  ///< all samples or none
};

struct DropPathOptions {
  double p = 0;  ///< probability of a sample to be dropped
  DropPathMode mode = DropPathMode::row;
};

/// y[n] = x[n] / (1 − p) or 0, the latter with probability p, in training; y = x in evaluation. Put at the end of a
/// residual branch it skips the branch for some samples. Throws Error for a p outside of [0, 1], or in forward for an
/// input without a batch axis.
///
/// Huang et al., "Deep Networks with Stochastic Depth" (2016).
template <typename S>
class DropPath : public Dropping<DropPath<S>, DropPathOptions, S> {
  using Base = Dropping<DropPath, DropPathOptions, S>;

 public:
  static constexpr const char* name = "DropPath";

  explicit DropPath(const DropPathOptions& o = {}) : Base(o) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    if (x.rank() < 1) tape.fail(name, "expected an input with a batch axis, got ", x.shape());
    return Base::forward(std::move(x), tape);
  }

  void thin(const detail::Drop<S>& drop, const Shape& shape, const S* x, S* y) const {
    const Index samples = shape[0], size = shape.size() / std::max<Index>(1, samples);
    parallel_for(samples, [&](Index n) {
      const Index drawn = this->options.mode == DropPathMode::row ? n : 0;
      const S factor = drop.factors(drawn / 4)[static_cast<std::size_t>(drawn % 4)];
      ArrayMap<S>(y + n * size, size) = ConstArrayMap<S>(x + n * size, size) * factor;
    });
  }
};

}  // namespace residua::inline RESIDUA_ABI
