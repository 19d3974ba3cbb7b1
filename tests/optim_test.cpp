// SGD and the schedules: what they touch, what they show, bad input. Their numbers are in golden_training_test.
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/threads.hpp>
#include <residua/optim/schedules.hpp>
#include <residua/optim/sgd.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Tensor<double> vector(std::initializer_list<double> values) {
  return Tensor<double>(Shape{static_cast<Index>(values.size())}, std::span(values.begin(), values.size()));
}

TEST(SGD, MovesAgainstTheGradient) {
  Parameter<double> p(vector({1, 2}));
  SGD<double> optimizer({p.handle()}, {.lr = 0.5});
  p.grad = vector({2, -4});
  optimizer.step();
  EXPECT_EQ(p.value, vector({0, 4}));
}

TEST(SGD, BeginsWithTheGradientAsMomentumAndDampensLater) {
  Parameter<double> p(vector({0}));
  SGD<double> optimizer({p.handle()}, {.lr = 1, .momentum = 0.5, .dampening = 0.75});
  p.grad = vector({4});
  optimizer.step();  // b = 4
  EXPECT_EQ(p.value, vector({-4}));
  optimizer.step();  // b = 0.5 · 4 + 0.25 · 4 = 3
  EXPECT_EQ(p.value, vector({-7}));
}

TEST(SGD, LeavesAloneWhatIsFrozenOrHasNoGradient) {
  Parameter<double> moving(vector({1})), frozen(vector({1})), untouched(vector({1}));
  SGD<double> optimizer({moving.handle(), frozen.handle(), untouched.handle()},
                        {.lr = 1, .momentum = 0.9, .weight_decay = 0.1});
  moving.grad = frozen.grad = vector({1});
  frozen.requires_grad = false;
  optimizer.step();
  EXPECT_LT(moving.value(0), 1);
  EXPECT_EQ(frozen.value, vector({1}));
  EXPECT_EQ(untouched.value, vector({1}));
}

TEST(SGD, ZeroGradForgetsGradients) {
  Parameter<double> p(vector({1}));
  SGD<double> optimizer({p.handle()});
  p.add_gradient(vector({5}));
  optimizer.zero_grad();
  EXPECT_TRUE(p.grad.empty());
  p.add_gradient(vector({7}));
  EXPECT_EQ(p.grad, vector({7}));
}

TEST(SGD, FollowsAParameterThatMoves) {
  auto first = std::make_unique<Parameter<double>>(vector({1}));
  SGD<double> optimizer({first->handle()}, {.lr = 1});
  Parameter<double> second = std::move(*first);
  first.reset();
  second.grad = vector({1});
  optimizer.step();
  EXPECT_EQ(second.value, vector({0}));
}

TEST(SGD, LeavesCopiesOfItsParametersAsTheyWere) {
  Parameter<double> p(vector({1}));
  SGD<double> optimizer({p.handle()}, {.lr = 1, .momentum = 0.9});
  p.grad = vector({1});
  const Tensor<double> value = p.value, grad = p.grad;
  optimizer.step();
  optimizer.step();
  EXPECT_EQ(value, vector({1}));
  EXPECT_EQ(grad, vector({1}));
}

TEST(SGD, ShowsItsState) {
  Parameter<double> a(vector({1})), b(vector({1, 2}));
  SGD<double> optimizer({a.handle(), b.handle()}, {.lr = 0.1, .momentum = 0.9});
  b.grad = vector({3, 4});
  optimizer.step();
  std::map<std::string, Tensor<double>> seen;
  SGD<double>::visit(optimizer, [&](std::string_view name, auto& member) {
    if constexpr (std::is_same_v<decltype(member), double&>) {
      seen[std::string(name)] = vector({member});
    } else {
      seen[std::string(name)] = member;
    }
  });
  const std::map<std::string, Tensor<double>> expected{{"lr", vector({0.1})},
                                                       {"momentum", vector({0.9})},
                                                       {"0.momentum_buffer", {}},
                                                       {"1.momentum_buffer", vector({3, 4})}};
  EXPECT_EQ(seen, expected);
}

TEST(SGD, TellsWhatIsWrong) {
  Parameter<double> p(vector({1}));
  const auto fails = [&](SGDOptions options) { return message([&] { SGD<double>({p.handle()}, options); }); };
  EXPECT_EQ(fails({.lr = -1}), "SGD: expected lr of at least 0, got -1");
  EXPECT_EQ(fails({.lr = nan}), "SGD: expected lr of at least 0, got nan");
  EXPECT_EQ(fails({.momentum = -0.5}), "SGD: expected momentum of at least 0, got -0.5");
  EXPECT_EQ(fails({.weight_decay = -2}), "SGD: expected weight_decay of at least 0, got -2");
  EXPECT_EQ(fails({.momentum = nan}), "SGD: expected momentum of at least 0, got nan");
  EXPECT_EQ(fails({.dampening = nan}), "SGD: expected a number as dampening, got nan");
  EXPECT_EQ(fails({.weight_decay = nan}), "SGD: expected weight_decay of at least 0, got nan");
  const std::string nesterov = "SGD: expected momentum and no dampening with nesterov, got momentum ";
  EXPECT_EQ(fails({.nesterov = true}), nesterov + "0 and dampening 0");
  EXPECT_EQ(fails({.momentum = 0.9, .dampening = 0.5, .nesterov = true}), nesterov + "0.9 and dampening 0.5");
  EXPECT_EQ(message([] { SGD<double>({}); }), "SGD: expected at least one parameter, got none");
}

