// LinearWarmup: a linear rise of the learning rate in front of any schedule.
#pragma once

#include <concepts>
#include <memory>
#include <optional>
#include <utility>

#include <residua/optim/schedule.hpp>

namespace residua::inline RESIDUA_ABI {

struct LinearWarmupOptions {
  double start_factor = 1.0 / 3;
  Index total_iters = 5;
};

/// A linear rise to the lr that another schedule begins with, and then that schedule:
///
///     lr = lr₀ (start_factor + (1 − start_factor) step / total_iters)    until step = total_iters
///
///     LinearWarmup schedule(optimizer, CosineAnnealingLR(optimizer, {.T_max = 90}), {.total_iters = 10});
///
/// As PyTorch's SequentialLR of a LinearLR and the other with total_iters as milestone; the metric is handed on.
class LinearWarmup final : public Schedule {
 public:
  /// Throws Error for a start_factor that is not above 0 and at most 1, total_iters below 1, an `inner` that is null or
  /// belongs to another optimizer.
  LinearWarmup(ScheduledGroups& optimizer, std::unique_ptr<Schedule> inner, const LinearWarmupOptions& options = {})
      : Schedule(optimizer), inner_(std::move(inner)), options_(options) {
    if (!(options.start_factor > 0 && options.start_factor <= 1)) {
      fail("LinearWarmup", "expected start_factor above 0 and at most 1, got ", options.start_factor);
    }
    if (options.total_iters < 1) fail("LinearWarmup", "expected total_iters of at least 1, got ", options.total_iters);
    if (inner_ == nullptr) fail("LinearWarmup", "expected a schedule to go on with, got none");
    if (&inner_->optimizer() != &optimizer) {
      fail("LinearWarmup", "expected a schedule of the same optimizer, got another's");
    }
    warm_up(0);
  }

  /// The schedule to go on with, as it is.
  template <std::derived_from<Schedule> Inner>
  LinearWarmup(ScheduledGroups& optimizer, Inner inner, const LinearWarmupOptions& options = {})
      : LinearWarmup(optimizer, std::unique_ptr<Schedule>(std::make_unique<Inner>(std::move(inner))), options) {}

  void visit_state(StateVisitor& v) override {
    Schedule::visit_state(v);
    v("inner", *inner_);
  }

 private:
  void advance(Index step, std::optional<double> metric) override {
    if (step <= options_.total_iters) {
      warm_up(step);
    } else {
      inner_->step(metric);
    }
  }

  void warm_up(Index step) const {
    const double left = 1 - static_cast<double>(step) / static_cast<double>(options_.total_iters);
    const double factor = 1 - (1 - options_.start_factor) * left;
    set_lr([=](double base) { return base * factor; });
  }

  std::unique_ptr<Schedule> inner_;
  LinearWarmupOptions options_;
};

}  // namespace residua::inline RESIDUA_ABI
