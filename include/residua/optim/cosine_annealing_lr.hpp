// CosineAnnealingLR: a learning rate that falls along half a cosine.
#pragma once

#include <cmath>
#include <numbers>
#include <optional>

#include <residua/optim/schedule.hpp>

namespace residua::inline RESIDUA_ABI {

struct CosineAnnealingLROptions {
  Index T_max = 0;     ///< steps from the optimizer's lr down to eta_min
  double eta_min = 0;
};

/// Cosine annealing (Loshchilov and Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017), PyTorch's:
///
///     lr = eta_min + (lr₀ − eta_min) (1 + cos(π step / T_max)) / 2,    lr₀ the group's lr at the start
class CosineAnnealingLR final : public Schedule {
 public:
  /// Throws Error for T_max below 1, and for an eta_min that is negative or NaN.
  CosineAnnealingLR(ScheduledGroups& optimizer, const CosineAnnealingLROptions& options)
      : Schedule(optimizer), options_(options) {
    if (options.T_max < 1) fail("CosineAnnealingLR", "expected T_max of at least 1, got ", options.T_max);
    detail::require_not_negative("CosineAnnealingLR", "eta_min", options.eta_min);
  }

 private:
  void advance(Index step, std::optional<double>) override {
    const double eta_min = options_.eta_min;
    const double angle = std::numbers::pi * static_cast<double>(step) / static_cast<double>(options_.T_max);
    const double share = (1 + std::cos(angle)) / 2;
    set_lr([=](double base) { return eta_min + (base - eta_min) * share; });
  }

  CosineAnnealingLROptions options_;
};

}  // namespace residua::inline RESIDUA_ABI
