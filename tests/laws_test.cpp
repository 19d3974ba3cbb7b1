// The laws every network keeps: a layer is a value, forward is const, who adds what, the same bits.
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "errors.hpp"
#include "small_net.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;
using namespace small_net;

// --- a layer is a value ----------------------------------------------------------------------------------------------

TEST(LayersAreValues, ACopyTrainsIndependently) {
  auto net = make<float>();
  auto copy = net;
  const auto before = state<float>(net);
  expect_same(state<float>(copy), before);
  auto optimizer = optimizer_of<float>(copy);
  const SmallBatch<float> batch;
  for (int i = 0; i < 3; ++i) step(copy, optimizer, batch);
  expect_same(state<float>(net), before);
  for (const auto& gradient : all_gradients<float>(net)) EXPECT_TRUE(gradient.empty());
  EXPECT_NE(copy.get<Linear<float>>("fc").weight.value, net.get<Linear<float>>("fc").weight.value);
}

TEST(LayersAreValues, ACopyTrainsAsTheOriginalWould) {
  auto net = make<float>();
  auto copy = net;
  const SmallBatch<float> batch;
  for (auto* n : {&net, &copy}) {
    auto optimizer = optimizer_of<float>(*n);
    for (int i = 0; i < 3; ++i) step(*n, optimizer, batch);
  }
  expect_same(state<float>(net), state<float>(copy));
}

TEST(LayersAreValues, AssigningKeepsHandlesAndTrainsOn) {
  auto net = make<float>();
  auto optimizer = optimizer_of<float>(net);
  const auto handles = net.named_parameters();
  const auto buffers = net.named_buffers();
  const SmallBatch<float> batch;
  for (int i = 0; i < 3; ++i) step(net, optimizer, batch);
  auto best = net;
  const auto at_best = state<float>(best);
  for (int i = 0; i < 3; ++i) step(net, optimizer, batch);

  net = best;
  expect_same(state<float>(net), at_best);
  const auto now = net.named_parameters();
  ASSERT_EQ(now.size(), handles.size());
  for (std::size_t i = 0; i < now.size(); ++i) EXPECT_TRUE(now[i].second == handles[i].second) << now[i].first;
  for (std::size_t i = 0; i < buffers.size(); ++i) EXPECT_TRUE(net.named_buffers()[i].second == buffers[i].second);

  step(net, optimizer, batch);
  EXPECT_FALSE(same_bits(net.get<Linear<float>>("fc").weight.value, best.get<Linear<float>>("fc").weight.value));
  expect_same(state<float>(best), at_best);
}

TEST(LayersAreValues, MoveAssigningKeepsHandles) {
  auto net = make<float>();
  auto optimizer = optimizer_of<float>(net);
  const auto handles = net.parameters();
  auto other = make<float>(2);
  const auto wanted = state<float>(other);
  net = std::move(other);
  expect_same(state<float>(net), wanted);
  for (std::size_t i = 0; i < handles.size(); ++i) EXPECT_TRUE(net.parameters()[i] == handles[i]);
  step(net, optimizer, SmallBatch<float>());
  EXPECT_FALSE(same_bits(state<float>(net)[0].second, wanted[0].second));
}

TEST(LayersAreValues, AssigningToItselfChangesNothing) {
  auto net = make<float>();
  const auto before = state<float>(net);
  const auto handle = net.parameters()[0];
  auto& self = net;
  net = self;
  expect_same(state<float>(net), before);
  EXPECT_TRUE(net.parameters()[0] == handle);
}

TEST(LayersAreValues, AssigningAnotherStructureReplaces) {
  Sequential<float> net{ReLU<float>()};
  net = make<float>();
  auto wanted = make<float>();
  expect_same(state<float>(net), state<float>(wanted));

  Random random(1);
  Layer<float> layer = ReLU<float>();
  layer = Linear<float>({.in_features = 2, .out_features = 3}, random);
  EXPECT_NE(layer.target<Linear<float>>(), nullptr);
  EXPECT_EQ(layer.target<ReLU<float>>(), nullptr);
}

