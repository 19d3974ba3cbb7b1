// ReduceLROnPlateau: a learning rate that falls when a metric gets no better.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>

#include <residua/optim/schedule.hpp>

namespace residua::inline RESIDUA_ABI {

enum class PlateauMode { min, max };
enum class ThresholdMode { rel, abs };

struct ReduceLROnPlateauOptions {
  PlateauMode mode = PlateauMode::min;                ///< whether the metric should be small or large
  double factor = 0.1;
  Index patience = 10;                                ///< so many steps without a better metric change nothing
  double threshold = 1e-4;                            ///< by how much a metric must be better to count
  ThresholdMode threshold_mode = ThresholdMode::rel;  ///< as a share of the best metric, or as it is
  Index cooldown = 0;                                 ///< steps after a fall in which none counts as bad
  double min_lr = 0;
  double eps = 1e-8;                                  ///< smaller falls are left out
};

/// A fall by `factor` whenever the metric given to step() was no better than the best so far for more than `patience`
/// steps in a row, as PyTorch's. NaN is no better.
class ReduceLROnPlateau final : public Schedule {
 public:
  /// Throws Error for a factor that is not from 0 to below 1, for another option that is negative or NaN, and at a step
  /// without a metric.
  explicit ReduceLROnPlateau(ScheduledGroups& optimizer, const ReduceLROnPlateauOptions& options = {})
      : Schedule(optimizer), options_(options) {
    const auto& o = options;
    detail::require_below_one("ReduceLROnPlateau", "factor", o.factor);
    if (o.patience < 0) fail("ReduceLROnPlateau", "expected patience of at least 0, got ", o.patience);
    detail::require_not_negative("ReduceLROnPlateau", "threshold", o.threshold);
    if (o.cooldown < 0) fail("ReduceLROnPlateau", "expected cooldown of at least 0, got ", o.cooldown);
    detail::require_not_negative("ReduceLROnPlateau", "min_lr", o.min_lr);
    detail::require_not_negative("ReduceLROnPlateau", "eps", o.eps);
    const double infinity = std::numeric_limits<double>::infinity();
    best_ = o.mode == PlateauMode::min ? infinity : -infinity;
  }

  void visit_state(StateVisitor& v) override {
    Schedule::visit_state(v);
    v("best", best_);
    v("num_bad_steps", num_bad_steps_);
    v("cooldown_counter", cooldown_counter_);
  }

 private:
  void advance(Index, std::optional<double> metric) override {
    if (!metric) fail("ReduceLROnPlateau", "expected a metric at each step, got none");
    const bool better = is_better(*metric);
    if (better) best_ = *metric;
    num_bad_steps_ = better ? 0 : num_bad_steps_ + 1;
    if (cooldown_counter_ > 0) {
      --cooldown_counter_;
      num_bad_steps_ = 0;
    }
    if (num_bad_steps_ <= options_.patience) return;
    reduce();
    cooldown_counter_ = options_.cooldown;
    num_bad_steps_ = 0;
  }

  bool is_better(double metric) const {
    const bool relative = options_.threshold_mode == ThresholdMode::rel;
    const double t = options_.threshold;
    if (options_.mode == PlateauMode::min) return metric < (relative ? best_ * (1 - t) : best_ - t);
    return metric > (relative ? best_ * (1 + t) : best_ + t);
  }

  void reduce() const {
    for (Index group = 0; group < optimizer().group_count(); ++group) {
      double& lr = optimizer().lr(group);
      const double reduced = std::max(lr * options_.factor, options_.min_lr);
      if (lr - reduced > options_.eps) lr = reduced;
    }
  }

  ReduceLROnPlateauOptions options_;
  double best_;
  Index num_bad_steps_ = 0, cooldown_counter_ = 0;
};

}  // namespace residua::inline RESIDUA_ABI
