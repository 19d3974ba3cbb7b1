// SGD: stochastic gradient descent with momentum.
#pragma once

#include <cmath>
#include <vector>

#include <residua/optim/optimizer.hpp>

namespace residua::inline RESIDUA_ABI {

struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
};

namespace detail {

template <typename S>
struct SGDMemory {
  Tensor<S> momentum_buffer;  // empty until first used

  static void visit(auto& self, auto&& v, const ParameterData<S>& p) {
    v("momentum_buffer", self.momentum_buffer, p);
  }
};

}  // namespace detail

/// Stochastic gradient descent, as PyTorch's SGD. For each parameter p with gradient g:
///
///     d = g + weight_decay p
///     b = momentum b + (1 − dampening) d          (b = d the first time)
///     p = p − lr b                                with nesterov p − lr (d + momentum b), without momentum p − lr d
///
/// Momentum as in Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
template <typename S>
class SGD final : public GroupedOptimizer<S, SGDOptions, detail::SGDMemory<S>> {
  using Base = GroupedOptimizer<S, SGDOptions, detail::SGDMemory<S>>;

 public:
  /// Throws Error for no parameters, a parameter given twice, a negative lr, momentum or weight_decay, an option that is
  /// NaN, or nesterov without momentum or with dampening.
  explicit SGD(const std::vector<ParameterHandle<S>>& parameters, const SGDOptions& options = {})
      : Base("SGD", parameters, options) {
    this->check();
  }
  explicit SGD(const std::vector<typename Base::Group>& groups) : Base("SGD", groups) { this->check(); }

 private:
  void move(const SGDOptions& options, Tensor<S>& value, const Tensor<S>& grad,
            detail::SGDMemory<S>& memory) const override {
    const S lr = static_cast<S>(options.lr), weight_decay = static_cast<S>(options.weight_decay);
    const S momentum = static_cast<S>(options.momentum);
    const bool nesterov = options.nesterov;
    const S fresh = static_cast<S>(memory.momentum_buffer.empty() ? 1 : 1 - options.dampening);
    if (momentum != 0) detail::keep_from_now_on(memory.momentum_buffer, value);

    detail::move_each(value, grad, [=](auto& p, const auto& g, auto& kept) RESIDUA_INLINE_LAMBDA {
      auto& [b] = kept;
      const auto d = g + weight_decay * p;
      if (momentum != 0) b = momentum * b + fresh * d;
      p = p - lr * (momentum == 0 ? d : nesterov ? d + momentum * b : b);
    }, memory.momentum_buffer);
  }

  void check_options(const SGDOptions& o) const override {
    detail::require_not_negative("SGD", "lr", o.lr);
    detail::require_not_negative("SGD", "momentum", o.momentum);
    detail::require_not_negative("SGD", "weight_decay", o.weight_decay);
    if (std::isnan(o.dampening)) fail("SGD", "expected a number as dampening, got ", o.dampening);
    if (o.nesterov && (o.momentum <= 0 || o.dampening != 0)) {
      fail("SGD", "expected momentum and no dampening with nesterov, got momentum ", o.momentum, " and dampening ",
           o.dampening);
    }
  }
};

}  // namespace residua::inline RESIDUA_ABI