TEST(LayersAreValues, LayerMayBeAssignedAPartOfItself) {
  Random random(1);
  const Linear<float> linear({.in_features = 3, .out_features = 3}, random);
  const Tensor<float> x(Shape{2, 3}, 0.5f);
  for (const bool moved : {false, true}) {
    Layer<float> inner = Residual<float>(linear, linear);
    const Tensor<float> wanted = inner(x);
    Layer<float> net = Residual<float>(inner, linear);
    Layer<float>& part = net.target<Residual<float>>()->branch;
    if (moved) {
      net = std::move(part);
    } else {
      net = part;
    }
    EXPECT_EQ(net(x), wanted);
    net = net.target<Residual<float>>()->branch;
    EXPECT_NE(net.target<Linear<float>>(), nullptr);
  }
}

TEST(LayersAreValues, AssigningToAMovedFromLayerMakesItWhole) {
  Random random(1);
  Linear<float> a({.in_features = 2, .out_features = 3}, random);
  const Linear<float> b = std::move(a);
  a = b;
  EXPECT_EQ(a.parameters()[0]->value, b.weight.value);
  EXPECT_FALSE(a.weight.handle() == b.weight.handle());
  Layer<float> held = b;
  Layer<float> moved = std::move(held);
  EXPECT_EQ(message([&] { held.parameters(); }), "Layer: expected a layer, got one that was moved from");
  held = moved;
  EXPECT_EQ(held.parameters()[0]->value, b.weight.value);
}

struct Built {
  std::vector<ParameterHandle<float>> handles;
  Sequential<float> net;
};

Built build() {
  auto net = make<float>();
  auto handles = net.parameters();
  return {std::move(handles), std::move(net)};
}

TEST(LayersAreValues, HandlesAreGoodAfterAReturnAndAMove) {
  Built built = build();
  Sequential<float> net = std::move(built.net);
  const auto handles = net.parameters();
  ASSERT_EQ(handles.size(), built.handles.size());
  for (std::size_t i = 0; i < handles.size(); ++i) EXPECT_TRUE(handles[i] == built.handles[i]);
  SGD<float> optimizer(built.handles, {.lr = 0.1});
  const auto before = state<float>(net);
  step(net, optimizer, SmallBatch<float>());
  EXPECT_FALSE(same_bits(state<float>(net)[0].second, before[0].second));
}

TEST(LayersAreValues, HandlesOutliveTheNetwork) {
  std::optional<Sequential<float>> net = make<float>();
  const auto before = state<float>(*net);
  gradients(*net, SmallBatch<float>());
  const auto gradient = all_gradients<float>(*net);
  auto handles = net->parameters();
  auto optimizer = optimizer_of<float>(*net);
  net.reset();
  for (std::size_t i = 0; i < handles.size(); ++i) {
    EXPECT_TRUE(same_bits(handles[i]->grad, gradient[i]));
  }
  EXPECT_TRUE(same_bits(handles[0]->value, before[0].second));
  optimizer.step();
  EXPECT_FALSE(same_bits(handles[0]->value, before[0].second));
}

TEST(LayersAreValues, SwapCarriesHandlesAlong) {
  auto a = make<float>(1), b = make<float>(2);
  const auto of_a = a.parameters()[0], of_b = b.parameters()[0];
  const auto state_a = state<float>(a), state_b = state<float>(b);
  std::swap(a, b);
  expect_same(state<float>(a), state_b);
  expect_same(state<float>(b), state_a);
  EXPECT_TRUE(a.parameters()[0] == of_b);
  EXPECT_TRUE(b.parameters()[0] == of_a);
}

TEST(LayersAreValues, VectorsMayMoveThem) {
  Random random(1);
  std::vector<Linear<float>> layers;
  std::vector<ParameterHandle<float>> handles;
  for (int i = 0; i < 20; ++i) {
    layers.emplace_back(LinearOptions{.in_features = 2, .out_features = 3}, random);
    handles.push_back(layers.back().weight.handle());
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    EXPECT_EQ(&handles[i]->value, &layers[i].weight.value);
    EXPECT_FALSE(handles[i]->value.empty());
  }
}

