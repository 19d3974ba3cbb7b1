// DropPath: in training, whole samples of a branch are dropped at random; also called stochastic depth.
#pragma once

#include <residua/layers/dropout.hpp>

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
class DropPath : public Network<DropPath<S>, S> {
 public:
  DropPathOptions options;

  explicit DropPath(const DropPathOptions& o = {}) : options(o) { Drop::check("DropPath", o.p); }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    if (x.rank() < 1) tape.fail("DropPath", "expected an input with a batch axis, got ", x.shape());
    std::optional<Drop> drop;
    if (tape.training() && options.p > 0) drop.emplace(tape.random(), options.p);
    tape.push_for(false, x.shape(), drop);
    return drop ? thinned(std::move(x), *drop) : x;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [shape, drop] = tape.template pop<Shape, std::optional<Drop>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("DropPath", dy, shape, tape);
    return drop ? thinned(std::move(dy), *drop) : dy;
  }

  Layer<S> inference() const { return Identity<S>(); }

  static void visit(auto&, auto&&) {}

 private:
  using Drop = detail::Drop<S>;

  Tensor<S> thinned(Tensor<S> x, const Drop& drop) const {
    const Index samples = x.dim(0), size = x.size() / std::max<Index>(1, samples);
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    S* const out = y.data();
    parallel_for(samples, [&](Index n) {
      const Index drawn = options.mode == DropPathMode::row ? n : 0;
      const S factor = drop.factors(drawn / 4)[static_cast<std::size_t>(drawn % 4)];
      ArrayMap<S>(out + n * size, size) = ConstArrayMap<S>(in + n * size, size) * factor;
    });
    return y;
  }
};

}  // namespace residua::inline RESIDUA_ABI
