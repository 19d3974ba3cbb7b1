// Each family of models with few blocks and few channels: gradients, options, how weights are drawn, what is refused.
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

#include <residua/models/by_name.hpp>
#include <residua/train/gradient_check.hpp>

#include "errors.hpp"
#include "tensors.hpp"

using namespace residua;

namespace {

/// Weights and statistics as after some training, and no dead ReLU.
template <typename Net>
void age(Net& net) {
  using S = typename Net::Scalar;
  Random random(11);
  for (auto& p : net.parameters()) p->value.array() += init::normal<S>(p->value.shape(), 0, 0.3, random).carray();
  for (auto& [path, b] : net.named_buffers()) {
    b->value.array() += init::uniform<S>(b->value.shape(), 0, 0.5, random).carray();
  }
}

/// All parameters are checked, or those whose name ends so. The deeper a network, the more kinks are within a step.
template <typename Net>
void check_gradients(Net net, const Shape& shape, const std::string& end = "", double step = 1e-5) {
  age(net);
  for (auto& [name, p] : net.named_parameters()) p->requires_grad = name.ends_with(end);
  for (Mode mode : {Mode::train, Mode::evaluate}) {
    const GradientReport report = gradient_check(net, normal<double>(shape), {.mode = mode, .step = step});
    EXPECT_TRUE(report.passed()) << report;
  }
}

Random rng(3);

TEST(TinyModels, ResNetsHaveGradients) {
  check_gradients(resnet<double>({.bottleneck = false, .blocks = {1, 1, 1, 1}, .channels = 1}, {.num_classes = 3}, rng),
                  {3, 10, 12, 3});
  check_gradients(resnet<double>({.bottleneck = true, .blocks = {1, 0, 1, 0}, .channels = 2},
                                 {.num_classes = 3, .groups = 2, .norm = norm::group}, rng),
                  {2, 18, 15, 3});
}

TEST(TinyModels, CifarResNetsHaveGradients) {
  const CifarResNetOptions<double> tiny{.num_classes = 3, .channels = 2};
  auto pre = tiny, deep = tiny, b = tiny;
  pre.order = deep.order = Order::pre_activation;
  deep.bottleneck = true;
  deep.shortcut = b.shortcut = Shortcut::projection;
  check_gradients(cifar_resnet<double>(8, tiny, rng), {2, 7, 6, 3});
  check_gradients(cifar_resnet<double>(8, b, rng), {2, 7, 6, 3});
  check_gradients(cifar_resnet<double>(8, pre, rng), {2, 7, 6, 3});
  check_gradients(cifar_resnet<double>(11, deep, rng), {2, 7, 6, 3});
}

TEST(TinyModels, MobileNetsHaveGradients) {
  const auto net = mobilenet_v2<double>({.num_classes = 2, .width_mult = 0.1,
                                         .inverted_residual_setting = {{1, 16, 1, 1}, {2, 24, 2, 2}}, .round_nearest = 1}, rng);
  check_gradients(net, {2, 9, 10, 3}, "classifier.1.bias");
  auto features = net.get<Sequential<double>>("features");
  features.pop_back();  // 1,280 channels, whatever the width
  check_gradients(features, {2, 9, 10, 3});
}

TEST(TinyModels, DenseNetsHaveGradients) {
  check_gradients(densenet<double>({.growth_rate = 2, .block_config = {2, 3}, .num_init_features = 4, .bn_size = 2,
                                    .drop_rate = 0.3, .num_classes = 3}, rng),
                  {2, 21, 19, 3});
}

TEST(TinyModels, InceptionModulesHaveGradients) {
  const Shape x{2, 7, 6, 3};
  check_gradients(detail::inception_module<double>({3, 2, 2, 3, 1, 2, 2}), x);
  const detail::InceptionModules<double> few(1. / 32), fewer(1. / 96);
  check_gradients(few.a(3, 32), x);
  check_gradients(few.b(3), x);
  check_gradients(fewer.c(3, 96), x);
  check_gradients(fewer.d(3), x);
  check_gradients(fewer.e(3), x);
}

/// All outputs of a network with two heads, as gradient_check wants them.
struct AllOutputs : Network<AllOutputs, double> {
  Trunk<double> net;
  explicit AllOutputs(Trunk<double> of) : net(std::move(of)) {}