TEST(LayersAreValues, NamesArePyTorchs) {
  auto net = make<float>();
  std::vector<std::string> names, buffers;
  for (const auto& [name, p] : net.named_parameters()) names.push_back(name);
  for (const auto& [name, b] : net.named_buffers()) buffers.push_back(name);
  EXPECT_EQ(names.front(), "stem.conv.weight");
  EXPECT_EQ(names[1], "stem.bn.weight");
  EXPECT_EQ(names[2], "stem.bn.bias");
  EXPECT_EQ(names[3], "layer1.0.branch.0.conv.weight");
  EXPECT_EQ(names[names.size() - 1], "fc.bias");
  EXPECT_EQ(names[names.size() - 2], "fc.weight");
  EXPECT_EQ(buffers[0], "stem.bn.running_mean");
  EXPECT_EQ(buffers[1], "stem.bn.running_var");
  EXPECT_EQ(buffers[2], "stem.bn.num_batches_tracked");
  EXPECT_EQ(message([&] { net.get<ReLU<float>>("fc"); }), "get: 'fc' is a Linear, not a ReLU of this scalar");
  EXPECT_EQ(message([&] { net.get<ReLU<float>>("fd"); }), "get: there is no layer named 'fd'");
}

// --- who adds what ---------------------------------------------------------------------------------------------------

/// y = inner(inner(x)).
template <typename S>
struct Twice {
  Layer<S> inner;
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    x = residua::forward(inner, "inner", std::move(x), tape);
    return residua::forward(inner, "inner", std::move(x), tape);
  }
  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    dy = residua::backward(inner, "inner", std::move(dy), tape);
    return residua::backward(inner, "inner", std::move(dy), tape);
  }
  static void visit(auto& self, auto&& v) { v("inner", self.inner); }
};

TEST(Gradients, OfALayerUsedTwiceAreTheSum) {
  Random random(1);
  const Conv2d<double> conv({.in_channels = 3, .out_channels = 3, .kernel_size = 3, .padding = 1}, random);
  Twice<double> shared{conv};
  Sequential<double> apart(conv, conv);
  const auto x = normal<double>({2, 5, 4, 3}, 2), dy = normal<double>({2, 5, 4, 3}, 3);
  Tape<double> tape(random);
  EXPECT_EQ(shared.forward(x, tape), apart(x));
  const auto dx = shared.backward(dy, tape);
  apart.forward(x, tape);
  EXPECT_TRUE(same_bits(dx, apart.backward(dy, tape)));
  const auto sums = all_gradients<double>(shared), parts = all_gradients<double>(apart);
  EXPECT_TRUE(same_bits(sums[0], detail::sum(parts[2], parts[0])));
  EXPECT_TRUE(same_bits(sums[1], detail::sum(parts[3], parts[1])));
}

TEST(Gradients, OfMicroBatchesAddUpToTheBatchs) {
  Random random(1);
  Sequential<double> net(Conv2d<double>({.in_channels = 2, .out_channels = 3, .kernel_size = 3, .padding = 1}, random),
                         Conv2d<double>({.in_channels = 3, .out_channels = 4, .kernel_size = 2}, random));
  for (auto& p : net.parameters()) p->value = whole_numbers<double>(p->value.shape(), 5);  // so that sums are exact
  const Shape part{2, 4, 5, 2};
  Tensor<double> x(part.with(0, 6)), dy(Shape{6, 3, 4, 4});
  Tensor<double> xs[3], dys[3];
  for (Index i = 0; i < 3; ++i) {
    const auto at = static_cast<std::size_t>(i);
    xs[at] = whole_numbers<double>(part, 10 + at);
    dys[at] = whole_numbers<double>({2, 3, 4, 4}, 20 + at);
    x.array().segment(i * xs[at].size(), xs[at].size()) = xs[at].carray();
    dy.array().segment(i * dys[at].size(), dys[at].size()) = dys[at].carray();
  }
  auto whole = net;
  Tape<double> tape(random);
  whole.forward(x, tape);
  const auto dx = whole.backward(dy, tape);
  for (std::size_t i = 0; i < 3; ++i) {
    net.forward(xs[i], tape);
    const auto part_dx = net.backward(dys[i], tape);
    EXPECT_TRUE((dx.carray().segment(static_cast<Index>(i) * part_dx.size(), part_dx.size()) == part_dx.carray()).all());
  }
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(net.parameters()[i]->grad, whole.parameters()[i]->grad);
}

TEST(Gradients, AreAddedToWhatIsThere) {
  auto net = make<double>(), other = net;
  const SmallBatch<double> batch;
  gradients(net, batch);
  for (auto& p : other.parameters()) p->grad = Tensor<double>(p->value.shape(), 3);
  gradients(other, batch);
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    const auto expected = net.parameters()[i]->grad.carray() + 3;
    EXPECT_LE(largest(other.parameters()[i]->grad.carray() - expected), 1e-12);
  }
}

