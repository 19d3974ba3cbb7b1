// Adam and AdamW: steps whose length adapts to each number's gradients.
#pragma once

#include <array>
#include <cmath>
#include <vector>

#include <residua/optim/optimizer.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

template <bool decoupled>
struct AdamOptions {
  double lr = 1e-3;
  std::array<double, 2> betas{0.9, 0.999};             ///< the shares of the two averages that stay at a step
  double eps = 1e-8;
  double weight_decay = decoupled ? 1e-2 : 0;
  bool amsgrad = false;                                ///< divide by the largest average of squares so far
};

template <typename S>
struct AdamMemory {
  Index step = 0;
  Tensor<S> exp_avg, exp_avg_sq;  // empty until first used
  Tensor<S> max_exp_avg_sq;       // with amsgrad

  static void visit(auto& self, auto&& v, const ParameterData<S>& p) {
    v("step", self.step);
    v("exp_avg", self.exp_avg, p);
    v("exp_avg_sq", self.exp_avg_sq, p);
    v("max_exp_avg_sq", self.max_exp_avg_sq, p);
  }
};

/// Adam, and with decoupled weight decay AdamW.
template <typename S, bool decoupled>
class AdamKind final : public GroupedOptimizer<S, AdamOptions<decoupled>, AdamMemory<S>> {
  using Options = AdamOptions<decoupled>;
  using Base = GroupedOptimizer<S, Options, AdamMemory<S>>;
  static constexpr const char* name = decoupled ? "AdamW" : "Adam";

 public:
  /// Throws Error for no parameters, a parameter given twice, a negative lr, eps or weight_decay, betas that are not
  /// from 0 to below 1, or an option that is NaN.
  explicit AdamKind(const std::vector<ParameterHandle<S>>& parameters, const Options& options = {})
      : Base(name, parameters, options) {
    this->check();
  }
  explicit AdamKind(const std::vector<typename Base::Group>& groups) : Base(name, groups) { this->check(); }

 private:
  void move(const Options& options, Tensor<S>& value, const Tensor<S>& grad, AdamMemory<S>& memory) const override {
    keep_from_now_on(memory.exp_avg, value);
    keep_from_now_on(memory.exp_avg_sq, value);
    if (options.amsgrad) keep_from_now_on(memory.max_exp_avg_sq, value);
    ++memory.step;

    const auto [beta1, beta2] = options.betas;
    const double step = static_cast<double>(memory.step);
    const S stays1 = static_cast<S>(beta1), comes1 = static_cast<S>(1 - beta1);
    const S stays2 = static_cast<S>(beta2), comes2 = static_cast<S>(1 - beta2);
    const S rate = static_cast<S>(options.lr / (1 - std::pow(beta1, step)));
    const S correction = static_cast<S>(1 / std::sqrt(1 - std::pow(beta2, step)));
    const S eps = static_cast<S>(options.eps), decay = static_cast<S>(decoupled ? 0 : options.weight_decay);
    const S shrink = static_cast<S>(decoupled ? 1 - options.lr * options.weight_decay : 1);
    const bool amsgrad = options.amsgrad;

    move_each(value, grad, [=](auto& p, const auto& g, auto& kept) RESIDUA_INLINE_LAMBDA {
      auto& [m, v, largest] = kept;
      const auto d = g + decay * p;
      m = stays1 * m + comes1 * d;
      v = stays2 * v + comes2 * d * d;
      if (amsgrad) largest = where(largest > v, largest, v);
      p = shrink * p - rate * m / (kernels::sqrt(amsgrad ? largest : v) * correction + eps);
    }, memory.exp_avg, memory.exp_avg_sq, memory.max_exp_avg_sq);
  }

  void check_options(const Options& o) const override {
    require_not_negative(name, "lr", o.lr);
    require_below_one(name, "betas", o.betas[0]);
    require_below_one(name, "betas", o.betas[1]);
    require_not_negative(name, "eps", o.eps);
    require_not_negative(name, "weight_decay", o.weight_decay);
  }
};

}  // namespace detail

using AdamOptions = detail::AdamOptions<false>;
using AdamWOptions = detail::AdamOptions<true>;

/// Adam, as PyTorch's. For each parameter p with gradient g, at its step number t = 1, 2, …:
///
///     d = g + weight_decay p
///     m = β₁ m + (1 − β₁) d
///     v = β₂ v + (1 − β₂) d²
///     p = p − lr m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + eps)      with amsgrad the largest v so far in place of v
///
/// Kingma and Ba, "Adam: a method for stochastic optimization", 2015; amsgrad: Reddi et al., "On the convergence of
/// Adam and beyond", 2018.
template <typename S>
using Adam = detail::AdamKind<S, false>;

/// Adam with decoupled weight decay, as PyTorch's AdamW: d = g, and p = (1 − lr weight_decay) p before it moves.
///
/// Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
template <typename S>
using AdamW = detail::AdamKind<S, true>;

}  // namespace residua::inline RESIDUA_ABI