  std::tuple<Tensor<double>, Tensor<double>, Tensor<double>> forward(Tensor<double> x, Tape<double>& tape) const {
    auto y = net.forward_all(std::move(x), tape);
    return {y.at(0), y.at(1), y.at(2)};
  }
  Tensor<double> backward(Tensor<double> a, Tensor<double> b, Tensor<double> c, Tape<double>& tape) {
    return net.backward_all({std::move(a), std::move(b), std::move(c)}, tape);
  }
  static void visit(auto& self, auto&& v) { v("", self.net); }
};

TEST(TinyModels, ModelsWithHeadsHaveGradients) {
  auto net = googlenet<double>({.num_classes = 2, .transform_input = true, .width_mult = 1. / 16}, rng);
  check_gradients(AllOutputs{net}, {2, 17, 17, 3}, ".branch1.bn.bias", 1e-6);
  check_gradients(detail::InceptionModules<double>(1. / 64).head(3, 2, rng), {2, 17, 19, 3});
}

TEST(TinyModels, ConvNeXtsHaveGradients) {
  check_gradients(convnext<double>({{4, 1}, {6, 1}}, {.num_classes = 2, .stochastic_depth_prob = 0.4, .layer_scale = 0.5}, rng),
                  {2, 12, 9, 3});
}

TEST(TinyModels, XceptionsHaveGradients) {
  const Shape x{2, 5, 6, 3};
  check_gradients(detail::xception_block<double>({.in = 3, .out = 4, .repetitions = 2, .stride = 2, .start_with_relu = false}), x);
  check_gradients(detail::xception_block<double>({.in = 3, .out = 4, .repetitions = 2, .stride = 2, .grow_first = false}), x);
  check_gradients(detail::xception_block<double>({.in = 3, .out = 3, .repetitions = 3, .stride = 1}), x);
}

// --- options -----------------------------------------------------------------------------------------------------------

Index count(auto net) {
  Index sum = 0;
  for (const auto& p : net.parameters()) sum += p->value.size();
  return sum;
}

TEST(Models, HaveTheOptionsOfTorchvision) {
  Random none = Random::none();
  EXPECT_EQ(count(resnet18<float>({.num_classes = 10}, none)), 11689512 - 990 * 513);
  EXPECT_EQ(count(resnet18<float>({.norm = norm::none}, none)), 11689512 - 4800);  // a bias instead of weight and bias
  EXPECT_EQ(count(mobilenet_v2<float>({.width_mult = 0.5}, none)), 1968680);
  EXPECT_EQ(count(mobilenet_v2<float>({.width_mult = 1.4}, none)), 6108776);
  EXPECT_EQ(count(googlenet<float>({.aux_logits = false}, none)), 6624904);
  EXPECT_EQ(count(inception_v3<float>({.aux_logits = false}, none)), 23834568);
  EXPECT_EQ(count(densenet<float>({.growth_rate = 48, .block_config = {6, 12, 36, 24}, .num_init_features = 96}, none)),
            28681000);
  EXPECT_EQ(count(convnext<float>({{96, 3}, {192, 3}, {384, 27}, {768, 3}}, {}, none)), 50223688);
}

TEST(Models, ZeroInitialisedBranchesAreIdentities) {
  auto net = resnet<double>({.bottleneck = true, .blocks = {2, 1, 1, 1}, .channels = 4}, {.zero_init_residual = true}, rng);
  auto& block = net.get<Bottleneck<double>>("layer1.1");
  Tensor<double> x = normal<double>(Shape{2, 5, 5, 16});
  x.array() = x.carray().abs();
  EXPECT_EQ(block(x), x);
}

TEST(Models, TransformTheirInput) {
  Random a(1), b(1);
  const auto plain = googlenet<double>({.width_mult = 1. / 16}, a);
  const auto transforming = googlenet<double>({.transform_input = true, .width_mult = 1. / 16}, b);
  const auto x = normal<double>(Shape{1, 32, 32, 3});
  Tensor<double> y = x;
  const double scale[] = {0.458, 0.448, 0.45}, shift[] = {-0.03, -0.088, -0.188};
  for (Index i = 0; i < y.size(); ++i) y.data()[i] = y.data()[i] * scale[i % 3] + shift[i % 3];
  EXPECT_LT(largest(transforming(x).carray() - plain(y).carray()), 1e-12);
}

// --- how weights are drawn -----------------------------------------------------------------------------------------------

/// The mean square of n normal weights is off by a share of about √(2/n): five times that is no chance.
template <typename L, typename Net>
void expect_mean_square(Net& net, const std::string& path, double expected) {
  const auto weights = net.template get<L>(path).weight.value.carray().template cast<double>();
  const double got = weights.square().mean();
  EXPECT_NEAR(got / expected, 1, 5 * std::sqrt(2 / static_cast<double>(weights.size()))) << path << ": " << got;
}

TEST(Models, DrawTheirWeightsAsTorchvision) {
  using Conv = Conv2d<float>;
  using Map = Linear<float>;
  rng = Random(3);
  auto residual = resnet18<float>({}, rng);
  expect_mean_square<Conv>(residual, "layer4.0.conv1", 2. / (512 * 9));
  expect_mean_square<Map>(residual, "fc", 1. / (3 * 512));
  auto mobile = mobilenet_v2<float>({}, rng);
  expect_mean_square<Conv>(mobile, "features.17.conv.1.0", 2. / (960 * 9));
  expect_mean_square<Map>(mobile, "classifier.1", 1e-4);
  auto dense = densenet121<float>({}, rng);
  expect_mean_square<Conv>(dense, "features.denseblock4.denselayer1.conv1", 2. / 512);
  auto google = googlenet<float>({.width_mult = 0.5}, rng);
  expect_mean_square<Conv>(google, "inception5b.branch1.conv", 1e-4);
  expect_mean_square<Map>(google, "aux2.fc1", 1e-4);
  auto inception = inception_v3<float>({.width_mult = 0.25}, rng);
  expect_mean_square<Conv>(inception, "Mixed_7c.branch1x1.conv", 1e-2);
  expect_mean_square<Conv>(inception, "AuxLogits.conv1.conv", 1e-4);
  expect_mean_square<Map>(inception, "AuxLogits.fc", 1e-6);
  auto next = convnext<float>({{64, 1}, {96, 1}}, {}, rng);
  expect_mean_square<Map>(next, "features.3.0.block.3", 4e-4);
  EXPECT_EQ(next.get<LayerScale<float>>("features.3.0").layer_scale.value(0, 0, 5), 1e-6f);
  EXPECT_EQ(next.get<Map>("classifier.2").bias.value, Tensor<float>(Shape{1000}));
  auto small = cifar_resnet56<float>({}, rng);
  expect_mean_square<Conv>(small, "layer3.0.conv1", 2. / (32 * 9));
  expect_mean_square<Map>(small, "linear", 2. / 64);
}

TEST(Models, OfTheSameSeedAreTheSame) {
  Random a(5), b(5), none = Random::none();
  auto x = inception_v3<float>({.width_mult = 1. / 16}, a), y = inception_v3<float>({.width_mult = 1. / 16}, b);
  const auto p = x.parameters(), q = y.parameters();
  for (std::size_t i = 0; i < p.size(); ++i) EXPECT_TRUE(same_bits(p[i]->value, q[i]->value)) << i;
  auto empty = inception_v3<float>({.width_mult = 1. / 16}, none);
  for (auto& [name, parameter] : empty.named_parameters()) {
    if (name.find("bn") != std::string::npos) continue;
    EXPECT_EQ(largest(parameter->value.carray()), 0) << name;
  }
}

// --- errors --------------------------------------------------------------------------------------------------------------

TEST(Models, RefuseWhatDoesNotFit) {
  EXPECT_EQ(message([] { cifar_resnet<float>(21, {}, rng); }),
            "cifar_resnet: expected a depth of 6n + 2 layers, n at least 1, got 21");
  EXPECT_EQ(message([] { cifar_resnet<float>(21, {.bottleneck = true}, rng); }),
            "cifar_resnet: expected a depth of 9n + 2 layers, n at least 1, got 21");
  EXPECT_EQ(message([] { cifar_resnet<float>(2, {}, rng); }),
            "cifar_resnet: expected a depth of 6n + 2 layers, n at least 1, got 2");
  EXPECT_EQ(message([] { resnet18<float>({.groups = 2}, rng); }),
            "resnet: expected groups 1 and width_per_group 64 without bottlenecks, got 2 and 64");
  EXPECT_EQ(message([] { mobilenet_v2<float>({.width_mult = 0}, rng); }),
            "mobilenet_v2: expected a positive width_mult, got 0");
  EXPECT_EQ(message([] { googlenet<float>({.width_mult = NAN}, rng); }), "googlenet: expected a positive width_mult, got nan");
  EXPECT_EQ(message([] { xception<float>({.width_mult = 0.01}, rng); }), "Conv2d: expected out_channels of at least 1, got 0");
  EXPECT_EQ(message([] { convnext<float>({}, {}, rng); }), "convnext: expected at least 1 stage, got 0");
  EXPECT_EQ(message([] { convnext_tiny<float>({.stochastic_depth_prob = 2}, rng); }),
            "DropPath: expected p between 0 and 1, got 1.05882");
  EXPECT_EQ(message([] { resnet18<float>({}, rng)(Tensor<float>(Shape{1, 32, 32, 4})); }),
            "conv1: expected 3 input channels, got 4 (input is [1, 32, 32, 4])");
}

}  // namespace