TEST(Gradients, FrozenParametersGetNone) {
  auto net = make<double>(), free = net;
  const SmallBatch<double> batch;
  gradients(free, batch);
  for (auto& [name, p] : net.named_parameters()) p->requires_grad = name.find("conv") == std::string::npos;
  gradients(net, batch);
  const auto handles = net.named_parameters();
  for (std::size_t i = 0; i < handles.size(); ++i) {
    const auto& [name, p] = handles[i];
    if (p->requires_grad) {
      EXPECT_TRUE(same_bits(p->grad, free.parameters()[i]->grad)) << name;
    } else {
      EXPECT_TRUE(p->grad.empty()) << name;
    }
  }
}

/// Says how often its backward had something to do.
struct Probe {
  int* wanted;
  Tensor<double> forward(Tensor<double> x, Tape<double>& tape) const {
    tape.push_for(false, x.shape());
    return x;
  }
  Tensor<double> backward(Tensor<double> dy, Tape<double>& tape) {
    tape.pop<Shape>();
    if (!tape.output_gradient()) return {};
    ++*wanted;
    return dy;
  }
  static void visit(auto&, auto&&) {}
};

TEST(Gradients, NothingIsComputedBelowTheLastTrainableParameter) {
  Random random(1);
  int below = 0, above = 0;
  Sequential<double> net;
  net.add("probe", Probe{&below});
  net.add("frozen", block<double>(3, 3, 1, random));
  net.add("probe2", Probe{&below});
  net.add("head", Conv2d<double>({.in_channels = 3, .out_channels = 2, .kernel_size = 1}, random));
  net.add("probe3", Probe{&above});
  for (auto& [name, p] : net.named_parameters()) p->requires_grad = name.starts_with("head");
  Tape<double> tape(random, {.input_gradient = false});
  const auto x = normal<double>({2, 4, 4, 3}, 2);
  const auto y = net.forward(x, tape);
  EXPECT_TRUE(x.unique());  // nothing of it was kept
  EXPECT_TRUE(net.backward(normal<double>(y.shape(), 3), tape).empty());
  EXPECT_EQ(below, 0);
  EXPECT_EQ(above, 1);
  EXPECT_TRUE(tape.empty());
  for (auto& [name, p] : net.named_parameters()) EXPECT_EQ(p->grad.empty(), !name.starts_with("head")) << name;
  EXPECT_EQ(net.named_buffers()[2].second->value.carray()[0], 1);  // and yet the running statistics moved
}

TEST(Gradients, ByAnUnwantedInputAreEmptyAndTheOthersTheSame) {
  Random random(1);
  const auto check = [&](Layer<double> layer) {
    auto with = layer, without = layer;
    const auto x = normal<double>({3, 4, 4, 3}, 2);
    Tape<double> all(random), some(random, {.input_gradient = false});
    const auto y = with.forward(x, all);
    without.forward(x, some);
    const auto dy = normal<double>(y.shape(), 3);
    EXPECT_EQ(with.backward(dy, all).shape(), x.shape());
    EXPECT_TRUE(without.backward(dy, some).empty());
    expect_same(all_gradients<double>(with), all_gradients<double>(without));
  };
  check(Conv2d<double>({.in_channels = 3, .out_channels = 4, .kernel_size = 3}, random));
  check(Linear<double>({.in_features = 3, .out_features = 4}, random));
  check(BatchNorm<double>({.num_features = 3}));
  check(ReLU<double>());
  check(GlobalAvgPool2d<double>());
  check(block<double>(3, 3, 1, random));
  check(block<double>(3, 5, 2, random));
  check(Residual<double>(ReLU<double>(), Conv2d<double>({.in_channels = 3, .out_channels = 3, .kernel_size = 1}, random)));
}

TEST(Gradients, InEvaluationUseTheRunningStatisticsAndLeaveThemAlone) {
  auto net = make<double>();
  gradients(net, SmallBatch<double>());
  const auto before = state<double>(net);
  const SmallBatch<double> batch(3, 5);
  Random random(1);
  Tape<double> tape(random, {.mode = Mode::evaluate});
  EXPECT_EQ(net.forward(batch.images, tape), net(batch.images));
  net.backward(normal<double>({3, 5}, 4), tape);
  expect_same(state<double>(net), before);
}

