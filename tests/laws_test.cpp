// The laws every network keeps: a layer is a value, forward is const, who adds what, the same bits, errors that help.
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "small_net.hpp"

namespace {

using namespace residua;
using namespace small_net;

std::string message(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

template <typename S>
void expect_same(const std::vector<std::pair<std::string, Tensor<S>>>& a, const std::vector<std::pair<std::string, Tensor<S>>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_TRUE(same_bytes(a[i].second, b[i].second)) << a[i].first;
  }
}

template <typename S>
void expect_same(const std::vector<Tensor<S>>& a, const std::vector<Tensor<S>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bytes(a[i], b[i])) << i;
}

// --- a layer is a value ----------------------------------------------------------------------------------------------------

TEST(LayersAreValues, ACopyTrainsIndependently) {
  auto net = make<float>();
  auto copy = net;
  const auto before = state<float>(net);
  expect_same(state<float>(copy), before);
  auto optimizer = optimizer_of<float>(copy);
  const Batch<float> batch;
  for (int i = 0; i < 3; ++i) step(copy, optimizer, batch);
  expect_same(state<float>(net), before);
  for (const auto& gradient : all_gradients<float>(net)) EXPECT_TRUE(gradient.empty());
  EXPECT_NE(copy.get<Linear<float>>("fc").weight.value, net.get<Linear<float>>("fc").weight.value);
}

TEST(LayersAreValues, ACopyTrainsAsTheOriginalWould) {
  auto net = make<float>();
  auto copy = net;
  const Batch<float> batch;
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
  const Batch<float> batch;
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
  EXPECT_FALSE(same_bytes(net.get<Linear<float>>("fc").weight.value, best.get<Linear<float>>("fc").weight.value));
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
  step(net, optimizer, Batch<float>());
  EXPECT_FALSE(same_bytes(state<float>(net)[0].second, wanted[0].second));
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
  step(net, optimizer, Batch<float>());
  EXPECT_FALSE(same_bytes(state<float>(net)[0].second, before[0].second));
}

TEST(LayersAreValues, HandlesOutliveTheNetwork) {
  std::optional<Sequential<float>> net = make<float>();
  const auto before = state<float>(*net);
  gradients(*net, Batch<float>());
  const auto gradient = all_gradients<float>(*net);
  auto handles = net->parameters();
  auto optimizer = optimizer_of<float>(*net);
  net.reset();
  for (std::size_t i = 0; i < handles.size(); ++i) {
    EXPECT_TRUE(same_bytes(handles[i]->grad, gradient[i]));
  }
  EXPECT_TRUE(same_bytes(handles[0]->value, before[0].second));
  optimizer.step();
  EXPECT_FALSE(same_bytes(handles[0]->value, before[0].second));
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

// --- who adds what ---------------------------------------------------------------------------------------------------------

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
  EXPECT_TRUE(same_bytes(dx, apart.backward(dy, tape)));
  const auto sums = all_gradients<double>(shared), parts = all_gradients<double>(apart);
  EXPECT_TRUE(same_bytes(sums[0], detail::sum(parts[2], parts[0])));
  EXPECT_TRUE(same_bytes(sums[1], detail::sum(parts[3], parts[1])));
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
  const Batch<double> batch;
  gradients(net, batch);
  for (auto& p : other.parameters()) p->grad = Tensor<double>(p->value.shape(), 3);
  gradients(other, batch);
  for (std::size_t i = 0; i < net.parameters().size(); ++i) {
    const auto expected = net.parameters()[i]->grad.carray() + 3;
    EXPECT_LE((other.parameters()[i]->grad.carray() - expected).abs().maxCoeff(), 1e-12);
  }
}

