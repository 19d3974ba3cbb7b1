// MultiStepLR: a learning rate that falls at chosen steps.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <residua/optim/schedule.hpp>

namespace residua::inline RESIDUA_ABI {

struct MultiStepLROptions {
  std::vector<Index> milestones;  ///< in any order; a step named twice counts twice
  double gamma = 0.1;
};

/// A fall by the factor gamma at each milestone, as PyTorch's:
///
///     lr = lr₀ gamma^(how many milestones are ≤ step),    lr₀ the group's lr at the start
class MultiStepLR final : public Schedule {
 public:
  /// Throws Error for milestones below 1, and for a gamma that is negative or NaN.
  MultiStepLR(ScheduledGroups& optimizer, MultiStepLROptions options)
      : Schedule(optimizer), options_(std::move(options)) {
    for (Index milestone : options_.milestones) {
      if (milestone < 1) fail("MultiStepLR", "expected milestones of at least 1, got ", milestone);
    }
    detail::require_not_negative("MultiStepLR", "gamma", options_.gamma);
  }

 private:
  void advance(Index step, std::optional<double>) override {
    const auto& all = options_.milestones;
    const auto passed = std::count_if(all.begin(), all.end(), [=](Index milestone) { return milestone <= step; });
    const double factor = std::pow(options_.gamma, static_cast<double>(passed));
    set_lr([=](double base) { return base * factor; });
  }

  MultiStepLROptions options_;
};

}  // namespace residua::inline RESIDUA_ABI
