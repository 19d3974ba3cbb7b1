// Schedules: what they set, what they show, bad input. Their numbers are in golden_optim_test.
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/state.hpp>
#include <residua/optim/cosine_annealing_lr.hpp>
#include <residua/optim/linear_warmup.hpp>
#include <residua/optim/multi_step_lr.hpp>
#include <residua/optim/one_cycle_lr.hpp>
#include <residua/optim/reduce_lr_on_plateau.hpp>
#include <residua/optim/step_lr.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Two groups, to be scheduled.
struct Groups : ScheduledGroups {
  double lrs[2] = {1, 0.5};
  double momenta[2] = {0.9, 0.9};
  bool has_momentum = true;

  Index group_count() const override { return 2; }
  double& lr(Index group) override { return lrs[group]; }
  double* momentum(Index group) override { return has_momentum ? &momenta[group] : nullptr; }
};

void steps(Schedule& schedule, int count) {
  for (int i = 0; i < count; ++i) schedule.step();
}

std::vector<std::string> names(Schedule& schedule) {
  std::vector<std::string> all;
  for (const StateEntry& entry : State().add("", schedule).entries()) all.push_back(entry.name);
  return all;
}

using Names = std::vector<std::string>;

TEST(StepLR, FallsFromEachGroupsLr) {
  Groups groups;
  StepLR schedule(groups, {.step_size = 2, .gamma = 0.5});
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 1);
  steps(schedule, 3);
  EXPECT_EQ(groups.lrs[0], 0.25);
  EXPECT_EQ(groups.lrs[1], 0.125);
  EXPECT_EQ(names(schedule), (Names{"last_step", "base_lr0", "base_lr1"}));
}

TEST(StepLR, TellsWhatIsWrong) {
  Groups groups;
  EXPECT_EQ(message([&] { StepLR(groups, {}); }), "StepLR: expected step_size of at least 1, got 0");
  EXPECT_EQ(message([&] { StepLR(groups, {.step_size = 1, .gamma = -1}); }),
            "StepLR: expected gamma of at least 0, got -1");
  EXPECT_EQ(message([&] { StepLR(groups, {.step_size = 1, .gamma = nan}); }),
            "StepLR: expected gamma of at least 0, got nan");
}

TEST(MultiStepLR, FallsAtItsMilestones) {
  Groups groups;
  MultiStepLR schedule(groups, {.milestones = {5, 2}, .gamma = 0.5});
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 1);
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 0.5);
  steps(schedule, 3);
  EXPECT_EQ(groups.lrs[1], 0.125);
  EXPECT_EQ(message([&] { MultiStepLR(groups, {.milestones = {3, 0}}); }),
            "MultiStepLR: expected milestones of at least 1, got 0");
  EXPECT_EQ(message([&] { MultiStepLR(groups, {.milestones = {3}, .gamma = nan}); }),
            "MultiStepLR: expected gamma of at least 0, got nan");
}

TEST(CosineAnnealingLR, RunsFromTheFirstLrToEtaMin) {
  Groups groups;
  CosineAnnealingLR schedule(groups, {.T_max = 4, .eta_min = 0.2});
  EXPECT_EQ(groups.lrs[0], 1);
  steps(schedule, 2);
  EXPECT_NEAR(groups.lrs[0], 0.6, 1e-12);
  steps(schedule, 2);
  EXPECT_NEAR(groups.lrs[0], 0.2, 1e-12);
  EXPECT_NEAR(groups.lrs[1], 0.2, 1e-12);
  EXPECT_EQ(message([&] { CosineAnnealingLR(groups, {.T_max = 0}); }),
            "CosineAnnealingLR: expected T_max of at least 1, got 0");
  EXPECT_EQ(message([&] { CosineAnnealingLR(groups, {.T_max = 1, .eta_min = nan}); }),
            "CosineAnnealingLR: expected eta_min of at least 0, got nan");
  EXPECT_EQ(message([&] { CosineAnnealingLR(groups, {.T_max = 1, .eta_min = -0.1}); }),
            "CosineAnnealingLR: expected eta_min of at least 0, got -0.1");
}

TEST(OneCycleLR, RunsUpAndDownAndEnds) {
  Groups groups;
  OneCycleLR schedule(groups, {.max_lr = 1, .total_steps = 20});
  for (int group : {0, 1}) EXPECT_NEAR(groups.lrs[group], 0.04, 1e-12);
  for (int group : {0, 1}) EXPECT_NEAR(groups.momenta[group], 0.95, 1e-12);
  steps(schedule, 5);
  EXPECT_NEAR(groups.lrs[0], 1, 1e-12);
  EXPECT_NEAR(groups.momenta[0], 0.85, 1e-12);
  steps(schedule, 14);
  EXPECT_NEAR(groups.lrs[0], 0.04 / 1e4, 1e-12);
  EXPECT_NEAR(groups.momenta[0], 0.95, 1e-12);
  schedule.step();
  const double lr = groups.lrs[0];
  for (int again : {0, 1}) {
    EXPECT_EQ(message([&] { schedule.step(); }), "OneCycleLR: expected at most 20 steps, got one more") << again;
  }
  EXPECT_EQ(groups.lrs[0], lr);
}

