// OneCycleLR: a learning rate that rises once and falls once, and momentum that runs against it.
#pragma once

#include <cmath>
#include <numbers>
#include <optional>

#include <residua/optim/schedule.hpp>

namespace residua::inline RESIDUA_ABI {

enum class AnnealStrategy { cos, linear };

struct OneCycleLROptions {
  double max_lr = 0;
  Index total_steps = 0;
  double pct_start = 0.3;                                ///< the share of the steps in which lr rises
  AnnealStrategy anneal_strategy = AnnealStrategy::cos;
  bool cycle_momentum = true;                            ///< momentum (Adam's beta1) runs against lr
  double base_momentum = 0.85;
  double max_momentum = 0.95;
  double div_factor = 25;                                ///< first lr = max_lr / div_factor
  double final_div_factor = 1e4;                         ///< last lr = first lr / final_div_factor
  bool three_phase = false;                              ///< fall to the first lr, as fast as it rose, then to the last
};

/// The one-cycle policy (Smith and Topin, "Super-convergence: very fast training of neural networks using large
/// learning rates", 2018), as PyTorch's: lr rises from max_lr / div_factor to max_lr, then falls below where it began.
/// All groups move alike, whatever their lr was.
class OneCycleLR final : public Schedule {
 public:
  /// Throws Error for total_steps below 1, pct_start outside of [0, 1], a max_lr or divisor that is not positive, a
  /// momentum that is negative or NaN, cycle_momentum on an optimizer without momentum, and at a step beyond
  /// total_steps.
  OneCycleLR(ScheduledGroups& optimizer, const OneCycleLROptions& options) : Schedule(optimizer), options_(options) {
    check();
    apply(0);
  }

 private:
  void check() const {
    const auto& o = options_;
    if (o.total_steps < 1) fail("OneCycleLR", "expected total_steps of at least 1, got ", o.total_steps);
    if (!(o.pct_start >= 0 && o.pct_start <= 1)) {
      fail("OneCycleLR", "expected pct_start from 0 to 1, got ", o.pct_start);
    }
    if (!(o.max_lr > 0)) fail("OneCycleLR", "expected a positive max_lr, got ", o.max_lr);
    if (!(o.div_factor > 0)) fail("OneCycleLR", "expected a positive div_factor, got ", o.div_factor);
    if (!(o.final_div_factor > 0)) {
      fail("OneCycleLR", "expected a positive final_div_factor, got ", o.final_div_factor);
    }
    detail::require_not_negative("OneCycleLR", "base_momentum", o.base_momentum);
    detail::require_not_negative("OneCycleLR", "max_momentum", o.max_momentum);
    for (Index group = 0; o.cycle_momentum && group < optimizer().group_count(); ++group) {
      if (optimizer().momentum(group) == nullptr) {
        fail("OneCycleLR", "expected an optimizer with momentum for cycle_momentum, got one without");
      }
    }
  }

  void advance(Index step, std::optional<double>) override {
    if (step > options_.total_steps) {
      fail("OneCycleLR", "expected at most ", options_.total_steps, " steps, got one more");
    }
    apply(step);
  }

  /// Sets lr and momentum for a step. A phase ends at a step that need not be a whole number.
  void apply(Index at) const {
    const auto& o = options_;
    const double first_lr = o.max_lr / o.div_factor, last_lr = first_lr / o.final_div_factor;
    const double step = static_cast<double>(at), total = static_cast<double>(o.total_steps);
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
              double momentum_end) const {
    const double pct = end > start ? (step - start) / (end - start) : 1;
    const bool linear = options_.anneal_strategy == AnnealStrategy::linear;
    const double done = linear ? pct : (1 - std::cos(std::numbers::pi * pct)) / 2;
    for (Index group = 0; group < optimizer().group_count(); ++group) {
      optimizer().lr(group) = lr_start + (lr_end - lr_start) * done;
      if (options_.cycle_momentum) {
        *optimizer().momentum(group) = momentum_start + (momentum_end - momentum_start) * done;
      }
    }
  }

  OneCycleLROptions options_;
};

}  // namespace residua::inline RESIDUA_ABI
