// Optimizers and clipping: what they touch, what they show, bad input. Their numbers are in golden_optim_test.
#include <cmath>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include <residua/blocks/sequential.hpp>
#include <residua/core/state.hpp>
#include <residua/core/threads.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/linear.hpp>
#include <residua/optim/adam.hpp>
#include <residua/optim/clip_grad.hpp>
#include <residua/optim/rmsprop.hpp>
#include <residua/optim/sgd.hpp>

#include "errors.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor<double> vector(std::initializer_list<double> values) {
  return Tensor<double>(Shape{static_cast<Index>(values.size())}, std::span(values.begin(), values.size()));
}

/// The names of all that `part` shows.
template <typename T>
std::vector<std::string> names(T& part) {
  std::vector<std::string> all;
  for (const StateEntry& entry : State().add("", part).entries()) all.push_back(entry.name);
  return all;
}

using Names = std::vector<std::string>;

// --- every kind ------------------------------------------------------------------------------------------------------

// Each with all that it can keep for a parameter.
struct AnySGD {
  template <typename S> using Optimizer = SGD<S>;
  static constexpr SGDOptions options{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true};
};
struct AnyAdam {
  template <typename S> using Optimizer = Adam<S>;
  static constexpr AdamOptions options{.lr = 0.1, .weight_decay = 0.01, .amsgrad = true};
};
struct AnyAdamW {
  template <typename S> using Optimizer = AdamW<S>;
  static constexpr AdamWOptions options{.lr = 0.1, .amsgrad = true};
};
struct AnyRMSprop {
  template <typename S> using Optimizer = RMSprop<S>;
  static constexpr RMSpropOptions options{.lr = 0.1, .weight_decay = 0.01, .momentum = 0.9, .centered = true};
};

template <typename Kind>
class AnyOptimizer : public testing::Test {};
using Kinds = testing::Types<AnySGD, AnyAdam, AnyAdamW, AnyRMSprop>;
TYPED_TEST_SUITE(AnyOptimizer, Kinds);

TYPED_TEST(AnyOptimizer, LeavesAloneWhatIsFrozenOrHasNoGradient) {
  Parameter<double> moving(vector({1})), frozen(vector({1})), untouched(vector({1}));
  typename TypeParam::template Optimizer<double> optimizer({moving.handle(), frozen.handle(), untouched.handle()},
                                                           TypeParam::options);
  moving.grad = frozen.grad = vector({1});
  frozen.requires_grad = false;
  optimizer.step();
  EXPECT_LT(moving.value(0), 1);
  EXPECT_EQ(frozen.value, vector({1}));
  EXPECT_EQ(untouched.value, vector({1}));
}

TYPED_TEST(AnyOptimizer, LeavesCopiesAsTheyWere) {
  Parameter<double> p(vector({1}));
  typename TypeParam::template Optimizer<double> optimizer({p.handle()}, TypeParam::options);
  p.grad = vector({1});
  const Tensor<double> value = p.value, grad = p.grad;
  optimizer.step();
  std::vector<Tensor<double>> kept, before;
  for (const StateEntry& entry : State().add("", optimizer).entries()) {
    if (const auto* tensor = std::get_if<Tensor<double>*>(&entry.value)) kept.push_back(**tensor);
  }
  for (const auto& tensor : kept) before.push_back(Tensor<double>::from(tensor.cmatrix()).reshaped(tensor.shape()));
  EXPECT_FALSE(kept.empty());
  optimizer.step();
  EXPECT_EQ(value, vector({1}));
  EXPECT_EQ(grad, vector({1}));
  EXPECT_EQ(kept, before);
}

TYPED_TEST(AnyOptimizer, GivesEachGroupItsOptions) {
  Parameter<double> fast(vector({1})), slow(vector({1}));
  auto still = TypeParam::options;
  still.lr = 0;
  typename TypeParam::template Optimizer<double> optimizer({{{fast.handle()}, TypeParam::options},
                                                            {{slow.handle()}, still}});
  residua::Optimizer<double>& any = optimizer;
  EXPECT_EQ(any.group_count(), 2);
  EXPECT_EQ(any.parameters(), (std::vector{fast.handle(), slow.handle()}));
  fast.grad = slow.grad = vector({1});
  any.step();
  EXPECT_LT(fast.value(0), 1);
  EXPECT_EQ(slow.value, vector({1}));
  any.lr(1) = 0.1;
  EXPECT_EQ(optimizer.options(1).lr, 0.1);
  any.step();
  EXPECT_LT(slow.value(0), 1);
}

