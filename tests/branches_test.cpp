// What models are made of beside residual blocks: Concat, Trunk, LayerScale, ReLU6, Rescale.
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/residua.hpp>

#include "errors.hpp"
#include "golden.hpp"
#include "layer_steps.hpp"
#include "tensors.hpp"

using namespace residua;

namespace {

template <typename S>
Conv2d<S> conv(Index in, Index out, Index kernel, bool bias = true) {
  Random random(static_cast<std::uint64_t>(100 * in + 10 * out + kernel));
  return Conv2d<S>({.in_channels = in, .out_channels = out, .kernel_size = kernel, .padding = kernel / 2, .bias = bias},
                   random);
}

/// conv–bn–relu, called 0, 1, 2.
template <typename S>
Sequential<S> conv_norm_relu(Index in, Index out, Index kernel) {
  return Sequential<S>(conv<S>(in, out, kernel, false), BatchNorm<S>({.num_features = out}), ReLU<S>());
}

template <typename S>
Concat<S> inception() {
  Concat<S> module;
  module.add("branch1", conv<S>(3, 4, 1));
  module.add("branch2", conv_norm_relu<S>(3, 2, 1).add(conv<S>(2, 5, 3)));
  module.add("branch3", MaxPool2d<S>({.kernel_size = 3, .stride = 1, .padding = 1}));
  return module;
}

/// y = [x, f(x)], three times.
template <typename S>
Sequential<S> dense() {
  Sequential<S> block;
  for (Index channels : {3, 5, 7}) {
    Concat<S> layer;
    layer.add("same", Identity<S>());
    layer.add("new", Sequential<S>(BatchNorm<S>({.num_features = channels}), ReLU<S>(), conv<S>(channels, 2, 3)));
    block.add(layer);
  }
  return block;
}

/// A chain with a head behind its first layer, and what comes out of its second as it is.
template <typename S>
Trunk<S> trunk() {
  Trunk<S> net;
  net.add("first", conv_norm_relu<S>(3, 4, 3)).add("second", conv<S>(4, 5, 1));
  Random random(1);
  net.add_head("head", Conv2d<S>({.in_channels = 4, .out_channels = 2, .kernel_size = 3}, random), "first");
  net.add("third", Sequential<S>(Tanh<S>(), conv<S>(5, 3, 1)));
  net.add_head("raw", Identity<S>(), "second");
  return net;
}

std::string names(auto& net) {
  std::string all;
  for (auto& [name, handle] : net.named_parameters()) all += name + ' ';
  return all;
}

/// Weights and statistics as after some training.
template <typename Net>
void age(Net& net) {
  using S = typename Net::Scalar;
  Random random(11);
  for (auto& p : net.parameters()) p->value.array() += init::normal<S>(p->value.shape(), 0, 0.2, random).carray();
  for (auto& [path, b] : net.named_buffers()) {
    b->value.array() += init::uniform<S>(b->value.shape(), 0, 0.5, random).carray();
  }
}

template <typename S>
double difference(const Tensor<S>& a, const Tensor<S>& b) {
  EXPECT_EQ(a.shape(), b.shape());
  return static_cast<double>(largest(a.carray() - b.carray()));
}

// --- beside PyTorch ----------------------------------------------------------------------------------------------------

template <typename S> class Branches : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Branches, Scalars);

TYPED_TEST(Branches, ComputeWhatPyTorchDoes) {
  using S = TypeParam;
  golden::Cases<S> relu6("models", "relu6/"), concat("models", "concat/"), scale("models", "layer_scale");
  for (const char* name : {"image", "edges", "nan"}) relu6.check(name, ReLU6<S>());
  concat.check("one", Concat<S>().add("branch", conv<S>(3, 4, 1)));
  concat.check("inception", inception<S>());
  concat.check("dense", dense<S>());
  Random random(1);
  concat.check("features", Concat<S>().add("a", Linear<S>({.in_features = 4, .out_features = 3}, random))
                                      .add("b", Identity<S>()));
  scale.check("", LayerScale<S>({.num_features = 4}, conv<S>(3, 4, 1)));
}

