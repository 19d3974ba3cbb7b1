// Optimizers, schedules, clipping and averages, a hundred steps of each beside PyTorch.
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <residua/optim/adam.hpp>
#include <residua/optim/averaged_model.hpp>
#include <residua/optim/clip_grad.hpp>
#include <residua/optim/cosine_annealing_lr.hpp>
#include <residua/optim/linear_warmup.hpp>
#include <residua/optim/multi_step_lr.hpp>
#include <residua/optim/one_cycle_lr.hpp>
#include <residua/optim/reduce_lr_on_plateau.hpp>
#include <residua/optim/rmsprop.hpp>
#include <residua/optim/sgd.hpp>
#include <residua/optim/step_lr.hpp>

#include "golden.hpp"

namespace {

using namespace residua;

constexpr golden::Tolerance exact{.absolute = 1e-10, .relative = 1e-10};

/// Two parameters, of which Σ curvature · x² / 2 − target · x is to be made small.
struct Problem {
  using Scalar = double;
  Parameter<double> w, u;

  static void visit(auto& self, auto&& v) {
    v("w", self.w);
    v("u", self.u);
  }
};

/// What may happen beside the optimizer's steps.
struct Extras {
  bool swing = false;                           ///< the target's sign changes at each step
  double max_norm = 0;                          ///< 0: gradients are not clipped
  AveragedModel<Problem>* average = nullptr;
  Schedule* schedule = nullptr;
};

class GoldenOptim : public testing::Test {
 protected:
  using Handles = std::vector<ParameterHandle<double>>;

  static const Tensor<double>& at(const std::string& name) {
    static const auto tensors = golden::read("optimizer");
    return tensors.at(name);
  }

  Problem problem{Parameter<double>(at("problem:start.w")), Parameter<double>(at("problem:start.u"))};
  Handles both{problem.w.handle(), problem.u.handle()}, w{both[0]}, u{both[1]};

  void restart() {
    problem.w.value = at("problem:start.w");
    problem.u.value = at("problem:start.u");
  }

  /// Goes the hundred steps from the start, and compares all that the golden file has of them.
  void follow(const std::string& name, Optimizer<double>& optimizer, const Extras& extras) {
    SCOPED_TRACE(name);
    std::map<std::string, std::vector<double>> got;
    const auto record = [&](const std::string& what, const Tensor<double>& values) {
      got[what].insert(got[what].end(), values.cdata(), values.cdata() + values.size());
    };
    for (Index step = 0; step < 100; ++step) {
      for (Index group = 0; extras.schedule != nullptr && group < optimizer.group_count(); ++group) {
        got["lr"].push_back(optimizer.lr(group));
        got["momentum"].push_back(*optimizer.momentum(group));
      }
      optimizer.zero_grad();
      const double sign = extras.swing && step % 2 == 1 ? -1 : 1;
      for (auto& [parameter, p] : named_parameters<double>(problem)) {
        const auto curvature = at("problem:curvature." + parameter).carray();
        p->add_gradient(curvature * p->value.carray() - sign * at("problem:target." + parameter).carray());
      }
      if (extras.max_norm > 0) got["norm"].push_back(clip_grad_norm(both, extras.max_norm));
      optimizer.step();
      if (extras.average != nullptr) extras.average->update(problem);
      if (step % 10 == 9) {
        record("w", problem.w.value);
        record("u", problem.u.value);
        if (extras.average != nullptr) record("average.w", extras.average->module.w.value);
        if (extras.average != nullptr) record("average.u", extras.average->module.u.value);
      }
      if (extras.schedule != nullptr) extras.schedule->step(at("problem:metrics")(step));
    }
    for (const auto& [what, values] : got) {
      const Tensor<double>& expected = at(name + ":" + what);
      EXPECT_TRUE(golden::agree(Tensor<double>(expected.shape(), values), expected, exact)) << what;
    }
  }

  /// An optimizer with one group of options for both parameters, or one for each.
  template <typename Kind, typename Options>
  void check(const std::string& name, const Options& options, const Extras& extras = {}) {
    restart();
    Kind optimizer(both, options);
    follow(name, optimizer, extras);
  }
  template <typename Kind, typename Options>
  void check_groups(const std::string& name, const Options& for_w, const Options& for_u, const Extras& extras = {}) {
    restart();
    Kind optimizer({{w, for_w}, {u, for_u}});
    follow(name, optimizer, extras);
  }