// --- running statistics ----------------------------------------------------------------------------------------------

TEST(RunningStatistics, MoveOnceForEachRecordedForwardInBackward) {
  BatchNorm<double> norm({.num_features = 2});
  Random random(1);
  Tape<double> tape(random);
  const auto x = normal<double>({6, 2}, 1);
  const auto y = norm.forward(x, tape);
  EXPECT_EQ(norm.running_mean.value, Tensor<double>(Shape{2}));
  norm.backward(y, tape);
  const Eigen::ArrayXd mean = x.cmatrix().colwise().mean().transpose();
  EXPECT_LE(largest(norm.running_mean.value.carray() - 0.1 * mean), 1e-15);
  EXPECT_EQ(norm.num_batches_tracked.value(), 1);
  norm.forward(x, tape);
  tape.clear();
  EXPECT_EQ(norm.num_batches_tracked.value(), 1);
  norm.options.frozen = true;
  norm.forward(x, tape);
  norm.backward(y, tape);
  EXPECT_EQ(norm.num_batches_tracked.value(), 1);
}

TEST(RunningStatistics, FoldOnceForEachMicroBatch) {
  auto net = make<double>(), other = net;
  const SmallBatch<double> batches[3] = {SmallBatch<double>(4, 1), SmallBatch<double>(4, 2), SmallBatch<double>(4, 3)};
  for (const auto& batch : batches) gradients(net, batch);  // a tape each
  Random random(7);
  Tape<double> tape(random);  // one tape for all, forward by forward
  std::vector<Tensor<double>> losses;
  for (const auto& batch : batches) losses.push_back(cross_entropy(other.forward(batch.images, tape), batch.labels).gradient);
  EXPECT_EQ(other.named_buffers()[2].second->value(), 0);
  for (std::size_t i = 3; i-- > 0;) other.backward(losses[i], tape);
  EXPECT_EQ(net.named_buffers()[2].second->value(), 3);
  expect_same(state<double>(net), state<double>(other));  // in the order of the forwards
}

TEST(RunningStatistics, FollowTheOrderOfTheForwardsWhateverTheOrderOfTheBackwards) {
  const Tensor<double> x[3] = {normal<double>({4, 2}, 1), normal<double>({5, 2}, 2), normal<double>({6, 2}, 3)};
  BatchNorm<double> in_order({.num_features = 2}), norm({.num_features = 2});
  Random random(1);
  for (const auto& batch : x) {
    Tape<double> tape(random);
    in_order.backward(in_order.forward(batch, tape), tape);
  }
  Tape<double> tape(random);
  norm.forward(x[0], tape);
  norm.forward(x[1], tape);
  norm.backward(x[1], tape);
  norm.forward(x[2], tape);
  norm.backward(x[2], tape);
  norm.backward(x[0], tape);
  EXPECT_EQ(norm.running_mean.value, in_order.running_mean.value);
  EXPECT_EQ(norm.running_var.value, in_order.running_var.value);
}

TEST(RunningStatistics, UpdatedFromForwardsAloneAsByBackward) {
  Random random(1);
  const auto x1 = normal<double>({5, 3}, 1), x2 = normal<double>({7, 3}, 2);
  Linear<double> linear({.in_features = 3, .out_features = 3}, random);
  Sequential<double> by_backward(Twice<double>{Sequential<double>(linear, BatchNorm<double>({.num_features = 3}))},
                                 BatchNorm<double>({.num_features = 3, .momentum = std::nullopt}));
  auto by_forward = by_backward;
  for (const auto& x : {x1, x2}) {
    Tape<double> tape(random);
    const auto y = by_backward.forward(x, tape);
    by_backward.backward(y, tape);
  }
  update_statistics(by_forward, std::vector<Tensor<double>>{x1, x2});
  expect_same(state<double>(by_forward), state<double>(by_backward));
  EXPECT_EQ(by_forward.named_buffers()[2].second->value(), 4);  // the shared norm was used twice a forward
  EXPECT_EQ(by_forward.named_buffers()[5].second->value(), 2);
}

TEST(RunningStatistics, OfAForwardThatIsNotRecordedAreNotFolded) {
  auto net = make<double>();
  const auto before = state<double>(net);
  Random random(1);
  Tape<double> tape(random, {.record = false});
  net.forward(SmallBatch<double>().images, tape);
  net(SmallBatch<double>().images);
  expect_same(state<double>(net), before);
}