TYPED_TEST(Branches, OfATrunkComputeWhatPyTorchDoes) {
  using S = TypeParam;
  golden::Cases<S> cases("models", "trunk");
  cases.begin("");
  Trunk<S> net = trunk<S>();
  cases.start(net);
  Random random(1);
  Tape<S> tape(random);
  const auto in = [&](const char* name) { return cases.at(name).template cast<S>(); };
  const auto outputs = net.forward_all(in("x"), tape);
  ASSERT_EQ(outputs.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) cases.compare("y" + std::to_string(i), outputs[i], golden::for_outputs<S>);
  cases.compare("dx", net.backward_all({in("dy0"), in("dy1"), in("dy2")}, tape), golden::for_gradients<S>);
  EXPECT_TRUE(tape.empty());
  cases.finish(net);
}

// --- gradients ---------------------------------------------------------------------------------------------------------

/// All outputs of a trunk, as gradient_check wants them.
struct AllOutputs {
  Trunk<double> net;
  std::tuple<Tensor<double>, Tensor<double>, Tensor<double>> forward(Tensor<double> x, Tape<double>& tape) const {
    auto y = net.forward_all(std::move(x), tape);
    return {y[0], y[1], y[2]};
  }
  Tensor<double> backward(Tensor<double> a, Tensor<double> b, Tensor<double> c, Tape<double>& tape) {
    return net.backward_all({std::move(a), std::move(b), std::move(c)}, tape);
  }
  static void visit(auto& self, auto&& v) { v("", self.net); }
};

TEST(Branches, GradientsAreDifferenceQuotients) {
  const auto check = [](auto layer, const Shape& shape, const std::string& name) {
    for (Mode mode : {Mode::train, Mode::evaluate}) {
      const GradientReport report = gradient_check(layer, normal<double>(shape), {.mode = mode});
      EXPECT_TRUE(report.passed()) << name << ": " << report;
    }
  };
  for (const Shape& shape : {Shape{2, 5, 4, 3}, Shape{1, 4, 6, 3}}) {
    check(inception<double>(), shape, "concat");
    check(dense<double>(), shape, "dense");
    check(trunk<double>(), shape, "trunk, main output");
    check(AllOutputs{trunk<double>()}, shape, "trunk");
    LayerScale<double> scale({.num_features = 4, .init_value = 0.5}, conv<double>(3, 4, 1));
    age(scale);
    check(scale, shape, "layer scale");
    scale.layer_scale.requires_grad = false;
    check(scale, shape, "layer scale, frozen");
    check(Rescale<double>({.scale = {1, -2, 0.5}, .shift = {0, 1, 3}}), shape, "rescale");
    check(ReLU6<double>(), shape, "ReLU6");
  }
}

TEST(Branches, ComputeNoGradientsThatNobodyWants) {
  const auto check = [](auto layer) {
    auto with = layer, without = layer;
    const auto x = normal<double>(Shape{2, 4, 5, 3});
    const auto [y, dx] = step(with, x);
    const auto [y2, nothing] = step(without, x, {.input_gradient = false});
    EXPECT_EQ(dx.shape(), x.shape());
    EXPECT_TRUE(nothing.empty());
    const auto a = with.parameters(), b = without.parameters();
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i]->grad, b[i]->grad)) << i;

    auto frozen = layer;
    for (auto& p : frozen.parameters()) p->requires_grad = false;
    EXPECT_TRUE(step(frozen, x, {.input_gradient = false}).second.empty());
    for (auto& p : frozen.parameters()) EXPECT_TRUE(p->grad.empty());
  };
  check(inception<double>());
  check(dense<double>());
  check(trunk<double>());
  check(LayerScale<double>({.num_features = 4}, conv<double>(3, 4, 1)));
}

TEST(Branches, OfATrunkMayBeFrozen) {
  Trunk<double> net = trunk<double>();
  for (auto& [name, p] : net.named_parameters()) p->requires_grad = name.starts_with("head");
  Random random(1);
  Tape<double> tape(random, {.input_gradient = false});
  auto outputs = net.forward_all(normal<double>(Shape{2, 4, 5, 3}), tape);
  EXPECT_TRUE(net.backward_all(outputs, tape).empty());
  EXPECT_TRUE(tape.empty());
  for (auto& [name, p] : net.named_parameters()) EXPECT_EQ(p->grad.empty(), !name.starts_with("head")) << name;
}

TEST(Branches, GiveTheSameBitsForAnyThreads) {
  const auto x = normal<float>(Shape{3, 40, 41, 3});
  expect_same_bits_for_any_threads(inception<float>(), x);
  expect_same_bits_for_any_threads(dense<float>(), x);
  expect_same_bits_for_any_threads(trunk<float>(), x);
  expect_same_bits_for_any_threads(LayerScale<float>({.num_features = 4}, conv<float>(3, 4, 1)), x);
  expect_same_bits_for_any_threads(Rescale<float>({.scale = {1, 2, 3}, .shift = {4, 5, 6}}), x);
}