TEST(Gradients, FrozenParametersGetNone) {
  auto net = make<double>(), free = net;
  const Batch<double> batch;
  gradients(free, batch);
  for (auto& [name, p] : net.named_parameters()) p->requires_grad = name.find("conv") == std::string::npos;
  gradients(net, batch);
  const auto handles = net.named_parameters();
  for (std::size_t i = 0; i < handles.size(); ++i) {
    const auto& [name, p] = handles[i];
    if (p->requires_grad) {
      EXPECT_TRUE(same_bytes(p->grad, free.parameters()[i]->grad)) << name;
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
  gradients(net, Batch<double>());
  const auto before = state<double>(net);
  const Batch<double> batch(3, 5);
  Random random(1);
  Tape<double> tape(random, {.mode = Mode::evaluate});
  EXPECT_EQ(net.forward(batch.images, tape), net(batch.images));
  net.backward(normal<double>({3, 5}, 4), tape);
  expect_same(state<double>(net), before);
}

// --- running statistics ----------------------------------------------------------------------------------------------------

TEST(RunningStatistics, MoveOnceForEachRecordedForwardInBackward) {
  BatchNorm<double> norm({.num_features = 2});
  Random random(1);
  Tape<double> tape(random);
  const auto x = normal<double>({6, 2}, 1);
  const auto y = norm.forward(x, tape);
  EXPECT_EQ(norm.running_mean.value, Tensor<double>(Shape{2}));
  norm.backward(y, tape);
  const Eigen::ArrayXd mean = x.cmatrix().colwise().mean().transpose();
  EXPECT_LE((norm.running_mean.value.carray() - 0.1 * mean).abs().maxCoeff(), 1e-15);
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
  const Batch<double> batches[3] = {Batch<double>(4, 1), Batch<double>(4, 2), Batch<double>(4, 3)};
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
  net.forward(Batch<double>().images, tape);
  net(Batch<double>().images);
  expect_same(state<double>(net), before);
}

// --- errors ----------------------------------------------------------------------------------------------------------------

struct Fuse {
  const bool* blows_forward;
  const bool* blows_backward;
  Tensor<float> forward(Tensor<float> x, Tape<float>& tape) const {
    tape.push(1);
    if (*blows_forward) tape.fail("Fuse", "blown");
    return x;
  }
  Tensor<float> backward(Tensor<float> dy, Tape<float>& tape) {
    tape.pop<int>();
    if (*blows_backward) tape.fail("Fuse", "blown");
    return dy;
  }
  static void visit(auto&, auto&&) {}
};

/// Its seventh layer is the fuse; norms stand on both sides of it.
Sequential<float> fused_net(const bool& blows_forward, const bool& blows_backward) {
  Random random(1);
  Sequential<float> net;
  for (int i = 1; i <= 9; ++i) {
    const std::string name = "layer" + std::to_string(i);
    if (i == 7) {
      net.add(name, Sequential<float>(Fuse{&blows_forward, &blows_backward}));
    } else if (i == 9) {
      net.add(name, GlobalAvgPool2d<float>());
    } else {
      net.add(name, block<float>(i == 1 ? 3 : 5, 5, 1, random));
    }
  }
  return net;
}

TEST(Errors, AForwardThatThrowsLeavesTheTapeAsItFoundIt) {
  bool blows = false;
  const bool never = false;
  auto net = fused_net(blows, never), other = net;
  const Batch<float> batch, second(4, 9);
  Random random(1);
  Tape<float> tape(random), clean(random);
  auto loss = cross_entropy(net.forward(batch.images, tape), batch.labels);
  other.forward(batch.images, clean);
  const auto before = state<float>(net);

  blows = true;
  EXPECT_EQ(message([&] { net.forward(second.images, tape); }), "layer7.0: blown");
  blows = false;
  expect_same(state<float>(net), before);
  EXPECT_EQ(tape.place("top"), "top");
  EXPECT_TRUE(same_bytes(net.backward(loss.gradient, tape), other.backward(loss.gradient, clean)));
  EXPECT_TRUE(tape.empty());
  expect_same(all_gradients<float>(net), all_gradients<float>(other));
  expect_same(state<float>(net), state<float>(other));
}

TEST(Errors, ABackwardThatThrowsLeavesValuesAndBuffers) {
  const bool never = false;
  bool blows = false;
  auto net = fused_net(never, blows), other = net;
  const Batch<float> batch;
  auto optimizer = optimizer_of<float>(net), other_optimizer = optimizer_of<float>(other);
  step(net, optimizer, batch);
  step(other, other_optimizer, batch);
  const auto before = state<float>(net);

  Random random(1);
  Tape<float> tape(random);
  const auto loss = cross_entropy(net.forward(batch.images, tape), batch.labels);
  blows = true;
  EXPECT_EQ(message([&] { net.backward(loss.gradient, tape); }), "layer7.0: blown");
  blows = false;
  expect_same(state<float>(net), before);
  EXPECT_FALSE(tape.empty());

  optimizer.zero_grad();
  tape.clear();
  const auto again = cross_entropy(net.forward(batch.images, tape), batch.labels);
  net.backward(again.gradient, tape);
  optimizer.step();
  step(other, other_optimizer, batch);
  expect_same(state<float>(net), state<float>(other));
}

TEST(Errors, NameTheLayersPath) {
  Random random(1);
  Sequential<float> inner, middle, net;
  inner.add("conv1", Conv2d<float>({.in_channels = 64, .out_channels = 64, .kernel_size = 3, .padding = 1}, random));
  inner.add("bn1", BatchNorm<float>({.num_features = 64}));
  middle.add("0", inner);
  net.add("layer2", middle);
  EXPECT_EQ(message([&] { net(Tensor<float>(Shape{8, 56, 56, 32})); }),
            "layer2.0.conv1: expected 64 input channels, got 32 (input is [8, 56, 56, 32])");
  EXPECT_EQ(message([&] { inner.get<Conv2d<float>>("conv1")(Tensor<float>(Shape{8, 56, 56, 32})); }),
            "Conv2d: expected 64 input channels, got 32 (input is [8, 56, 56, 32])");
}

TEST(Errors, OfBadInput) {
  Random random(1);
  const Conv2d<float> conv({.in_channels = 3, .out_channels = 4, .kernel_size = {3, 5}, .padding = 1}, random);
  EXPECT_EQ(message([&] { conv(Tensor<float>(Shape{8, 3})); }), "Conv2d: expected an input [N, H, W, C], got [8, 3]");
  EXPECT_EQ(message([&] { conv(Tensor<float>(Shape{0, 8, 8, 3})); }),
            "Conv2d: expected a batch that is not empty, got [0, 8, 8, 3]");
  EXPECT_EQ(message([&] { conv(Tensor<float>(Shape{1, 1, 2, 3})); }),
            "Conv2d: expected a padded input no smaller than the kernel, (3, 5), got (3, 4) (input is [1, 1, 2, 3])");
  EXPECT_EQ(conv(Tensor<float>(Shape{1, 1, 3, 3})).shape(), (Shape{1, 1, 1, 4}));

  const Linear<float> linear({.in_features = 3, .out_features = 4}, random);
  EXPECT_EQ(message([&] { linear(Tensor<float>(Shape{2, 5})); }), "Linear: expected 3 input features, got 5 (input is [2, 5])");
  EXPECT_THROW(linear(Tensor<float>(Shape{0, 3})), Error);
  EXPECT_THROW(linear(Tensor<float>(Shape{})), Error);

  const BatchNorm<float> norm({.num_features = 3});
  EXPECT_EQ(message([&] { norm(Tensor<float>(Shape{2, 5})); }), "BatchNorm: expected 3 input features, got 5 (input is [2, 5])");
  EXPECT_THROW(norm(Tensor<float>(Shape{3})), Error);
  EXPECT_THROW(norm(Tensor<float>(Shape{0, 3})), Error);
  Tape<float> training(random);
  EXPECT_EQ(message([&] { norm.forward(Tensor<float>(Shape{1, 3}), training); }),
            "BatchNorm: expected more than 1 value per channel when training, got input [1, 3]");
  EXPECT_TRUE(training.empty());

  EXPECT_THROW(GlobalAvgPool2d<float>()(Tensor<float>(Shape{2, 3})), Error);
  EXPECT_THROW(GlobalAvgPool2d<float>()(Tensor<float>(Shape{0, 4, 4, 3})), Error);
}

TEST(Errors, OfOptions) {
  Random random(1);
  const auto conv = [&](Conv2dOptions options) { return message([&] { Conv2d<float>(options, random); }); };
  const Conv2dOptions good{.in_channels = 4, .out_channels = 6, .kernel_size = 3};
  Conv2dOptions o = good;
  o.groups = 4;
  EXPECT_EQ(conv(o), "Conv2d: expected groups that divide in_channels and out_channels, got 4 for 4 and 6");
  o = good;
  o.stride = {1, 0};
  EXPECT_EQ(conv(o), "Conv2d: expected stride of at least 1, got (1, 0)");
  o.stride = -1;
  EXPECT_EQ(conv(o), "Conv2d: expected stride of at least 1, got (-1, -1)");
  o = good;
  o.in_channels = 0;
  EXPECT_EQ(conv(o), "Conv2d: expected in_channels of at least 1, got 0");
  o = good;
  o.kernel_size = 0;
  EXPECT_EQ(conv(o), "Conv2d: expected kernel_size of at least 1, got (0, 0)");
  o = good;
  o.padding = {0, -1};
  EXPECT_EQ(conv(o), "Conv2d: expected padding of at least 0, got (0, -1)");
  o = good;
  o.dilation = 0;
  EXPECT_EQ(conv(o), "Conv2d: expected dilation of at least 1, got (0, 0)");
  EXPECT_EQ(conv(good), "no error");
  EXPECT_THROW(Linear<float>({.in_features = 0, .out_features = 1}, random), Error);
  EXPECT_THROW(Linear<float>({.in_features = 1, .out_features = -1}, random), Error);
  EXPECT_THROW(BatchNorm<float>({.num_features = 0}), Error);
  EXPECT_THROW(BatchNorm<float>({.num_features = 1, .eps = std::nan("")}), Error);
  EXPECT_THROW(BatchNorm<float>({.num_features = 1, .momentum = 1.5}), Error);

  Sequential<float> net{ReLU<float>()};
  EXPECT_EQ(message([&] { net.add("0", ReLU<float>()); }), "Sequential: expected a name that is not taken, got '0'");
  EXPECT_EQ(message([&] { net.add("a.b", ReLU<float>()); }), "Sequential: expected a name without dots, got 'a.b'");
  EXPECT_THROW(net[1], Error);
  EXPECT_THROW(net[-1], Error);
  EXPECT_EQ(net.size(), 1);
}

TEST(Errors, OfAResidualWhosePartsDisagree) {
  Random random(1);
  Residual<float> residual(Conv2d<float>({.in_channels = 3, .out_channels = 3, .kernel_size = 3}, random));
  Tape<float> tape(random);
  EXPECT_EQ(message([&] { residual.forward(Tensor<float>(Shape{1, 5, 5, 3}), tape); }),
            "Residual: expected branch and shortcut to give the same shape, got [1, 3, 3, 3] and [1, 5, 5, 3]");
  EXPECT_TRUE(tape.empty());
}

TEST(Errors, OfBackwardOutOfOrder) {
  auto net = make<float>();
  const Batch<float> batch;
  Random random(1);
  Tape<float> tape(random), other(random);
  const auto loss = cross_entropy(net.forward(batch.images, tape), batch.labels);
  const auto before = state<float>(net);
  const std::string empty = "fc: expected a recorded forward before backward, got an empty tape";
  const std::string strange = ": expected to find on the tape what this layer's forward pushed, got what another one pushed";

  EXPECT_EQ(message([&] { net.backward(loss.gradient, other); }), empty);
  EXPECT_EQ(message([&] { residua::backward(net[0], "stem", Tensor<float>(batch.images.shape()), tape); }), "stem.bn" + strange);
  expect_same(state<float>(net), before);
  net.backward(loss.gradient, tape);
  EXPECT_EQ(message([&] { net.backward(loss.gradient, tape); }), empty);

  Sequential<float> renamed;
  renamed.add("head", net[net.size() - 1]);
  Tape<float> third(random);
  net.forward(batch.images, third);
  EXPECT_EQ(message([&] { renamed.backward(loss.gradient, third); }), "head" + strange);
  EXPECT_EQ(message([&] { net.backward(Tensor<float>(Shape{2, 5}), third); }),
            "fc: expected an output gradient of shape [6, 5], got [2, 5]");
}

TEST(Errors, NaNPassesThrough) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Random random(1);
  Tape<float> tape(random);
  ReLU<float> relu;
  const std::vector<float> values{nan, -1, 2, 0};
  const auto y = relu.forward(Tensor<float>(Shape{4}, values), tape);
  EXPECT_TRUE(std::isnan(y(0)));
  EXPECT_EQ(y(1), 0);
  EXPECT_EQ(y(2), 2);
  const auto dx = relu.backward(Tensor<float>(Shape{4}, 1.0f), tape);
  EXPECT_EQ(dx, Tensor<float>(Shape{4}, std::vector<float>{1, 0, 1, 0}));  // as PyTorch has it

  auto net = make<float>();
  Batch<float> batch;
  batch.images(2, 3, 3, 1) = nan;
  EXPECT_TRUE(net(batch.images).cmatrix().row(2).array().isNaN().all());
  EXPECT_FALSE(net(batch.images).cmatrix().row(1).array().isNaN().any());
}

// --- the same bits, and threads ----------------------------------------------------------------------------------------------

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
    outcome.losses.push_back(step(net, optimizer, Batch<S>(images, static_cast<std::uint64_t>(i))));
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
      EXPECT_TRUE(same_bytes(y, y1));
      EXPECT_TRUE(same_bytes(dx, dx1));
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
  std::vector<Batch<float>> batches;
  std::vector<Tensor<float>> wanted;
  for (std::uint64_t i = 0; i < 4; ++i) {
    batches.emplace_back(3, i);
    wanted.push_back(net(batches.back().images));
  }
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 20; ++round) EXPECT_TRUE(same_bytes(net(batches[i].images), wanted[i]));
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
    for (int i = 0; i < 10; ++i) step(net, optimizer, Batch<float>(4, seed));
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