// --- the same bits, and threads --------------------------------------------------------------------------------------

class AnyNumberOfThreads : public testing::Test {
 protected:
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = num_threads();
};

template <typename S>
struct Outcome {
  std::vector<double> losses;
  std::vector<Tensor<S>> gradients;
  std::vector<std::pair<std::string, Tensor<S>>> state;
};

template <typename S>
Outcome<S> train(Index images, int steps) {
  auto net = make<S>();
  auto optimizer = optimizer_of<S>(net);
  Outcome<S> outcome;
  for (int i = 0; i < steps; ++i) {
    outcome.losses.push_back(step(net, optimizer, SmallBatch<S>(images, static_cast<std::uint64_t>(i))));
    for (auto& g : all_gradients<S>(net)) outcome.gradients.push_back(g);
  }
  outcome.state = state<S>(net);
  return outcome;
}

template <typename S>
void check_training() {
  Outcome<S> first;
  for (int threads = 1; threads <= 3; ++threads) {
    set_num_threads(threads);
    auto outcome = train<S>(150, 3);
    if (threads == 1) first = outcome;
    EXPECT_EQ(outcome.losses, first.losses);
    expect_same(outcome.gradients, first.gradients);
    expect_same(outcome.state, first.state);
  }
}

TEST_F(AnyNumberOfThreads, TrainsToTheSameBits) {
  check_training<float>();
  check_training<double>();
}

TEST_F(AnyNumberOfThreads, LayersGiveTheSameBits) {
  Random random(1);
  const auto check = [&](Layer<float> layer, const Shape& shape) {
    const auto x = normal<float>(shape, 2);
    Tensor<float> y1, dx1;
    std::vector<Tensor<float>> gradients1;
    for (int threads = 1; threads <= 3; ++threads) {
      set_num_threads(threads);
      auto copy = layer;
      Tape<float> tape(random);
      const auto y = copy.forward(x, tape);
      const auto dx = copy.backward(normal<float>(y.shape(), 3), tape);
      if (threads == 1) {
        y1 = y;
        dx1 = dx;
        gradients1 = all_gradients<float>(copy);
      }
      EXPECT_TRUE(same_bits(y, y1));
      EXPECT_TRUE(same_bits(dx, dx1));
      expect_same(all_gradients<float>(copy), gradients1);
    }
  };
  check(Conv2d<float>({.in_channels = 32, .out_channels = 48, .kernel_size = 3, .stride = 2, .padding = 1}, random), {9, 30, 29, 32});
  check(Conv2d<float>({.in_channels = 12, .out_channels = 12, .kernel_size = 3, .groups = 12}, random), {9, 30, 29, 12});
  check(Linear<float>({.in_features = 301, .out_features = 403}, random), {517, 301});
  check(BatchNorm<float>({.num_features = 17}), {9, 40, 41, 17});
  check(ReLU<float>(), {9, 40, 41, 17});
  check(GlobalAvgPool2d<float>(), {9, 40, 41, 17});
}

TEST_F(AnyNumberOfThreads, OneConstNetworkPredictsInMany) {
  set_num_threads(2);
  const auto net = make<float>();
  std::vector<SmallBatch<float>> batches;
  std::vector<Tensor<float>> wanted;
  for (std::uint64_t i = 0; i < 4; ++i) {
    batches.emplace_back(3, i);
    wanted.push_back(net(batches.back().images));
  }
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) EXPECT_TRUE(same_bits(net(batches[i].images), wanted[i]));
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_F(AnyNumberOfThreads, CopiesTrainSideBySide) {
  set_num_threads(2);
  const auto start = make<float>();
  const auto run = [&](std::uint64_t seed) {
    auto net = start;  // shares the weights' memory with the other thread's copy, until the first step
    auto optimizer = optimizer_of<float>(net);
    for (int i = 0; i < 10; ++i) step(net, optimizer, SmallBatch<float>(4, seed));
    return state<float>(net);
  };
  const auto wanted1 = run(1), wanted2 = run(2);
  std::vector<std::pair<std::string, Tensor<float>>> got1, got2;
  std::thread other([&] { got2 = run(2); });
  got1 = run(1);
  other.join();
  expect_same(got1, wanted1);
  expect_same(got2, wanted2);
}

}  // namespace