// --- values ------------------------------------------------------------------------------------------------------------

TEST(Branches, AreNamedInTheOrderOfAdding) {
  auto module = inception<float>();
  EXPECT_EQ(names(module), "branch1.weight branch1.bias branch2.0.weight branch2.1.weight branch2.1.bias "
                           "branch2.3.weight branch2.3.bias ");
  auto net = trunk<float>();
  EXPECT_EQ(names(net), "first.0.weight first.1.weight first.1.bias second.weight second.bias head.weight "
                        "head.bias third.1.weight third.1.bias ");
  Concat<float> flat;
  flat.add("", Sequential<float>().add("a_1", conv<float>(1, 1, 1)).add("a_2", conv<float>(1, 1, 1)));
  flat.add("", Sequential<float>().add("b_1", conv<float>(1, 1, 1)));
  EXPECT_EQ(names(flat), "a_1.weight a_1.bias a_2.weight a_2.bias b_1.weight b_1.bias ");
  LayerScale<float> scale({.num_features = 1}, conv<float>(1, 1, 1));
  EXPECT_EQ(names(scale), "layer_scale block.weight block.bias ");
}

TEST(Branches, AreCopiedAndAssigned) {
  const auto check = [](auto net) {
    age(net);
    const auto x = normal<double>(Shape{2, 4, 5, 3});
    auto copy = net;
    for (auto& p : copy.parameters()) p->value.array() += 1.0;
    EXPECT_NE(copy(x), net(x));
    const auto handle = copy.parameters()[0];
    copy = net;
    EXPECT_EQ(copy(x), net(x));
    EXPECT_TRUE(handle == copy.parameters()[0]);
  };
  check(inception<double>());
  check(trunk<double>());
  check(LayerScale<double>({.num_features = 4}, conv<double>(3, 4, 1)));
  Trunk<double> other;
  other.add("one", conv<double>(3, 3, 1));
  other = trunk<double>();
  Tape<double> tape;
  EXPECT_EQ(other.forward_all(Tensor<double>(Shape{1, 3, 3, 3}), tape).size(), 3u);
}

TEST(Branches, AreConvertedAndMadeForInference) {
  const auto check = [](auto net) {
    age(net);
    const auto x = normal<double>(Shape{2, 4, 5, 3});
    EXPECT_LT(difference(inference(net)(x), net(x)), 1e-13);
    EXPECT_LT(difference(convert<double>(convert<float>(net))(x), net(x)), 1e-4);
  };
  check(inception<double>());
  check(dense<double>());
  check(trunk<double>());
  check(LayerScale<double>({.num_features = 4}, conv<double>(3, 4, 1)));
  check(LayerScale<double>({.num_features = 3}, Tanh<double>()));
  check(Sequential<double>(Rescale<double>({.scale = {1, 2, 3}, .shift = {4, 5, 6}}), ReLU6<double>()));
  Trunk<float> converted = convert<float>(trunk<double>());
  Tape<float> tape;
  EXPECT_EQ(converted.forward_all(Tensor<float>(Shape{1, 3, 3, 3}), tape).size(), 3u);

  Sequential<double> net(inception<double>());
  const Summary table = summary(inference(net), {1, 4, 4, 3});
  EXPECT_EQ(table.rows.size(), 4u) << table;  // three convolutions and the pool: norm and ReLU are folded in
  EXPECT_EQ(table.multiply_adds, summary(net, {1, 4, 4, 3}).multiply_adds);
}

TEST(Branches, OfATrunkRunWhereAsked) {
  const Trunk<float> net = trunk<float>();
  std::vector<std::string> seen;
  Tape<float> tape;
  tape.observe([&](const Observation<float>& o) {
    if (o.path.find('.') == std::string::npos) seen.push_back(o.path);
  });
  const auto x = normal<float>(Shape{1, 4, 4, 3});
  const auto y = net.forward(x, tape);
  EXPECT_EQ(seen, (std::vector<std::string>{"first", "second", "third"}));
  seen.clear();
  EXPECT_EQ(net.forward_all(x, tape)[0], y);
  EXPECT_EQ(seen, (std::vector<std::string>{"first", "head", "second", "raw", "third"}));
}

