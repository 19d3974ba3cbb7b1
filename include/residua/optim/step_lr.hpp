// StepLR: a learning rate that falls at regular steps.
#pragma once

#include <cmath>
#include <optional>

#include <residua/optim/schedule.hpp>

namespace residua::inline RESIDUA_ABI {

struct StepLROptions {
  Index step_size = 0;
  double gamma = 0.1;
};

/// A fall by the factor gamma every step_size steps, as PyTorch's:
///
///     lr = lr₀ gamma^⌊step / step_size⌋,    lr₀ the group's lr at the start
class StepLR final : public Schedule {
 public:
  /// Throws Error for step_size below 1, and for a gamma that is negative or NaN.
  StepLR(ScheduledGroups& optimizer, const StepLROptions& options) : Schedule(optimizer), options_(options) {
    if (options.step_size < 1) fail("StepLR", "expected step_size of at least 1, got ", options.step_size);
    detail::require_not_negative("StepLR", "gamma", options.gamma);
  }

 private:
  void advance(Index step, std::optional<double>) override {
    const double factor = std::pow(options_.gamma, static_cast<double>(step / options_.step_size));
    set_lr([=](double base) { return base * factor; });
  }

  StepLROptions options_;
};

}  // namespace residua::inline RESIDUA_ABI
