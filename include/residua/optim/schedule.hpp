// Schedule: learning rates, and with one-cycle momenta, as functions of the step.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <residua/optim/optimizer.hpp>

namespace residua::inline RESIDUA_ABI {

/// Any schedule. It sets its optimizer's lr when it is made and at each step(), called after the optimizer's own or once
/// an epoch; the optimizer must outlive it and stay in place. Each group moves from the lr it had at the start.
class Schedule {
 public:
  virtual ~Schedule() = default;

  /// `metric` is what ReduceLROnPlateau watches; the others do not look at it.
  void step(std::optional<double> metric = {}) {
    advance(last_step_ + 1, metric);
    ++last_step_;
  }

  /// Shows what a resumed run must know.
  virtual void visit_state(StateVisitor& v) {
    v("last_step", last_step_);
    for (std::size_t group = 0; group < base_lrs_.size(); ++group) {
      v("base_lr" + std::to_string(group), base_lrs_[group]);
    }
  }

  ScheduledGroups& optimizer() const { return *optimizer_; }

 protected:
  explicit Schedule(ScheduledGroups& optimizer) : optimizer_(&optimizer) {
    for (Index group = 0; group < optimizer.group_count(); ++group) base_lrs_.push_back(optimizer.lr(group));
  }

  /// Sets what belongs to a step; throws, with nothing changed, where there is none.
  virtual void advance(Index step, std::optional<double> metric) = 0;

  /// Sets each group's lr to lr_of(its lr at the start).
  template <typename F>
  void set_lr(F&& lr_of) const {
    for (std::size_t group = 0; group < base_lrs_.size(); ++group) {
      optimizer_->lr(static_cast<Index>(group)) = lr_of(base_lrs_[group]);
    }
  }

 private:
  ScheduledGroups* optimizer_;
  std::vector<double> base_lrs_;
  Index last_step_ = 0;
};

}  // namespace residua::inline RESIDUA_ABI
