// SGD: stochastic gradient descent with momentum.
#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <residua/core/elementwise.hpp>
#include <residua/core/parameter.hpp>

namespace residua::inline RESIDUA_ABI {

struct SGDOptions {
  double lr = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
};

/// Stochastic gradient descent, as PyTorch's SGD. For each parameter p with gradient g:
///
///     d = g + weight_decay p
///     b = momentum b + (1 − dampening) d          (b = d the first time)
///     p = p − lr b                                with nesterov p − lr (d + momentum b), without momentum p − lr d
///
/// Momentum as in Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
/// A parameter that is frozen or has no gradient is left as it is. `options` may be changed between steps.
template <typename S>
class SGD {
 public:
  SGDOptions options;

  /// Throws Error for no parameters, a negative lr, momentum or weight_decay, an option that is NaN, or nesterov without
  /// momentum or with dampening.
  explicit SGD(std::vector<ParameterHandle<S>> parameters, SGDOptions sgd_options = {})
      : options(sgd_options), parameters_(std::move(parameters)), momentum_buffers_(parameters_.size()) {
    if (parameters_.empty()) fail("SGD", "expected at least one parameter, got none");
    check_options();
  }

  /// Forgets the gradients; the next backward pass begins from nothing.
  void zero_grad() {
    for (auto& p : parameters_) p->grad = {};
  }

  /// Moves every parameter against its gradient. Throws Error, with nothing moved, where a gradient or a momentum
  /// buffer has another shape than its parameter, or where `options` break the constructor's rules.
  void step() {
    check_options();
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      check_shape("gradient", parameters_[i]->grad, i);
      check_shape("momentum buffer", momentum_buffers_[i], i);
    }
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      auto& p = *parameters_[i];
      if (p.requires_grad && !p.grad.empty()) update(p.value, p.grad, momentum_buffers_[i]);
    }
  }

  static void visit(auto& self, auto&& v) {
    v("lr", self.options.lr);
    v("momentum", self.options.momentum);
    for (std::size_t i = 0; i < self.momentum_buffers_.size(); ++i) {
      v(std::to_string(i) + ".momentum_buffer", self.momentum_buffers_[i]);
    }
  }

 private:
  void update(Tensor<S>& value, const Tensor<S>& grad, Tensor<S>& buffer) const {
    const S lr = static_cast<S>(options.lr), weight_decay = static_cast<S>(options.weight_decay);
    const S momentum = static_cast<S>(options.momentum);
    const bool nesterov = options.nesterov;
    S fresh = static_cast<S>(1 - options.dampening);
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

  void check_options() const {
    const auto& o = options;
    if (!(o.lr >= 0)) fail("SGD", "expected lr of at least 0, got ", o.lr);
    if (!(o.momentum >= 0)) fail("SGD", "expected momentum of at least 0, got ", o.momentum);
    if (!(o.weight_decay >= 0)) fail("SGD", "expected weight_decay of at least 0, got ", o.weight_decay);
    if (std::isnan(o.dampening)) fail("SGD", "expected a number as dampening, got ", o.dampening);
    if (o.nesterov && (o.momentum <= 0 || o.dampening != 0)) {
      fail("SGD", "expected momentum and no dampening with nesterov, got momentum ", o.momentum, " and dampening ",
           o.dampening);
    }
  }

  void check_shape(const char* what, const Tensor<S>& tensor, std::size_t i) const {
    const Shape& expected = parameters_[i]->value.shape();
    if (!tensor.empty() && tensor.shape() != expected) {
      fail("SGD", "expected a ", what, " of shape ", expected, " for parameter ", i, ", got ", tensor.shape());
    }
  }

  std::vector<ParameterHandle<S>> parameters_;
  std::vector<Tensor<S>> momentum_buffers_;  // by position; empty until first used
};

}  // namespace residua::inline RESIDUA_ABI
