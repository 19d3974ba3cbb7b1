// The optimizer, its schedules and a whole training run, step by step beside PyTorch.
#include <residua/residua.hpp>

#include "golden.hpp"

namespace {

using namespace residua;

// --- fifty steps of SGD ----------------------------------------------------------------------------------------------

/// Minimises Σ curvature · w² / 2 − target · w, whose gradient is curvature · w − target.
class GoldenOptimizer : public testing::Test {
 protected:
  static constexpr golden::Tolerance exact{.absolute = 1e-10, .relative = 1e-10};

  /// Compares every step of SGD with the case's, and with a schedule the lr and momentum it was done with.
  /// `schedule(optimizer)` makes the schedule, or nothing.
  template <typename Schedule>
  void check(const std::string& name, const SGDOptions& options, Schedule&& schedule) {
    const auto tensors = golden::read("optimizer");
    const auto &curvature = tensors.at("problem:curvature"), &target = tensors.at("problem:target");
    const Tensor<double>& steps = tensors.at(name + ":w");
    Parameter<double> w(tensors.at("problem:start"));
    SGD<double> optimizer({w.handle()}, options);
    auto scheduled = schedule(optimizer);

    Tensor<double> got(steps.shape()), lr(Shape{steps.dim(0)}), momentum(Shape{steps.dim(0)});
    for (Index step = 0; step < steps.dim(0); ++step) {
      lr(step) = optimizer.options.lr;
      momentum(step) = optimizer.options.momentum;
      optimizer.zero_grad();
      w.add_gradient(curvature.carray() * w.value.carray() - target.carray());
      optimizer.step();
      got.matrix().row(step) = w.value.carray().matrix();
      scheduled.step();
    }
    EXPECT_TRUE(golden::agree(got, steps, exact)) << name << ":w";
    if (!tensors.contains(name + ":lr")) return;
    EXPECT_TRUE(golden::agree(lr, tensors.at(name + ":lr"), exact)) << name << ":lr";
    EXPECT_TRUE(golden::agree(momentum, tensors.at(name + ":momentum"), exact)) << name << ":momentum";
  }

  void check(const std::string& name, const SGDOptions& options) {
    struct Constant {
      void step() {}
    };
    check(name, options, [](auto&) { return Constant{}; });
  }
};

TEST_F(GoldenOptimizer, SGD) {
  check("sgd/plain", {.lr = 0.1});
  check("sgd/momentum", {.lr = 0.1, .momentum = 0.9});
  check("sgd/dampening", {.lr = 0.1, .momentum = 0.8, .dampening = 0.3});
  check("sgd/nesterov", {.lr = 0.1, .momentum = 0.9, .nesterov = true});
  check("sgd/weight_decay", {.lr = 0.1, .weight_decay = 0.05});
  check("sgd/all", {.lr = 0.03, .momentum = 0.85, .weight_decay = 5e-3, .nesterov = true});
}

TEST_F(GoldenOptimizer, CosineAnnealingLR) {
  const auto cosine = [](const CosineAnnealingLROptions& options) {
    return [=](SGD<double>& optimizer) { return CosineAnnealingLR(optimizer, options); };
  };
  check("cosine/default", {.lr = 0.1, .momentum = 0.9}, cosine({.T_max = 50}));
  check("cosine/eta_min", {.lr = 0.2}, cosine({.T_max = 50, .eta_min = 0.01}));
  check("cosine/beyond_T_max", {.lr = 0.1}, cosine({.T_max = 20, .eta_min = 0.01}));
}

TEST_F(GoldenOptimizer, OneCycleLR) {
  const auto one_cycle = [](OneCycleLROptions options) {
    options.total_steps = 50;
    return [=](SGD<double>& optimizer) { return OneCycleLR(optimizer, options); };
  };
  const SGDOptions momentum{.lr = 0.1, .momentum = 0.9};
  check("one_cycle/default", momentum, one_cycle({.max_lr = 0.2}));
  check("one_cycle/linear", momentum, one_cycle({.max_lr = 0.2, .anneal_strategy = AnnealStrategy::linear}));
  check("one_cycle/three_phase", momentum, one_cycle({.max_lr = 0.2, .pct_start = 0.25, .three_phase = true}));
  check("one_cycle/fixed_momentum", momentum, one_cycle({.max_lr = 0.2, .cycle_momentum = false}));
  check("one_cycle/nesterov", {.lr = 0.1, .momentum = 0.9, .nesterov = true},
        one_cycle({.max_lr = 0.1, .pct_start = 0.2}));
  check("one_cycle/factors", {.lr = 0.1, .momentum = 0.5},
        one_cycle({.max_lr = 0.2,
                   .base_momentum = 0.7,
                   .max_momentum = 0.9,
                   .div_factor = 10,
                   .final_div_factor = 100}));
}

// --- a hundred steps of a residual network ---------------------------------------------------------------------------

/// The losses of the run in training.golden: a small residual network, four batches of eight images in turn. Running
/// statistics at the end of the hundred steps are compared in double.
template <typename S>
void compare_losses(Index steps, double tolerance) {
  const auto tensors = golden::read("training");
  Random rng(1);
  Sequential<S> net;
  net.add("conv1",
          Conv2d<S>({.in_channels = 3, .out_channels = 8, .kernel_size = 3, .padding = 1, .bias = false}, rng));
  net.add("bn1", BatchNorm<S>({.num_features = 8}));
  net.add("relu", ReLU<S>());
  net.add("block0", ResidualBlock<S>({.in_channels = 8, .out_channels = 8}, rng));
  net.add("block1", ResidualBlock<S>({.in_channels = 8, .out_channels = 16, .stride = 2}, rng));
  net.add("pool", GlobalAvgPool2d<S>());
  net.add("fc", Linear<S>({.in_features = 16, .out_features = 10}, rng));
  for (auto& [name, p] : net.named_parameters()) p->value = tensors.at("start:" + name).template cast<S>();

  const auto &images = tensors.at("images"), &labels = tensors.at("labels"), &losses = tensors.at("losses");
  const Shape batch = images.shape().part(1, 5);
  SGD<S> optimizer(net.parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
  for (Index step = 0; step < steps; ++step) {
    const Index which = step % images.dim(0);
    Tensor<S> x(batch);
    x.array() = images.carray().segment(which * batch.size(), batch.size()).template cast<S>();
    const double* const label = labels.cdata() + which * batch[0];
    const std::vector<Index> targets(label, label + batch[0]);

    optimizer.zero_grad();
    Tape<S> tape(rng);
    const Loss<S> loss = cross_entropy(net.forward(std::move(x), tape), targets);
    net.backward(loss.gradient, tape);
    optimizer.step();
    ASSERT_NEAR(loss.value, losses(step), tolerance) << "at step " << step;
  }
  if (steps < losses.size()) return;
  for (auto& [name, b] : net.named_buffers()) {
    EXPECT_TRUE(golden::agree(b->value, tensors.at("end:" + name), {.of_largest = tolerance})) << name;
  }
}

TEST(GoldenTraining, HundredLossesInDouble) { compare_losses<double>(100, 1e-8); }
TEST(GoldenTraining, FiveLossesInFloat) { compare_losses<float>(5, 1e-3); }

}  // namespace
