// SGD: stochastic gradient descent with momentum.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include <residua/core/elementwise.hpp>
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
  explicit SGD(std::vector<ParameterHandle<S>> parameters, const SGDOptions& options = {})
      : SGD(std::vector<typename Base::Group>{{std::move(parameters), options}}) {}
  explicit SGD(std::vector<typename Base::Group> groups) : Base("SGD", std::move(groups)) { this->check(); }

 private:
  void move(const SGDOptions& options, Tensor<S>& value, const Tensor<S>& grad,
            detail::SGDMemory<S>& memory) const override {
    const S lr = static_cast<S>(options.lr), weight_decay = static_cast<S>(options.weight_decay);
    const S momentum = static_cast<S>(options.momentum);
    const bool nesterov = options.nesterov;
    S fresh = static_cast<S>(1 - options.dampening);
    Tensor<S>& buffer = memory.momentum_buffer;
    if (momentum != 0 && buffer.empty()) {
      buffer = Tensor<S>(value.shape());
      fresh = S(1);
    }

    S* const values = value.data();
    S* const buffers = momentum != 0 ? buffer.data() : nullptr;
    parallel_ranges(value.size(), 16384, [&](Index first, Index last) {
      const S* const g = grad.cdata() + first;
      S* const p = values + first;
      const auto d = [=](auto p_, auto g_) { return g_ + weight_decay * p_; };
      if (momentum == 0) {
        kernels::map_range(last - first, p, [=](auto p_, auto g_) { return p_ - lr * d(p_, g_); }, p, g);
        return;
      }
      S* const b = buffers + first;
      const auto moved = [=](auto p_, auto g_, auto b_) { return momentum * b_ + fresh * d(p_, g_); };
      const auto stepped = [=](auto p_, auto g_, auto b_) {
        return p_ - lr * (nesterov ? d(p_, g_) + momentum * b_ : b_);
      };
      kernels::map_range(last - first, b, moved, p, g, b);
      kernels::map_range(last - first, p, stepped, p, g, b);
    });
  }

  void check_options(const SGDOptions& o) const override {
    if (!(o.lr >= 0)) fail("SGD", "expected lr of at least 0, got ", o.lr);
    if (!(o.momentum >= 0)) fail("SGD", "expected momentum of at least 0, got ", o.momentum);
    if (!(o.weight_decay >= 0)) fail("SGD", "expected weight_decay of at least 0, got ", o.weight_decay);
    if (std::isnan(o.dampening)) fail("SGD", "expected a number as dampening, got ", o.dampening);
    if (o.nesterov && (o.momentum <= 0 || o.dampening != 0)) {
      fail("SGD", "expected momentum and no dampening with nesterov, got momentum ", o.momentum, " and dampening ",
           o.dampening);
    }
  }
};

}  // namespace residua::inline RESIDUA_ABI