TYPED_TEST(AnyOptimizer, MovesNothingWhereSomethingDoesNotFit) {
  Parameter<double> good(vector({1})), bad(vector({1, 2}));
  typename TypeParam::template Optimizer<double> optimizer({good.handle(), bad.handle()}, TypeParam::options);
  good.grad = vector({1});
  bad.grad = vector({1, 2, 3});
  expect_error([&] { optimizer.step(); }, ": expected a gradient of shape [2] for parameter 1, got [3]");
  EXPECT_EQ(good.value, vector({1}));

  bad.grad = vector({1, 2});
  optimizer.step();
  const Tensor<double> value = good.value;
  bad.value = bad.grad = vector({1, 2, 3});
  expect_error([&] { optimizer.step(); }, " of shape [3] for parameter 1, got [2]");
  EXPECT_EQ(good.value, value);

  bad.value = bad.grad = vector({1, 2});
  optimizer.options().lr = nan;
  expect_error([&] { optimizer.step(); }, ": expected lr of at least 0, got nan");
  EXPECT_EQ(good.value, value);
}

TYPED_TEST(AnyOptimizer, SameBitsForAnyNumberOfThreads) {
  const int threads = num_threads();
  const auto trained = [](int many) {
    set_num_threads(many);
    Parameter<float> p(Tensor<float>(Shape{100'003}));
    typename TypeParam::template Optimizer<float> optimizer({p.handle()}, TypeParam::options);
    for (int step = 0; step < 3; ++step) {
      p.grad = Tensor<float>(p.value.shape());
      for (Index i = 0; i < p.grad.size(); ++i) p.grad.data()[i] = 1 / static_cast<float>(i + step + 1);
      optimizer.step();
    }
    return p.value;
  };
  const Tensor<float> one = trained(1);
  EXPECT_TRUE(same_bits(trained(2), one));
  EXPECT_TRUE(same_bits(trained(3), one));
  set_num_threads(threads);
}

TYPED_TEST(AnyOptimizer, TreatsEveryElementAlike) {
  for (Index size : {1, 7, 8192, 50'001}) {
    Parameter<float> p(Tensor<float>(Shape{size}, 3.0f));
    p.grad = Tensor<float>(Shape{size}, 2.0f);
    typename TypeParam::template Optimizer<float> optimizer({p.handle()}, TypeParam::options);
    optimizer.step();
    optimizer.step();
    EXPECT_LT(p.value(0), 3.0f);
    EXPECT_EQ(p.value, Tensor<float>(Shape{size}, p.value(0)));
  }
}

TYPED_TEST(AnyOptimizer, GoesOnFromItsState) {
  Parameter<double> a(vector({1, -2})), b(vector({1, -2}));
  typename TypeParam::template Optimizer<double> first({a.handle()}, TypeParam::options),
      second({b.handle()}, TypeParam::options);
  const auto step = [](auto& p, auto& optimizer) {
    p.grad = Tensor<double>::from(p.value.cmatrix() * 0.5).reshaped(p.value.shape());
    optimizer.step();
  };
  for (int i = 0; i < 3; ++i) step(a, first);
  const auto of = State().add("p", a).add("optimizer", first).entries();
  const auto into = State().add("p", b).add("optimizer", second).entries();
  ASSERT_EQ(of.size(), into.size());
  for (std::size_t i = 0; i < of.size(); ++i) {
    std::visit([](auto* source, auto* target) {
      if constexpr (std::is_same_v<decltype(source), decltype(target)>) *target = *source;
    }, of[i].value, into[i].value);
  }
  step(a, first);
  step(b, second);
  EXPECT_TRUE(same_bits(a.value, b.value));
}

TYPED_TEST(AnyOptimizer, TellsWhatIsWrong) {
  using Optimizer = typename TypeParam::template Optimizer<double>;
  using Handles = std::vector<ParameterHandle<double>>;
  Parameter<double> p(vector({1})), q(vector({1}));
  const auto options = TypeParam::options;
  expect_error([&] { Optimizer(Handles(), options); }, ": expected at least one parameter, got none");
  expect_error([&] { Optimizer({p.handle(), p.handle()}, options); },
               ": expected each parameter once, got number 1 again");
  expect_error([&] { Optimizer({{{q.handle(), p.handle()}, options}, {{p.handle()}, options}}); },
               ": expected each parameter once, got number 2 again");
  Optimizer optimizer({{{p.handle()}, options}, {{}, options}, {{q.handle()}, options}});  // a group may be empty
  expect_error([&] { optimizer.options(3); }, ": expected a group from 0 to 2, got 3");
  expect_error([&] { optimizer.lr(-1); }, ": expected a group from 0 to 2, got -1");

  for (double lr : {-1.0, nan}) {
    auto bad = options;
    bad.lr = lr;
    expect_error([&] { Optimizer({{{p.handle()}, options}, {{q.handle()}, bad}}); },
                 ": expected lr of at least 0, got ");
  }
}

// --- each kind -------------------------------------------------------------------------------------------------------

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

TEST(SGD, KeepsItsMomentumWhileThatIsOff) {
  Parameter<double> p(vector({1}));
  SGD<double> optimizer({p.handle()}, {.lr = 0.5, .momentum = 0.5});
  p.grad = vector({1});
  optimizer.step();  // b = 1, p = 0.5
  optimizer.options().momentum = 0;
  p.grad = vector({3});
  optimizer.step();  // p = -1
  optimizer.options().momentum = 0.5;
  p.grad = vector({1});
  optimizer.step();  // b = 1.5, p = -1.75
  EXPECT_EQ(p.value, vector({-1.75}));
}

TEST(SGD, WithoutMomentumReachesEveryElementOfALargeParameter) {
  Parameter<float> p(Tensor<float>(Shape{50'000}, 3.0f));
  p.grad = Tensor<float>(Shape{50'000}, 2.0f);
  SGD<float>({p.handle()}, {.lr = 0.5}).step();
  EXPECT_EQ(p.value, Tensor<float>(Shape{50'000}, 2.0f));
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

TEST(SGD, ShowsItsState) {
  Parameter<double> a(vector({1})), b(vector({1, 2}));
  SGD<double> optimizer({{{a.handle()}, {.lr = 0.1, .momentum = 0.9}}, {{b.handle()}, {.lr = 0.2, .momentum = 0.9}}});
  b.grad = vector({3, 4});
  optimizer.step();
  EXPECT_EQ(names(optimizer), (Names{"group0.lr", "group0.momentum", "group1.lr", "group1.momentum",
                                     "0.momentum_buffer", "1.momentum_buffer"}));
  const auto entries = State().add("", optimizer).entries();
  EXPECT_EQ(*std::get<double*>(entries[2].value), 0.2);
  EXPECT_EQ(*std::get<double*>(entries[3].value), 0.9);
  EXPECT_TRUE(std::get<Tensor<double>*>(entries[4].value)->empty());
  EXPECT_EQ(*std::get<Tensor<double>*>(entries[5].value), vector({3, 4}));
}

TEST(SGD, TellsWhatIsWrong) {
  Parameter<double> p(vector({1}));
  const auto fails = [&](const SGDOptions& options) { return message([&] { SGD<double>({p.handle()}, options); }); };
  EXPECT_EQ(fails({.lr = -1}), "SGD: expected lr of at least 0, got -1");
  EXPECT_EQ(fails({.momentum = -0.5}), "SGD: expected momentum of at least 0, got -0.5");
  EXPECT_EQ(fails({.momentum = nan}), "SGD: expected momentum of at least 0, got nan");
  EXPECT_EQ(fails({.dampening = nan}), "SGD: expected a number as dampening, got nan");
  EXPECT_EQ(fails({.weight_decay = -2}), "SGD: expected weight_decay of at least 0, got -2");
  EXPECT_EQ(fails({.weight_decay = nan}), "SGD: expected weight_decay of at least 0, got nan");
  const std::string nesterov = "SGD: expected momentum and no dampening with nesterov, got momentum ";
  EXPECT_EQ(fails({.nesterov = true}), nesterov + "0 and dampening 0");
  EXPECT_EQ(fails({.momentum = 0.9, .dampening = 0.5, .nesterov = true}), nesterov + "0.9 and dampening 0.5");
}

TEST(Adam, StepsByLrAtFirst) {
  Parameter<double> p(vector({1, 1, 1}));
  Adam<double> optimizer({p.handle()}, {.lr = 0.5, .eps = 0});
  p.grad = vector({3, -1e-4, 1e6});
  optimizer.step();
  for (Index i = 0; i < 3; ++i) EXPECT_NEAR(p.value(i), i == 1 ? 1.5 : 0.5, 1e-12);
}

TEST(Adam, CountsTheStepsOfEachParameter) {
  Parameter<double> early(vector({1})), late(vector({1}));
  Adam<double> optimizer({early.handle(), late.handle()}, {.lr = 0.5, .eps = 0});
  early.grad = vector({1});
  optimizer.step();
  late.grad = vector({1});
  optimizer.step();
  EXPECT_NEAR(late.value(0), 0.5, 1e-12);  // its first step, whatever others did
  const auto entries = State().add("", optimizer).entries();
  EXPECT_EQ(*std::get<Index*>(entries[2].value), 2);
  EXPECT_EQ(*std::get<Index*>(entries[6].value), 1);
}

TEST(Adam, ShowsItsState) {
  Parameter<double> p(vector({1}));
  Adam<double> optimizer({p.handle()});
  EXPECT_EQ(names(optimizer),
            (Names{"group0.lr", "group0.momentum", "0.step", "0.exp_avg", "0.exp_avg_sq", "0.max_exp_avg_sq"}));
  EXPECT_EQ(optimizer.momentum(0), &optimizer.options().betas[0]);
}

TEST(Adam, TellsWhatIsWrong) {
  Parameter<double> p(vector({1}));
  const auto fails = [&](const AdamOptions& options) { return message([&] { Adam<double>({p.handle()}, options); }); };
  EXPECT_EQ(fails({.betas = {1, 0.9}}), "Adam: expected betas from 0 to below 1, got 1");
  EXPECT_EQ(fails({.betas = {0.9, -0.1}}), "Adam: expected betas from 0 to below 1, got -0.1");
  EXPECT_EQ(fails({.betas = {nan, 0.9}}), "Adam: expected betas from 0 to below 1, got nan");
  EXPECT_EQ(fails({.betas = {0.9, nan}}), "Adam: expected betas from 0 to below 1, got nan");
  EXPECT_EQ(fails({.eps = -1}), "Adam: expected eps of at least 0, got -1");
  EXPECT_EQ(fails({.eps = nan}), "Adam: expected eps of at least 0, got nan");
  EXPECT_EQ(fails({.weight_decay = -1}), "Adam: expected weight_decay of at least 0, got -1");
  EXPECT_EQ(fails({.weight_decay = nan}), "Adam: expected weight_decay of at least 0, got nan");
  EXPECT_EQ(message([&] { AdamW<double>({p.handle()}, {.eps = nan}); }), "AdamW: expected eps of at least 0, got nan");
}

TEST(AdamW, DecaysWhateverTheGradientIs) {
  Parameter<double> p(vector({2}));
  AdamW<double> optimizer({p.handle()}, {.lr = 0.5, .weight_decay = 0.5});
  p.grad = vector({0});
  optimizer.step();
  EXPECT_EQ(p.value, vector({1.5}));
}

TEST(RMSprop, CenteredEnduresAGradientThatStaysTheSame) {
  Parameter<float> p(Tensor<float>(Shape{20}));
  RMSprop<float> optimizer({p.handle()}, {.lr = 1e-3, .alpha = 0.5, .eps = 1e-2, .centered = true});
  p.grad = Tensor<float>(Shape{20});
  for (Index i = 0; i < 20; ++i) p.grad(i) = 0.1f + static_cast<float>(i) / 7;
  for (int step = 0; step < 200; ++step) optimizer.step();
  for (float value : p.value.carray()) EXPECT_TRUE(std::isfinite(value)) << value;
}

TEST(RMSprop, ShowsItsState) {
  Parameter<double> p(vector({1}));
  RMSprop<double> optimizer({p.handle()});
  EXPECT_EQ(names(optimizer),
            (Names{"group0.lr", "group0.momentum", "0.square_avg", "0.grad_avg", "0.momentum_buffer"}));
}

TEST(RMSprop, TellsWhatIsWrong) {
  Parameter<double> p(vector({1}));
  const auto fails = [&](const RMSpropOptions& o) { return message([&] { RMSprop<double>({p.handle()}, o); }); };
  EXPECT_EQ(fails({.alpha = 1}), "RMSprop: expected alpha from 0 to below 1, got 1");
  EXPECT_EQ(fails({.alpha = nan}), "RMSprop: expected alpha from 0 to below 1, got nan");
  EXPECT_EQ(fails({.eps = nan}), "RMSprop: expected eps of at least 0, got nan");
  EXPECT_EQ(fails({.weight_decay = nan}), "RMSprop: expected weight_decay of at least 0, got nan");
  EXPECT_EQ(fails({.momentum = nan}), "RMSprop: expected momentum of at least 0, got nan");
}

// --- groups, clipping ------------------------------------------------------------------------------------------------

/// Linear and norm: four parameters, and buffers.
Sequential<double> small_net(std::uint64_t seed = 1) {
  Random random(seed);
  Sequential<double> net;
  net.add("fc", Linear<double>({.in_features = 3, .out_features = 2}, random));
  net.add("bn", BatchNorm<double>({.num_features = 2}));
  return net;
}

TEST(ParametersIf, ChoosesByNameAndParameter) {
  auto net = small_net();
  const auto is_matrix = [](const std::string&, const ParameterData<double>& p) { return p.value.rank() > 1; };
  const auto of_norm = [](const std::string& name, const auto&) { return name.starts_with("bn."); };
  const auto all = net.parameters();
  EXPECT_EQ(net.parameters_if(is_matrix), (std::vector{all[0]}));
  EXPECT_EQ(net.parameters_if(std::not_fn(is_matrix)), (std::vector{all[1], all[2], all[3]}));
  EXPECT_EQ(parameters_if<double>(net, of_norm), (std::vector{all[2], all[3]}));
  const SGD<double> optimizer({{net.parameters_if(is_matrix), {.lr = 0.1, .weight_decay = 5e-4}},
                               {net.parameters_if(std::not_fn(is_matrix)), {.lr = 0.1}}});
  EXPECT_EQ(optimizer.parameters(), all);
  EXPECT_EQ(optimizer.options(0).weight_decay, 5e-4);
  EXPECT_EQ(optimizer.options(1).weight_decay, 0);
}

TEST(ClipGradNorm, ScalesWhatIsTooLongTogether) {
  Parameter<double> a(vector({0, 0})), b(vector({0})), none(vector({1}));
  const std::vector handles{a.handle(), none.handle(), b.handle()};
  a.grad = vector({2, -4});
  b.grad = vector({4});
  const Tensor<double> copy = a.grad;
  EXPECT_EQ(clip_grad_norm(handles, 6.5), 6);
  EXPECT_EQ(a.grad, vector({2, -4}));
  EXPECT_EQ(clip_grad_norm(handles, 3), 6);
  EXPECT_NEAR(a.grad(1), -2, 1e-6);
  EXPECT_NEAR(b.grad(0), 2, 1e-6);
  EXPECT_NEAR(clip_grad_norm(handles, 3), 3, 1e-6);
  EXPECT_EQ(copy, vector({2, -4}));
  EXPECT_TRUE(none.grad.empty());
  EXPECT_EQ(clip_grad_norm(std::vector<ParameterHandle<double>>(), 1), 0);
}

TEST(ClipGradNorm, TreatsWhatIsNotFiniteAsPyTorchDoes) {
  Parameter<double> p(vector({0, 0}));
  p.grad = vector({1, nan});
  EXPECT_EQ(message([&] { clip_grad_norm(std::vector{p.handle()}, 1, {.error_if_nonfinite = true}); }),
            "clip_grad_norm: expected gradients with a finite norm, got nan");
  EXPECT_EQ(p.grad(0), 1);
  EXPECT_TRUE(std::isnan(clip_grad_norm(std::vector{p.handle()}, 1)));
  EXPECT_TRUE(std::isnan(p.grad(0)));
  p.grad = vector({1, -infinity});
  EXPECT_EQ(clip_grad_norm(std::vector{p.handle()}, 1), infinity);
  EXPECT_EQ(p.grad(0), 0);
  EXPECT_TRUE(std::isnan(p.grad(1)));
  EXPECT_EQ(message([&] { clip_grad_norm(std::vector{p.handle()}, -1); }),
            "clip_grad_norm: expected max_norm of at least 0, got -1");
  EXPECT_EQ(message([&] { clip_grad_norm(std::vector{p.handle()}, nan); }),
            "clip_grad_norm: expected max_norm of at least 0, got nan");
}

TEST(ClipGradNorm, SameBitsForAnyNumberOfThreads) {
  const int threads = num_threads();
  Parameter<float> p(Tensor<float>(Shape{100'003}));
  const auto clipped = [&](int many) {
    set_num_threads(many);
    p.grad = normal<float>(p.value.shape());
    const double norm = clip_grad_norm(std::vector{p.handle()}, 1);
    EXPECT_NEAR(norm, std::sqrt(100'003), 2);
    return std::pair(norm, p.grad);
  };
  const auto one = clipped(1), two = clipped(2), three = clipped(3);
  set_num_threads(threads);
  EXPECT_EQ(one.first, two.first);
  EXPECT_EQ(one.first, three.first);
  EXPECT_TRUE(same_bits(one.second, two.second));
  EXPECT_TRUE(same_bits(one.second, three.second));
}

}  // namespace
