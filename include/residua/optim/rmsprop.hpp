// RMSprop: steps divided by the size that each number's gradients had lately.
#pragma once

#include <vector>

#include <residua/optim/optimizer.hpp>

namespace residua::inline RESIDUA_ABI {

struct RMSpropOptions {
  double lr = 1e-2;
  double alpha = 0.99;      ///< the share of the averages that stays at a step
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  bool centered = false;    ///< divide by the gradients' deviation from their mean
};

namespace detail {

template <typename S>
struct RMSpropMemory {
  Tensor<S> square_avg;       // empty until first used, as are all three
  Tensor<S> grad_avg;         // where centered
  Tensor<S> momentum_buffer;  // with momentum

  static void visit(auto& self, auto&& v, const ParameterData<S>& p) {
    v("square_avg", self.square_avg, p);
    v("grad_avg", self.grad_avg, p);
    v("momentum_buffer", self.momentum_buffer, p);
  }
};

}  // namespace detail

/// RMSprop, as PyTorch's. For each parameter p with gradient g:
///
///     d = g + weight_decay p
///     v = alpha v + (1 − alpha) d²
///     s = d / (√v + eps)                          centered d / (√(v − a²) + eps) with a = alpha a + (1 − alpha) d
///     b = momentum b + s
///     p = p − lr b
///
/// Tieleman and Hinton, "Lecture 6.5: RMSprop", Coursera, 2012; centered: Graves, "Generating sequences with recurrent
/// neural networks", 2013.
template <typename S>
class RMSprop final : public GroupedOptimizer<S, RMSpropOptions, detail::RMSpropMemory<S>> {
  using Base = GroupedOptimizer<S, RMSpropOptions, detail::RMSpropMemory<S>>;

 public:
  /// Throws Error for no parameters, a parameter given twice, a negative lr, eps, weight_decay or momentum, an alpha
  /// that is not from 0 to below 1, or an option that is NaN.
  explicit RMSprop(const std::vector<ParameterHandle<S>>& parameters, const RMSpropOptions& options = {})
      : Base("RMSprop", parameters, options) {
    this->check();
  }
  explicit RMSprop(const std::vector<typename Base::Group>& groups) : Base("RMSprop", groups) { this->check(); }

 private:
  void move(const RMSpropOptions& options, Tensor<S>& value, const Tensor<S>& grad,
            detail::RMSpropMemory<S>& memory) const override {
    detail::keep_from_now_on(memory.square_avg, value);
    if (options.centered) detail::keep_from_now_on(memory.grad_avg, value);
    if (options.momentum != 0) detail::keep_from_now_on(memory.momentum_buffer, value);

    const S lr = static_cast<S>(options.lr), weight_decay = static_cast<S>(options.weight_decay);
    const S stays = static_cast<S>(options.alpha), comes = static_cast<S>(1 - options.alpha);
    const S eps = static_cast<S>(options.eps), momentum = static_cast<S>(options.momentum);
    const bool centered = options.centered;

    detail::move_each(value, grad, [=](auto& p, const auto& g, auto& kept) RESIDUA_INLINE_LAMBDA {
      auto& [v, a, b] = kept;
      const auto d = g + weight_decay * p;
      v = stays * v + comes * d * d;
      if (centered) a = stays * a + comes * d;
      auto spread = centered ? v - a * a : v;
      spread = where(spread < S(0), S(0), spread);  // rounding may leave less than 0
      const auto s = d / (kernels::sqrt(spread) + eps);
      if (momentum != 0) b = momentum * b + s;
      p = p - lr * (momentum == 0 ? s : b);
    }, memory.square_avg, memory.grad_avg, memory.momentum_buffer);
  }

  void check_options(const RMSpropOptions& o) const override {
    detail::require_not_negative("RMSprop", "lr", o.lr);
    detail::require_below_one("RMSprop", "alpha", o.alpha);
    detail::require_not_negative("RMSprop", "eps", o.eps);
    detail::require_not_negative("RMSprop", "weight_decay", o.weight_decay);
    detail::require_not_negative("RMSprop", "momentum", o.momentum);
  }
};

}  // namespace residua::inline RESIDUA_ABI
