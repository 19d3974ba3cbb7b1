// Checkpoint: the same training step in less memory.
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/blocks/convert.hpp>
#include <residua/blocks/gradient_checkpoint.hpp>
#include <residua/models/cifar_resnet.hpp>
#include <residua/train/gradient_check.hpp>

#include "errors.hpp"
#include "layer_steps.hpp"
#include "small_net.hpp"

namespace {

using namespace residua;
using namespace small_net;

template <typename S>
Sequential<S> with_dropout(std::uint64_t seed = 1) {
  Sequential<S> net = make<S>(seed);
  Sequential<S> result;
  for (Index i = 0; i < net.size(); ++i) {
    result.add(net.name(i), net[i]);
    if (net.name(i).starts_with("layer")) result.add("drop" + std::to_string(i), Dropout<S>({.p = 0.3}));
  }
  return result;
}

/// All that a training step leaves behind: gradients, running statistics, dx, and where the random numbers are.
template <typename S>
struct Left {
  Tensor<S> y, dx;
  std::vector<Tensor<S>> gradients;
  std::vector<std::pair<std::string, Tensor<S>>> state;
  std::uint64_t drawn_next;
};

template <typename S, typename Net>
Left<S> after_a_step(Net net, const Tensor<S>& x, TapeOptions options = {}) {
  Random random(5);
  for (auto& p : parameters<S>(net)) {
    if (p->requires_grad) p->grad = normal<S>(p->value.shape(), 3);  // gradients are added to what is there
  }
  Tape<S> tape(random, options);
  const Tensor<S> y = net.forward(x, tape);
  const Tensor<S> dx = net.backward(normal<S>(y.shape(), 8), tape);
  EXPECT_TRUE(tape.empty());
  return {y, dx, all_gradients<S>(net), state<S>(net), random.bits()};
}

template <typename S, typename A, typename B>
void expect_same_step(const A& a, const B& b, const Tensor<S>& x, TapeOptions options = {}) {
  const Left<S> left = after_a_step<S>(a, x, options), right = after_a_step<S>(b, x, options);
  EXPECT_TRUE(same_bits(left.y, right.y));
  EXPECT_TRUE(same_bits(left.dx, right.dx));
  expect_same(left.gradients, right.gradients);
  expect_same(left.state, right.state);
  EXPECT_EQ(left.drawn_next, right.drawn_next);
}

template <typename S>
class GradientCheckpoint : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(GradientCheckpoint, Scalars);

TYPED_TEST(GradientCheckpoint, ChangesNoBitOfAStep) {
  using S = TypeParam;
  const Sequential<S> net = with_dropout<S>();
  const auto x = normal<S>({4, 8, 8, 3});
  for (const Mode mode : {Mode::train, Mode::evaluate}) {
    for (const bool input_gradient : {true, false}) {
      const TapeOptions options{.mode = mode, .input_gradient = input_gradient};
      expect_same_step(net, Checkpoint<S>(net), x, options);
      for (const Index segments : {0, 1, 3, 8}) expect_same_step(net, checkpointed(net, segments), x, options);
    }
  }
}

TYPED_TEST(GradientCheckpoint, OfFewRowsAndColumns) {
  using S = TypeParam;
  Random random(4);
  Sequential<S> net;
  net.add("wide", Linear<S>({.in_features = 64, .out_features = 96}, random)).add("relu", ReLU<S>());
  net.add("narrow", Linear<S>({.in_features = 96, .out_features = 3}, random)).add("end", ReLU<S>());
  for (const Index rows : {1, 3, 9}) expect_same_step(net, Checkpoint<S>(net), normal<S>({rows, 64}));
}

TYPED_TEST(GradientCheckpoint, MayStandInsideAnother) {
  using S = TypeParam;
  const Sequential<S> net = with_dropout<S>();
  Sequential<S> inner;
  for (Index i = 0; i < net.size(); ++i) inner.add(net.name(i), Checkpoint<S>(net[i]));
  Sequential<S> outer;
  outer.add("", Checkpoint<S>(inner));
  expect_same_step(net, outer, normal<S>({4, 8, 8, 3}));
  expect_same_step(net, checkpointed(inner, 2), normal<S>({4, 8, 8, 3}));
}

TYPED_TEST(GradientCheckpoint, MayStandInAResidualAndBeUsedTwice) {
  using S = TypeParam;
  Random random(1);
  const Sequential<S> branch(Conv2d<S>({.in_channels = 4, .out_channels = 4, .kernel_size = 3, .padding = 1}, random),
                             BatchNorm<S>({.num_features = 4, .momentum = 0.3}), Dropout<S>({.p = 0.2}), ReLU<S>());
  const auto x = normal<S>({3, 5, 5, 4});
  expect_same_step(Residual<S>(branch), Residual<S>(Checkpoint<S>(branch)), x);
  // Running statistics follow the forwards in their order, though backward runs the last one again first.
  expect_same_step(Repeat<S>(branch, 3), Repeat<S>(Checkpoint<S>(branch), 3), x);
}

TYPED_TEST(GradientCheckpoint, LeavesOutWhatNobodyWants) {
  using S = TypeParam;
  Sequential<S> net = with_dropout<S>();
  for (auto& [name, p] : net.named_parameters()) p->requires_grad = !name.starts_with("stem") && !name.starts_with("layer1");
  for (const bool input_gradient : {true, false}) {  // below the last trainable parameter statistics move all the same
    expect_same_step(net, checkpointed(net, 4), normal<S>({4, 8, 8, 3}), {.input_gradient = input_gradient});
  }
  for (auto& p : net.parameters()) p->requires_grad = false;
  expect_same_step(net, checkpointed(net, 4), normal<S>({4, 8, 8, 3}), {.input_gradient = false});
}

TEST(GradientCheckpoint, PassesTheGradientCheck) {
  Random random(1);
  Checkpoint<double> layer(Sequential<double>(Linear<double>({.in_features = 3, .out_features = 5}, random),
                                              Tanh<double>(), LayerNorm<double>(Shape{5})));
  const GradientReport report = gradient_check(layer, normal<double>({4, 3}));
  EXPECT_TRUE(report.passed()) << report;
}

TEST(GradientCheckpoint, IsTheLayerItselfWhereNothingIsRecorded) {
  const auto net = with_dropout<float>();
  const auto checkpoints = checkpointed(net);
  const auto x = normal<float>({4, 8, 8, 3});
  EXPECT_TRUE(same_bits(net(x), checkpoints(x)));
  EXPECT_TRUE(same_bits(inference(net)(x), inference(checkpoints)(x)));

  auto a = net, b = checkpoints;
  update_statistics(a, std::vector{x, x});
  update_statistics(b, std::vector{x, x});
  expect_same(state<float>(a), state<float>(b));
}

TEST(GradientCheckpoint, IsAValueWithTheNamesOfItsLayer) {
  auto net = make<float>();
  auto checkpoints = checkpointed(net, 3);
  expect_same(state<float>(net), state<float>(checkpoints));  // names and values
  EXPECT_EQ(checkpoints.get<Linear<float>>("fc").options.out_features, 5);

  const auto copy = checkpoints;
  const SmallBatch<float> batch;
  auto optimizer = optimizer_of<float>(checkpoints);
  step(checkpoints, optimizer, batch);
  EXPECT_FALSE(same_bits(state<float>(checkpoints)[0].second, state<float>(net)[0].second));
  const auto handle = checkpoints.parameters()[0];
  checkpoints = copy;
  EXPECT_TRUE(checkpoints.parameters()[0] == handle);
  expect_same(state<float>(net), state<float>(checkpoints));

  const auto wide = convert<double>(checkpoints);
  EXPECT_NE(wide[0].target<Checkpoint<double>>(), nullptr);
  const auto x = normal<double>({2, 8, 8, 3});
  EXPECT_TRUE(same_bits(convert<double>(net)(x), wide(x)));
  EXPECT_NE(convert<double>(Checkpoint<float>(net)).layer.target<Sequential<double>>(), nullptr);
}

TEST(GradientCheckpoint, GivesTheSameBitsForAnyThreads) {
  expect_same_bits_for_any_threads(checkpointed(with_dropout<float>()), normal<float>({4, 8, 8, 3}));
}

TEST(GradientCheckpoint, IsSeenOnceByAnObserver) {
  const auto seen_of = [](auto net) {
    std::vector<std::string> seen;
    Random random(1);
    Tape<float> tape(random);
    tape.observe([&](const Observation<float>& o) { seen.push_back((o.backward ? "d " : "") + o.path); });
    const auto y = net.forward(normal<float>({2, 8, 8, 3}), tape);
    net.backward(y, tape);
    return seen;
  };
  const auto net = make<float>();
  auto seen = seen_of(checkpointed(net, 2)), expected = seen_of(net);
  EXPECT_EQ(seen, expected);
}

// --- memory ----------------------------------------------------------------------------------------------------------

/// The most that tensors held during a step, beyond what was there before.
template <typename Net>
double peak_of_step(Net& net, const Tensor<float>& x) {
  release_memory();
  const std::size_t before = memory_statistics().live;
  Random random(1);
  Tape<float> tape(random, {.input_gradient = false});
  Tensor<float> y = net.forward(x, tape);
  net.backward(std::move(y), tape);
  return static_cast<double>(memory_statistics().peak - before);
}

TEST(GradientCheckpoint, MakesMemoryGrowWithTheRootOfTheDepth) {
  const auto x = normal<float>({8, 16, 16, 3});
  const auto peak = [&](Index depth, bool checkpoint) {
    Random random(1);
    auto net = cifar_resnet<float>(depth, {.channels = 8, .checkpoint = checkpoint}, random);
    for (auto& p : net.parameters()) p->grad = Tensor<float>(p->value.shape());  // gradients are there in any case
    return peak_of_step(net, x);
  };
  const double whole = peak(194, false), small = peak(50, true), large = peak(194, true);
  EXPECT_LT(large, whole / 3);
  EXPECT_LT(large / small, 2.6);  // four times as many blocks
}

// --- models ----------------------------------------------------------------------------------------------------------

TEST(GradientCheckpoint, OfACifarNetworkTrainsItTheSame) {
  for (const Order order : {Order::post_activation, Order::pre_activation}) {
    CifarResNetOptions<float> options{.order = order, .channels = 4};
    Random random(1), again(1);
    const auto net = cifar_resnet<float>(32, options, random);
    options.checkpoint = true;
    expect_same_step(net, cifar_resnet<float>(32, options, again), normal<float>({3, 12, 12, 3}));
  }
}

/// Only what the shortcut holds is trained: what follows has to learn from it alone that its gradient is wanted.
TEST(GradientCheckpoint, OfAResidualWhoseBranchIsFrozen) {
  Random rng(3);
  Sequential<double> block;
  block.add(Residual<double>(BatchNorm<double>({.num_features = 4}),
                             Linear<double>({.in_features = 4, .out_features = 4}, rng), ReLU<double>()));
  Sequential<double> plain, saving;
  plain.add("", block).add("act", ReLU<double>());
  saving.add("", checkpointed(block)).add("act", ReLU<double>());
  for (Sequential<double>* net : {&plain, &saving}) {
    for (auto& [name, p] : net->named_parameters()) p->requires_grad = name.find("shortcut") != std::string::npos;
  }
  for (const Mode mode : {Mode::train, Mode::evaluate}) {
    const auto x = normal<double>({6, 4});
    for (Sequential<double>* net : {&plain, &saving}) {
      Tape<double> tape(rng, {.mode = mode, .input_gradient = false});
      net->forward(x, tape);
      net->backward(x, tape);
    }
    ASSERT_FALSE(all_gradients<double>(plain)[2].empty());
    expect_same(all_gradients<double>(saving), all_gradients<double>(plain));
  }
}

TEST(GradientCheckpoint, CutsIntoEvenSegments) {
  Sequential<float> layers;
  for (int i = 0; i < 11; ++i) layers.add(ReLU<float>());
  const auto sizes = [&](Index segments) {
    std::vector<Index> all;
    const auto groups = checkpointed(layers, segments);
    for (Index i = 0; i < groups.size(); ++i) {
      all.push_back(groups[i].target<Checkpoint<float>>()->layer.target<Sequential<float>>()->size());
    }
    return all;
  };
  EXPECT_EQ(sizes(0), (std::vector<Index>{3, 4, 4}));
  EXPECT_EQ(sizes(1), (std::vector<Index>{11}));
  EXPECT_EQ(sizes(4), (std::vector<Index>{2, 3, 3, 3}));
  EXPECT_EQ(checkpointed(Sequential<float>()).size(), 0);
}

// --- errors ----------------------------------------------------------------------------------------------------------

TEST(GradientCheckpoint, RefusesOtherNumbersOfSegments) {
  const Sequential<float> two{ReLU<float>(), ReLU<float>()};
  EXPECT_EQ(message([&] { checkpointed(two, 3); }),
            "checkpointed: expected a number of segments from 0 to 2 for as many layers, got 3");
  expect_error([&] { checkpointed(two, -1); }, "from 0 to 2 for as many layers, got -1");
}

TEST(GradientCheckpoint, NamesTheLayerInErrorsAndLeavesTheTapeAsItWas) {
  const auto net = checkpointed(make<float>(), 3);
  Random random(1);
  Tape<float> tape(random);
  EXPECT_EQ(message([&] { net.forward(Tensor<float>(Shape{1, 8, 8, 4}), tape); }),
            message([&] { make<float>().forward(Tensor<float>(Shape{1, 8, 8, 4}), tape); }));
  EXPECT_TRUE(tape.empty());
  EXPECT_TRUE(tape.recording());
}

TEST(GradientCheckpoint, StaysUsableAfterABackwardThatThrew) {
  const auto fresh = with_dropout<float>();
  auto net = checkpointed(fresh, 3);
  const auto before = state<float>(net);
  const auto x = normal<float>({4, 8, 8, 3});
  Random random(5);
  Tape<float> tape(random);
  const auto y = net.forward(x, tape);
  const auto drawn = random;
  Tensor<float>& bias = net.get<BatchNorm<float>>("stem.bn").bias.value;
  const Tensor<float> kept = std::exchange(bias, Tensor<float>(Shape{2}));  // the second run of its segment stumbles here
  expect_error([&] { net.backward(y, tape); }, "expected bias of shape");
  EXPECT_TRUE(tape.recording());
  EXPECT_EQ(Random(random).bits(), Random(drawn).bits());
  bias = kept;
  expect_same(state<float>(net), before);
  tape.clear();
  for (auto& p : net.parameters()) p->grad = {};
  expect_same_step(fresh, net, x);
}

}  // namespace