  /// A schedule on one group, and on two that begin with another lr each.
  template <typename Kind, typename Options, typename Make>
  void check_schedule(const std::string& name, const Options& options, Make&& make) {
    restart();
    Kind one(both, options);
    auto schedule = make(one);
    follow(name, one, {.schedule = &schedule});

    restart();
    Options slow = options;
    slow.lr /= 4;
    Kind two({{w, options}, {u, slow}});
    auto other = make(two);
    follow(name + "/groups", two, {.schedule = &other});
  }
};

TEST_F(GoldenOptim, SGD) {
  const auto sgd = [&](const std::string& name, const SGDOptions& o) { check<SGD<double>>("sgd/" + name, o); };
  sgd("plain", {.lr = 0.1});
  sgd("momentum", {.lr = 0.1, .momentum = 0.9});
  sgd("dampening", {.lr = 0.1, .momentum = 0.8, .dampening = 0.3});
  sgd("nesterov", {.lr = 0.1, .momentum = 0.9, .nesterov = true});
  sgd("weight_decay", {.lr = 0.1, .weight_decay = 0.05});
  sgd("all", {.lr = 0.03, .momentum = 0.85, .weight_decay = 5e-3, .nesterov = true});
  check_groups<SGD<double>, SGDOptions>("sgd/groups", {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.05}, {.lr = 0.02});
}

TEST_F(GoldenOptim, Adam) {
  const auto adam = [&](const std::string& name, const AdamOptions& o, bool swing = false) {
    check<Adam<double>>("adam/" + name, o, {.swing = swing});
  };
  adam("default", {});
  adam("lr", {.lr = 0.05});
  adam("betas", {.lr = 0.05, .betas = {0.7, 0.95}});
  adam("eps", {.lr = 0.05, .eps = 0.1});
  adam("weight_decay", {.lr = 0.05, .weight_decay = 0.2});
  adam("amsgrad", {.lr = 0.05, .betas = {0.8, 0.9}, .amsgrad = true});
  adam("all", {.lr = 0.03, .betas = {0.6, 0.9}, .eps = 1e-3, .weight_decay = 0.1, .amsgrad = true}, true);
  check_groups<Adam<double>, AdamOptions>("adam/groups", {.lr = 0.05, .weight_decay = 0.1},
                                          {.lr = 0.02, .betas = {0.8, 0.99}, .amsgrad = true});
}

TEST_F(GoldenOptim, AdamW) {
  const auto adamw = [&](const std::string& name, const AdamWOptions& o, bool swing = false) {
    check<AdamW<double>>("adamw/" + name, o, {.swing = swing});
  };
  adamw("default", {});
  adamw("lr", {.lr = 0.05});
  adamw("betas", {.lr = 0.05, .betas = {0.7, 0.95}});
  adamw("eps", {.lr = 0.05, .eps = 0.1});
  adamw("weight_decay", {.lr = 0.05, .weight_decay = 0.2});
  adamw("amsgrad", {.lr = 0.05, .betas = {0.8, 0.9}, .amsgrad = true});
  adamw("all", {.lr = 0.03, .betas = {0.6, 0.9}, .eps = 1e-3, .weight_decay = 0.1, .amsgrad = true}, true);
  check_groups<AdamW<double>, AdamWOptions>("adamw/groups", {.lr = 0.05, .weight_decay = 0.1},
                                            {.lr = 0.02, .betas = {0.8, 0.99}, .amsgrad = true});
}

TEST_F(GoldenOptim, RMSprop) {
  const auto rmsprop = [&](const std::string& name, const RMSpropOptions& o, bool swing = false) {
    check<RMSprop<double>>("rmsprop/" + name, o, {.swing = swing});
  };
  rmsprop("default", {});
  rmsprop("alpha", {.alpha = 0.8});
  rmsprop("eps", {.eps = 0.1});
  rmsprop("weight_decay", {.weight_decay = 0.1});
  rmsprop("momentum", {.lr = 0.003, .momentum = 0.9});
  rmsprop("centered", {.centered = true}, true);
  rmsprop("all",
          {.lr = 0.003, .alpha = 0.9, .eps = 1e-3, .weight_decay = 0.1, .momentum = 0.7, .centered = true}, true);
  check_groups<RMSprop<double>, RMSpropOptions>("rmsprop/groups", {.weight_decay = 0.1},
                                                {.lr = 0.003, .momentum = 0.8, .centered = true}, {.swing = true});
}

TEST_F(GoldenOptim, Clipping) {
  check<SGD<double>>("clip/sgd", SGDOptions{.lr = 0.1, .momentum = 0.9}, {.max_norm = 0.5});
  check<Adam<double>>("clip/adam", AdamOptions{.lr = 0.05}, {.swing = true, .max_norm = 1});
}

TEST_F(GoldenOptim, Averages) {
  AveragedModel exponential(problem, {.decay = 0.9}), equal(problem);
  check<SGD<double>>("average/ema", SGDOptions{.lr = 0.1, .momentum = 0.9}, {.average = &exponential});
  check<SGD<double>>("average/swa", SGDOptions{.lr = 0.1, .momentum = 0.9}, {.average = &equal});
}

// --- schedules -------------------------------------------------------------------------------------------------------

constexpr SGDOptions heavy{.lr = 0.1, .momentum = 0.9};

TEST_F(GoldenOptim, StepLR) {
  const auto check = [&](const std::string& name, const StepLROptions& options) {
    check_schedule<SGD<double>>("step/" + name, heavy, [&](auto& optimizer) { return StepLR(optimizer, options); });
  };
  check("default", {.step_size = 30});
  check("gamma", {.step_size = 7, .gamma = 0.8});
}

TEST_F(GoldenOptim, MultiStepLR) {
  const auto check = [&](const std::string& name, const MultiStepLROptions& options) {
    check_schedule<SGD<double>>("multi_step/" + name, heavy, [&](auto& o) { return MultiStepLR(o, options); });
  };
  check("default", {.milestones = {20, 60}});
  check("gamma", {.milestones = {50, 1, 30, 30, 99}, .gamma = 0.5});
}

TEST_F(GoldenOptim, CosineAnnealingLR) {
  const auto check = [&](const std::string& name, const SGDOptions& sgd, const CosineAnnealingLROptions& options) {
    check_schedule<SGD<double>>("cosine/" + name, sgd, [&](auto& o) { return CosineAnnealingLR(o, options); });
  };
  check("default", heavy, {.T_max = 100});
  check("eta_min", {.lr = 0.2}, {.T_max = 100, .eta_min = 0.01});
  check("beyond_T_max", {.lr = 0.1}, {.T_max = 30, .eta_min = 0.01});
}

TEST_F(GoldenOptim, OneCycleLR) {
  const auto one_cycle = [](OneCycleLROptions options) {
    options.total_steps = 100;
    return [=](auto& optimizer) { return OneCycleLR(optimizer, options); };
  };
  const auto check = [&](const std::string& name, const SGDOptions& sgd, const OneCycleLROptions& options) {
    check_schedule<SGD<double>>("one_cycle/" + name, sgd, one_cycle(options));
  };
  check("default", heavy, {.max_lr = 0.2});
  check("nesterov", {.lr = 0.1, .momentum = 0.9, .nesterov = true}, {.max_lr = 0.1, .pct_start = 0.2});
  check("factors", {.lr = 0.1, .momentum = 0.5}, {.max_lr = 0.2,
                                                  .base_momentum = 0.7,
                                                  .max_momentum = 0.9,
                                                  .div_factor = 10,
                                                  .final_div_factor = 100});
  check("linear", heavy, {.max_lr = 0.2, .anneal_strategy = AnnealStrategy::linear});
  check("three_phase", heavy, {.max_lr = 0.2, .pct_start = 0.25, .three_phase = true});
  check("fixed_momentum", heavy, {.max_lr = 0.2, .cycle_momentum = false});
  check_schedule<Adam<double>>("one_cycle/adam", AdamOptions{.lr = 0.01}, one_cycle({.max_lr = 0.05}));
  check_schedule<RMSprop<double>>("one_cycle/rmsprop", RMSpropOptions{.lr = 0.01}, one_cycle({.max_lr = 0.003}));
}

TEST_F(GoldenOptim, ReduceLROnPlateau) {
  const auto check = [&](const std::string& name, const ReduceLROnPlateauOptions& options) {
    check_schedule<SGD<double>>("plateau/" + name, heavy, [&](auto& o) { return ReduceLROnPlateau(o, options); });
  };
  const auto absolute = ThresholdMode::abs;
  check("default", {});
  check("short", {.factor = 0.5, .patience = 2, .cooldown = 3});
  check("max", {.mode = PlateauMode::max, .factor = 0.7, .patience = 4, .min_lr = 0.004});
  check("abs", {.factor = 0.5, .patience = 3, .threshold = 0.2, .threshold_mode = absolute});
  check("max_abs", {.mode = PlateauMode::max, .factor = 0.5, .patience = 3, .threshold = 0.1,
                    .threshold_mode = absolute, .eps = 2e-3});
  check("rel", {.factor = 0.5, .patience = 1, .threshold = 0.3});
}

TEST_F(GoldenOptim, LinearWarmup) {
  check_schedule<SGD<double>>("warmup/step", heavy, [](auto& optimizer) {
    return LinearWarmup(optimizer, StepLR(optimizer, {.step_size = 20}));
  });
  check_schedule<SGD<double>>("warmup/cosine", heavy, [](auto& optimizer) {
    const CosineAnnealingLROptions options{.T_max = 90};
    std::unique_ptr<Schedule> cosine = std::make_unique<CosineAnnealingLR>(optimizer, options);
    return LinearWarmup(optimizer, std::move(cosine), {.start_factor = 0.1, .total_iters = 10});
  });
  check_schedule<Adam<double>>("warmup/one_cycle", AdamOptions{.lr = 0.01}, [](auto& optimizer) {
    OneCycleLR one_cycle(optimizer, {.max_lr = 0.05, .total_steps = 80});
    return LinearWarmup(optimizer, one_cycle, {.start_factor = 0.2, .total_iters = 20});
  });
}

}  // namespace