TEST(OneCycleLR, WithARiseOfNoLengthBeginsAtTheTop) {
  Groups groups;
  OneCycleLR schedule(groups, {.max_lr = 3, .total_steps = 10, .pct_start = 0.1});
  EXPECT_EQ(groups.lrs[0], 3);
}

TEST(OneCycleLR, AsksForMomentumOnlyWhereItCyclesIt) {
  Groups groups;
  groups.has_momentum = false;
  EXPECT_EQ(message([&] { OneCycleLR(groups, {.max_lr = 1, .total_steps = 5}); }),
            "OneCycleLR: expected an optimizer with momentum for cycle_momentum, got one without");
  EXPECT_EQ(groups.lrs[0], 1);
  OneCycleLR schedule(groups, {.max_lr = 1, .total_steps = 5, .cycle_momentum = false});
  EXPECT_EQ(groups.lrs[0], 0.04);
  EXPECT_EQ(groups.momenta[0], 0.9);
}

TEST(OneCycleLR, TellsWhatIsWrong) {
  Groups groups;
  const auto fails = [&](const OneCycleLROptions& options) { return message([&] { OneCycleLR(groups, options); }); };
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 0}), "OneCycleLR: expected total_steps of at least 1, got 0");
  EXPECT_EQ(fails({.max_lr = 0, .total_steps = 5}), "OneCycleLR: expected a positive max_lr, got 0");
  EXPECT_EQ(fails({.max_lr = nan, .total_steps = 5}), "OneCycleLR: expected a positive max_lr, got nan");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .pct_start = 2}),
            "OneCycleLR: expected pct_start from 0 to 1, got 2");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .pct_start = nan}),
            "OneCycleLR: expected pct_start from 0 to 1, got nan");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .div_factor = 0}),
            "OneCycleLR: expected a positive div_factor, got 0");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .final_div_factor = -1}),
            "OneCycleLR: expected a positive final_div_factor, got -1");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .base_momentum = nan}),
            "OneCycleLR: expected base_momentum of at least 0, got nan");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .max_momentum = nan}),
            "OneCycleLR: expected max_momentum of at least 0, got nan");
  EXPECT_EQ(groups.lrs[0], 1);
}

TEST(ReduceLROnPlateau, FallsWhereNothingGetsBetter) {
  Groups groups;
  ReduceLROnPlateau schedule(groups, {.factor = 0.5, .patience = 1, .cooldown = 1, .min_lr = 0.3});
  for (double metric : {2.0, 1.0, 1.0}) schedule.step(metric);
  EXPECT_EQ(groups.lrs[0], 1);
  schedule.step(nan);
  EXPECT_EQ(groups.lrs[0], 0.5);
  EXPECT_EQ(groups.lrs[1], 0.3);
  for (double metric : {1.0, 1.0}) schedule.step(metric);  // the first of them cools down
  EXPECT_EQ(groups.lrs[0], 0.5);
  schedule.step(1.0);
  EXPECT_EQ(groups.lrs[0], 0.3);
}

TEST(ReduceLROnPlateau, GoesOnFromItsState) {
  Groups first, second;
  const ReduceLROnPlateauOptions options{.mode = PlateauMode::max, .factor = 0.5, .patience = 3, .cooldown = 2};
  ReduceLROnPlateau one(first, options), other(second, options);
  for (double metric : {5.0, 4.0, 4.0, 4.0, 4.0, 3.0}) one.step(metric);
  EXPECT_EQ(first.lrs[0], 0.5);

  State from, to;
  const auto of = from.add("", one).entries(), into = to.add("", other).entries();
  EXPECT_EQ(names(one), (Names{"last_step", "base_lr0", "base_lr1", "best", "num_bad_steps", "cooldown_counter"}));
  for (std::size_t i = 0; i < of.size(); ++i) {
    if (const auto* number = std::get_if<double*>(&of[i].value)) *std::get<double*>(into[i].value) = **number;
    if (const auto* count = std::get_if<Index*>(&of[i].value)) *std::get<Index*>(into[i].value) = **count;
  }
  second.lrs[0] = first.lrs[0];
  for (double metric : {4.9, 4.9, 4.9, 4.9, 4.9}) {
    one.step(metric);
    other.step(metric);
    EXPECT_EQ(first.lrs[0], second.lrs[0]);
  }
  EXPECT_EQ(first.lrs[0], 0.25);
}