TEST(SGD, MovesNothingWhereOneGradientDoesNotFit) {
  Parameter<double> good(vector({1})), bad(vector({1, 2}));
  SGD<double> optimizer({good.handle(), bad.handle()}, {.lr = 1});
  good.grad = vector({1});
  bad.grad = vector({1, 2, 3});
  EXPECT_EQ(message([&] { optimizer.step(); }), "SGD: expected a gradient of shape [2] for parameter 1, got [3]");
  EXPECT_EQ(good.value, vector({1}));
}

TEST(SGD, SameBitsForAnyNumberOfThreads) {
  const int threads = num_threads();
  const auto trained = [](int many) {
    set_num_threads(many);
    Parameter<float> p(Tensor<float>(Shape{100'003}));
    SGD<float> optimizer({p.handle()}, {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true});
    for (int step = 0; step < 3; ++step) {
      p.grad = Tensor<float>(p.value.shape());
      for (Index i = 0; i < p.grad.size(); ++i) p.grad.data()[i] = 1 / static_cast<float>(i + step + 1);
      optimizer.step();
    }
    return p.value;
  };
  const Tensor<float> one = trained(1);
  EXPECT_EQ(trained(2), one);
  EXPECT_EQ(trained(3), one);
  set_num_threads(threads);
}

TEST(CosineAnnealingLR, RunsFromTheFirstLrToEtaMin) {
  Parameter<double> p(vector({1}));
  SGD<double> optimizer({p.handle()}, {.lr = 1});
  CosineAnnealingLR schedule(optimizer, {.T_max = 4, .eta_min = 0.2});
  EXPECT_EQ(optimizer.options.lr, 1);
  schedule.step();
  schedule.step();
  EXPECT_NEAR(optimizer.options.lr, 0.6, 1e-12);
  schedule.step();
  schedule.step();
  EXPECT_NEAR(optimizer.options.lr, 0.2, 1e-12);
  EXPECT_EQ(message([&] { CosineAnnealingLR(optimizer, {.T_max = 0}); }),
            "CosineAnnealingLR: expected T_max of at least 1, got 0");
  EXPECT_EQ(message([&] { CosineAnnealingLR(optimizer, {.T_max = 1, .eta_min = nan}); }),
            "CosineAnnealingLR: expected eta_min of at least 0, got nan");
  EXPECT_EQ(message([&] { CosineAnnealingLR(optimizer, {.T_max = 1, .eta_min = -0.1}); }),
            "CosineAnnealingLR: expected eta_min of at least 0, got -0.1");
}

TEST(OneCycleLR, RunsUpAndDownAndEnds) {
  Parameter<double> p(vector({1}));
  SGD<double> optimizer({p.handle()}, {.momentum = 0.9});
  OneCycleLR schedule(optimizer, {.max_lr = 1, .total_steps = 20});
  EXPECT_NEAR(optimizer.options.lr, 0.04, 1e-12);
  EXPECT_NEAR(optimizer.options.momentum, 0.95, 1e-12);
  for (int step = 0; step < 5; ++step) schedule.step();
  EXPECT_NEAR(optimizer.options.lr, 1, 1e-12);
  EXPECT_NEAR(optimizer.options.momentum, 0.85, 1e-12);
  for (int step = 5; step < 19; ++step) schedule.step();
  EXPECT_NEAR(optimizer.options.lr, 0.04 / 1e4, 1e-12);
  EXPECT_NEAR(optimizer.options.momentum, 0.95, 1e-12);
  schedule.step();
  EXPECT_EQ(message([&] { schedule.step(); }), "OneCycleLR: expected at most 20 steps, got one more");
}

TEST(OneCycleLR, WithARiseOfNoLengthBeginsAtTheTop) {
  Parameter<double> p(vector({1}));
  SGD<double> optimizer({p.handle()});
  OneCycleLR schedule(optimizer, {.max_lr = 1, .total_steps = 10, .pct_start = 0.1});
  EXPECT_EQ(optimizer.options.lr, 1);
}

TEST(OneCycleLR, TellsWhatIsWrong) {
  Parameter<double> p(vector({1}));
  SGD<double> optimizer({p.handle()}, {.lr = 0.5});
  const auto fails = [&](OneCycleLROptions options) { return message([&] { OneCycleLR(optimizer, options); }); };
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 0}), "OneCycleLR: expected total_steps of at least 1, got 0");
  EXPECT_EQ(fails({.max_lr = 0, .total_steps = 5}), "OneCycleLR: expected a positive max_lr, got 0");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .pct_start = 2}),
            "OneCycleLR: expected pct_start from 0 to 1, got 2");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .div_factor = 0}),
            "OneCycleLR: expected a positive div_factor, got 0");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .final_div_factor = -1}),
            "OneCycleLR: expected a positive final_div_factor, got -1");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .base_momentum = nan}),
            "OneCycleLR: expected base_momentum of at least 0, got nan");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .max_momentum = nan}),
            "OneCycleLR: expected max_momentum of at least 0, got nan");
  EXPECT_EQ(fails({.max_lr = nan, .total_steps = 5}), "OneCycleLR: expected a positive max_lr, got nan");
  EXPECT_EQ(fails({.max_lr = 1, .total_steps = 5, .pct_start = nan}),
            "OneCycleLR: expected pct_start from 0 to 1, got nan");
  EXPECT_EQ(optimizer.options.lr, 0.5);
}

TEST(SGD, WithoutMomentumReachesEveryElementOfALargeParameter) {
  Parameter<float> p(Tensor<float>(Shape{50'000}, 3.0f));
  p.grad = Tensor<float>(Shape{50'000}, 2.0f);
  SGD<float>({p.handle()}, {.lr = 0.5}).step();
  EXPECT_EQ(p.value, Tensor<float>(Shape{50'000}, 2.0f));
}

}  // namespace