// --- errors ------------------------------------------------------------------------------------------------------------

TEST(Branches, RefuseWhatDoesNotFit) {
  Concat<float> none, uneven;
  EXPECT_EQ(message([&] { none(Tensor<float>(Shape{1, 2})); }), "Concat: expected at least 1 branch, got 0");
  uneven.add("a", MaxPool2d<float>({.kernel_size = 2})).add("b", Identity<float>());
  EXPECT_EQ(message([&] { uneven(Tensor<float>(Shape{1, 4, 4, 3})); }),
            "Concat: expected branches that agree in all axes but the last, got [1, 2, 2, 3] and [1, 4, 4, 3]");
  EXPECT_EQ(message([&] { uneven.add("a", ReLU<float>()); }), "Concat: expected a name that is not taken, got 'a'");

  Trunk<float> net;
  EXPECT_EQ(message([&] { net.add_head("head", ReLU<float>()); }), "Trunk: expected a layer to add a head to, got none");
  net.add("one", ReLU<float>());
  EXPECT_EQ(message([&] { net.add_head("head", ReLU<float>(), "two"); }),
            "Trunk: there is no layer named 'two' to add a head to");
  net.add_head("head", ReLU<float>());
  EXPECT_EQ(message([&] { net.add_head("more", ReLU<float>(), "head"); }),
            "Trunk: there is no layer named 'head' to add a head to");
  Random random(1);
  Tape<float> tape(random);
  const auto outputs = net.forward_all(Tensor<float>(Shape{2, 2}), tape);
  EXPECT_EQ(message([&] { net.backward_all({outputs[0]}, tape); }), "Trunk: expected 2 output gradients, got 1");
  EXPECT_EQ(net.backward_all(outputs, tape).shape(), (Shape{2, 2}));

  EXPECT_EQ(message([] { LayerScale<float>({.num_features = 0}, ReLU<float>()); }),
            "LayerScale: expected num_features of at least 1, got 0");
  EXPECT_EQ(message([] { LayerScale<float>({.num_features = 2}, ReLU<float>())(Tensor<float>(Shape{1, 3})); }),
            "LayerScale: expected 2 input features, got 3 (input is [1, 3])");
  EXPECT_EQ(message([] { Rescale<float>({.scale = {1, 2}, .shift = {1}}); }),
            "Rescale: expected a scale and a shift for each feature, got 2 and 1");
  EXPECT_EQ(message([&] { init::truncated_normal<float>(Shape{2}, 1, 0.5, random); }),
            "truncated_normal: expected a bound of at least 1, got 0.5");
}

TEST(Branches, LeaveTheTapeAsItWasWhenTheyThrow) {
  const auto check = [](auto layer, const Shape& shape) {
    Random random(1);
    Tape<float> tape(random);
    EXPECT_NE(message([&] { layer.forward(Tensor<float>(shape), tape); }), "");
    EXPECT_TRUE(tape.empty());
    EXPECT_TRUE(tape.input_gradient());
  };
  Concat<float> uneven;
  uneven.add("a", conv<float>(3, 2, 3)).add("b", MaxPool2d<float>({.kernel_size = 2}));
  check(uneven, {1, 4, 4, 3});
  Trunk<float> net = trunk<float>();
  net.add("last", conv<float>(9, 1, 1));
  check(net, {1, 4, 4, 3});
  check(LayerScale<float>({.num_features = 3}, conv<float>(3, 4, 1)), {1, 4, 4, 3});

  Concat<float> module = inception<float>();
  Random random(1);
  Tape<float> tape(random);
  module.forward(normal<float>(Shape{1, 4, 4, 3}), tape);
  EXPECT_EQ(message([&] { module.backward(Tensor<float>(Shape{1, 4, 4, 11}), tape); }),
            "Concat: expected an output gradient of shape [1, 4, 4, 12], got [1, 4, 4, 11]");
}

TEST(Visit, CallsForEachLayerOfAType) {
  auto net = trunk<float>();
  Index channels = 0;
  for_each_layer<Conv2d<float>>(net, [&](Conv2d<float>& layer) { channels += layer.options.out_channels; });
  EXPECT_EQ(channels, 4 + 5 + 2 + 3);
  for_each_layer<BatchNorm<float>>(net, [](BatchNorm<float>& norm) { norm.options.frozen = true; });
  EXPECT_TRUE(net.get<BatchNorm<float>>("first.1").options.frozen);
}

}  // namespace