TEST(ReduceLROnPlateau, TellsWhatIsWrong) {
  Groups groups;
  const auto fails = [&](const ReduceLROnPlateauOptions& o) { return message([&] { ReduceLROnPlateau(groups, o); }); };
  EXPECT_EQ(fails({.factor = 1}), "ReduceLROnPlateau: expected factor from 0 to below 1, got 1");
  EXPECT_EQ(fails({.factor = nan}), "ReduceLROnPlateau: expected factor from 0 to below 1, got nan");
  EXPECT_EQ(fails({.patience = -1}), "ReduceLROnPlateau: expected patience of at least 0, got -1");
  EXPECT_EQ(fails({.threshold = nan}), "ReduceLROnPlateau: expected threshold of at least 0, got nan");
  EXPECT_EQ(fails({.cooldown = -2}), "ReduceLROnPlateau: expected cooldown of at least 0, got -2");
  EXPECT_EQ(fails({.min_lr = nan}), "ReduceLROnPlateau: expected min_lr of at least 0, got nan");
  EXPECT_EQ(fails({.eps = -1}), "ReduceLROnPlateau: expected eps of at least 0, got -1");
  ReduceLROnPlateau schedule(groups);
  EXPECT_EQ(message([&] { schedule.step(); }), "ReduceLROnPlateau: expected a metric at each step, got none");
  EXPECT_EQ(*std::get<Index*>(State().add("", schedule).entries()[0].value), 0);
}

TEST(LinearWarmup, RisesToWhereTheOtherBegins) {
  Groups groups;
  LinearWarmup schedule(groups, StepLR(groups, {.step_size = 2, .gamma = 0.5}),
                        {.start_factor = 0.2, .total_iters = 4});
  EXPECT_NEAR(groups.lrs[0], 0.2, 1e-15);
  EXPECT_NEAR(groups.lrs[1], 0.1, 1e-15);
  steps(schedule, 2);
  EXPECT_NEAR(groups.lrs[0], 0.6, 1e-15);
  steps(schedule, 2);
  EXPECT_EQ(groups.lrs[0], 1);
  EXPECT_EQ(groups.lrs[1], 0.5);
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 1);
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 0.5);
}

TEST(LinearWarmup, HandsTheMetricOn) {
  Groups groups;
  std::unique_ptr<Schedule> schedule = std::make_unique<LinearWarmup>(
      groups, ReduceLROnPlateau(groups, {.factor = 0.5, .patience = 0}), LinearWarmupOptions{.total_iters = 2});
  schedule->step();
  schedule->step();
  expect_error([&] { schedule->step(); }, "ReduceLROnPlateau: expected a metric at each step");
  for (double metric : {1.0, 1.0}) schedule->step(metric);
  EXPECT_EQ(groups.lrs[0], 0.5);
  EXPECT_EQ(names(*schedule),
            (Names{"last_step", "base_lr0", "base_lr1", "inner.last_step", "inner.base_lr0", "inner.base_lr1",
                   "inner.best", "inner.num_bad_steps", "inner.cooldown_counter"}));
}

TEST(LinearWarmup, StandsInFrontOfAnother) {
  Groups groups;
  LinearWarmup inner(groups, StepLR(groups, {.step_size = 1}), {.start_factor = 0.5, .total_iters = 1});
  LinearWarmup schedule(groups, std::move(inner), {.start_factor = 0.5, .total_iters = 1});
  EXPECT_EQ(groups.lrs[0], 0.25);
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 0.5);
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 1);
  steps(schedule, 1);
  EXPECT_EQ(groups.lrs[0], 0.1);
}

TEST(LinearWarmup, TellsWhatIsWrong) {
  Groups groups, others;
  const auto fails = [&](const LinearWarmupOptions& options) {
    return message([&] { LinearWarmup(groups, StepLR(groups, {.step_size = 1}), options); });
  };
  EXPECT_EQ(fails({.start_factor = 0}), "LinearWarmup: expected start_factor above 0 and at most 1, got 0");
  EXPECT_EQ(fails({.start_factor = 1.5}), "LinearWarmup: expected start_factor above 0 and at most 1, got 1.5");
  EXPECT_EQ(fails({.start_factor = nan}), "LinearWarmup: expected start_factor above 0 and at most 1, got nan");
  EXPECT_EQ(fails({.total_iters = 0}), "LinearWarmup: expected total_iters of at least 1, got 0");
  EXPECT_EQ(message([&] { LinearWarmup(groups, std::unique_ptr<Schedule>()); }),
            "LinearWarmup: expected a schedule to go on with, got none");
  EXPECT_EQ(message([&] { LinearWarmup(groups, StepLR(others, {.step_size = 1})); }),
            "LinearWarmup: expected a schedule of the same optimizer, got another's");
  EXPECT_EQ(groups.lrs[0], 1);
}

}  // namespace
