// Learning-rate schedules: an optimizer's lr, and with one-cycle its momentum, as functions of the step.
#pragma once

#include <cmath>
#include <numbers>

#include <residua/core/eigen.hpp>
#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI {

// A schedule sets its optimizer's options when it is made and at each step(), called after the optimizer's own. It
// works on any optimizer with `options.lr` (one-cycle: and `options.momentum`), which must outlive it and stay in place.

struct CosineAnnealingLROptions {
  Index T_max = 0;     ///< steps from the optimizer's lr down to eta_min
  double eta_min = 0;
};

/// Cosine annealing (Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017), PyTorch's:
///
///     lr = eta_min + (lr₀ − eta_min) (1 + cos(π step / T_max)) / 2,    lr₀ the optimizer's lr at the start
///
/// Throws Error for T_max below 1, and for an eta_min that is negative or NaN.
template <typename Optimizer>
class CosineAnnealingLR {
 public:
  CosineAnnealingLR(Optimizer& optimizer, CosineAnnealingLROptions options)
      : optimizer_(&optimizer), options_(options), base_lr_(optimizer.options.lr) {
    if (options.T_max < 1) fail("CosineAnnealingLR", "expected T_max of at least 1, got ", options.T_max);
    if (!(options.eta_min >= 0)) {
      fail("CosineAnnealingLR", "expected eta_min of at least 0, got ", options.eta_min);
    }
  }

  void step() {
    ++last_step_;
    const double angle = std::numbers::pi * static_cast<double>(last_step_) / static_cast<double>(options_.T_max);
    optimizer_->options.lr = options_.eta_min + (base_lr_ - options_.eta_min) * (1 + std::cos(angle)) / 2;
  }

  static void visit(auto& self, auto&& v) {
    v("base_lr", self.base_lr_);
    v("last_step", self.last_step_);
  }

 private:
  Optimizer* optimizer_;
  CosineAnnealingLROptions options_;
  double base_lr_;
  Index last_step_ = 0;
};

enum class AnnealStrategy { cos, linear };

struct OneCycleLROptions {
  double max_lr = 0;
  Index total_steps = 0;
  double pct_start = 0.3;                                ///< the share of the steps in which lr rises
  AnnealStrategy anneal_strategy = AnnealStrategy::cos;
  bool cycle_momentum = true;                            ///< momentum runs against lr
  double base_momentum = 0.85;
  double max_momentum = 0.95;
  double div_factor = 25;                                ///< first lr = max_lr / div_factor
  double final_div_factor = 1e4;                         ///< last lr = first lr / final_div_factor
  bool three_phase = false;                              ///< fall to the first lr, as fast as it rose, then to the last
};

/// The one-cycle policy (Smith and Topin, "Super-convergence: very fast training of neural networks using large
/// learning rates", 2018), as PyTorch's: lr rises from max_lr / div_factor to max_lr, then falls below where it began.
///
/// Throws Error for total_steps below 1, pct_start outside of [0, 1], a max_lr or divisor that is not positive, a
/// momentum that is negative or NaN, and at a step beyond total_steps.
template <typename Optimizer>
class OneCycleLR {
 public:
  OneCycleLR(Optimizer& optimizer, OneCycleLROptions options) : optimizer_(&optimizer), options_(options) {
    const auto& o = options;
    if (o.total_steps < 1) fail("OneCycleLR", "expected total_steps of at least 1, got ", o.total_steps);
    if (!(o.pct_start >= 0 && o.pct_start <= 1)) {
      fail("OneCycleLR", "expected pct_start from 0 to 1, got ", o.pct_start);
    }
    if (!(o.max_lr > 0)) fail("OneCycleLR", "expected a positive max_lr, got ", o.max_lr);
    if (!(o.div_factor > 0)) fail("OneCycleLR", "expected a positive div_factor, got ", o.div_factor);
    if (!(o.final_div_factor > 0)) {
      fail("OneCycleLR", "expected a positive final_div_factor, got ", o.final_div_factor);
    }
    if (!(o.base_momentum >= 0)) fail("OneCycleLR", "expected base_momentum of at least 0, got ", o.base_momentum);
    if (!(o.max_momentum >= 0)) fail("OneCycleLR", "expected max_momentum of at least 0, got ", o.max_momentum);
    apply();
  }

  void step() {
    if (last_step_ >= options_.total_steps) {
      fail("OneCycleLR", "expected at most ", options_.total_steps, " steps, got one more");
    }
    ++last_step_;
    apply();
  }

  static void visit(auto& self, auto&& v) { v("last_step", self.last_step_); }

 private:
  /// Sets lr and momentum for the present step. A phase ends at a step that need not be a whole number.
  void apply() {
    const auto& o = options_;
    const double first_lr = o.max_lr / o.div_factor, last_lr = first_lr / o.final_div_factor;
    const double step = static_cast<double>(last_step_), total = static_cast<double>(o.total_steps);
    const double top = o.pct_start * total - 1, bottom = 2 * o.pct_start * total - 2;

    if (step <= top) {
      anneal(step, 0, top, first_lr, o.max_lr, o.max_momentum, o.base_momentum);
    } else if (!o.three_phase) {
      anneal(step, top, total - 1, o.max_lr, last_lr, o.base_momentum, o.max_momentum);
    } else if (step <= bottom) {
      anneal(step, top, bottom, o.max_lr, first_lr, o.base_momentum, o.max_momentum);
    } else {
      anneal(step, bottom, total - 1, first_lr, last_lr, o.max_momentum, o.max_momentum);
    }
  }

  void anneal(double step, double start, double end, double lr_start, double lr_end, double momentum_start,
              double momentum_end) {
    const double pct = end > start ? (step - start) / (end - start) : 1;
    const bool linear = options_.anneal_strategy == AnnealStrategy::linear;
    const double done = linear ? pct : (1 - std::cos(std::numbers::pi * pct)) / 2;
    optimizer_->options.lr = lr_start + (lr_end - lr_start) * done;
    if (options_.cycle_momentum) {
      optimizer_->options.momentum = momentum_start + (momentum_end - momentum_start) * done;
    }
  }

  Optimizer* optimizer_;
  OneCycleLROptions options_;
  Index last_step_ = 0;
};

}  // namespace residua::inline RESIDUA_ABI
