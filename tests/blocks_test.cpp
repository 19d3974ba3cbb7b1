// Composition: Sequential, Residual, ResidualBlock, Bottleneck, Repeat; inference, summary, convert.
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/models/cifar_resnet.hpp>
#include <residua/residua.hpp>

#include "errors.hpp"
#include "layer_steps.hpp"
#include "tensors.hpp"

using namespace residua;

namespace {

std::string names(auto& net) {
  std::string all;
  for (auto& [name, handle] : net.named_parameters()) all += name + ' ';
  return all;
}

template <typename S>
S largest_difference(const Tensor<S>& a, const Tensor<S>& b) {
  EXPECT_EQ(a.shape(), b.shape());
  return largest(a.carray() - b.carray());
}

Index count(auto& net) {
  Index sum = 0;
  for (auto& p : net.parameters()) sum += p->value.size();
  return sum;
}

// --- names and structure -----------------------------------------------------------------------------------------------

TEST(Blocks, PartsAreNamedAsInPyTorch) {
  Random rng(1);
  ResidualBlock<float> same({.in_channels = 8, .out_channels = 8}, rng);
  EXPECT_EQ(names(same), "conv1.weight bn1.weight bn1.bias conv2.weight bn2.weight bn2.bias ");
  ResidualBlock<float> wider({.in_channels = 8, .out_channels = 16, .stride = 2, .shortcut_name = "downsample"}, rng);
  EXPECT_EQ(names(wider), "conv1.weight bn1.weight bn1.bias conv2.weight bn2.weight bn2.bias "
                          "downsample.0.weight downsample.1.weight downsample.1.bias ");
  ResidualBlock<float> before({.in_channels = 8, .out_channels = 16, .order = Order::pre_activation}, rng);
  EXPECT_EQ(names(before), "bn1.weight bn1.bias conv1.weight bn2.weight bn2.bias conv2.weight shortcut.0.weight ");
  ResidualBlock<float> bare({.in_channels = 8, .out_channels = 8, .norm = norm::none}, rng);
  EXPECT_EQ(names(bare), "conv1.weight conv1.bias conv2.weight conv2.bias ");
  ResidualBlock<float> plain({.in_channels = 8, .out_channels = 8, .order = Order::plain}, rng);
  EXPECT_EQ(names(plain), "bn1.weight bn1.bias conv1.weight bn2.weight bn2.bias conv2.weight ");
  Bottleneck<float> deep({.in_channels = 8, .channels = 4, .out_channels = 16}, rng);
  EXPECT_EQ(names(deep), "conv1.weight bn1.weight bn1.bias conv2.weight bn2.weight bn2.bias conv3.weight bn3.weight "
                         "bn3.bias shortcut.0.weight shortcut.1.weight shortcut.1.bias ");
  Residual<float> residual(Linear<float>({.in_features = 2, .out_features = 2}, rng));
  EXPECT_EQ(names(residual), "branch.weight branch.bias ");
}

TEST(Blocks, ProjectionsCostParameters) {
  Random none = Random::none();
  for (Index depth : {20, 110}) {
    auto a = cifar_resnet<float>(depth, {}, none), b = cifar_resnet<float>(depth, {.shortcut = Shortcut::projection}, none);
    EXPECT_EQ(count(b), count(a) + 2752);
  }
}

TEST(Blocks, AThousandLayersLearn) {
  Random rng(1);
  auto net = cifar_resnet1202<float>({}, rng);
  EXPECT_EQ(count(net), 19421274);
  SGD<float> optimizer(net.parameters(), {.lr = 0.01});
  Tape<float> tape(rng, {.input_gradient = false});
  const std::vector<Index> labels{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5};
  auto loss = cross_entropy(net.forward(normal<float>(Shape{16, 32, 32, 3}), tape), labels);
  EXPECT_TRUE(std::isfinite(loss.value)) << loss.value;
  net.backward(std::move(loss.gradient), tape);
  optimizer.step();
  EXPECT_TRUE(net.get<Conv2d<float>>("conv1").weight.value.carray().allFinite());
}

TEST(Sequential, NamesAndNumbers) {
  Sequential<float> net{ReLU<float>(), Tanh<float>()};
  EXPECT_EQ(net.name(0), "0");
  EXPECT_EQ(net.name(1), "1");
  net.add("last", Sigmoid<float>());
  EXPECT_EQ(net.get<Sigmoid<float>>("last")(Tensor<float>(Shape{1}))(0), 0.5f);
  EXPECT_EQ(message([&] { net.add("last", ReLU<float>()); }), "Sequential: expected a name that is not taken, got 'last'");
  EXPECT_EQ(message([&] { net.add("a.b", ReLU<float>()); }), "Sequential: expected a name without dots, got 'a.b'");
  EXPECT_EQ(message([&] { net[3]; }), "Sequential: expected a position below 3, got 3");
  EXPECT_EQ(message([&] { net.get<ReLU<float>>("first"); }), "get: there is no layer named 'first'");
  EXPECT_EQ(message([&] { net.get<ReLU<float>>("1"); }), "get: '1' is a Tanh, not a ReLU of this scalar");
  EXPECT_EQ(net.size(), 3);
}

// --- residual connections ------------------------------------------------------------------------------------------------

TEST(Residual, AddsTheBranchToTheShortcut) {
  Random rng(1);
  Linear<double> branch({.in_features = 3, .out_features = 3}, rng), shortcut({.in_features = 3, .out_features = 3}, rng);
  const auto x = normal<double>(Shape{4, 3});
  Tensor<double> sum = branch(x), half = sum;
  sum.array() += shortcut(x).carray();
  half.array() += x.carray();
  EXPECT_LT(largest_difference(Residual<double>(branch, shortcut)(x), sum), 1e-15);
  EXPECT_LT(largest_difference(Residual<double>(branch)(x), half), 1e-15);
  sum.array() = sum.carray().max(0.0);
  EXPECT_LT(largest_difference(Residual<double>(branch, shortcut, ReLU<double>())(x), sum), 1e-15);
}

TEST(Residual, BranchAndShortcutMustAgree) {
  Random rng(1);
  Sequential<float> net;
  net.add("block", Residual<float>(Linear<float>({.in_features = 3, .out_features = 4}, rng)));
  EXPECT_EQ(message([&] { net(Tensor<float>(Shape{2, 3})); }),
            "block: expected branch and shortcut to give the same shape, got [2, 4] and [2, 3]");
  EXPECT_EQ(message([&] { inference(net)(Tensor<float>(Shape{2, 3})); }),
            "block: expected branch and shortcut to give the same shape, got [2, 4] and [2, 3]");
}

TEST(Blocks, SubsamplingTakesEverySecondPixelAndPadsTheChannels) {
  Subsample<double> shortcut({.in_channels = 2, .out_channels = 5, .stride = 2});
  Tensor<double> x(Shape{1, 3, 4, 2});
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<double>(i + 1);
  const auto y = shortcut(x);
  EXPECT_EQ(y.shape(), (Shape{1, 2, 2, 5}));
  EXPECT_EQ(y(0, 0, 0, 0), 0);
  EXPECT_EQ(y(0, 0, 0, 1), x(0, 0, 0, 0));
  EXPECT_EQ(y(0, 1, 1, 2), x(0, 2, 2, 1));
  EXPECT_EQ(y(0, 1, 1, 3), 0);
  EXPECT_EQ(y(0, 1, 1, 4), 0);
}

TEST(Blocks, PreActivationSharesItsFirstActivationWithAProjection) {
  Random rng(1);
  ResidualBlock<double> block({.in_channels = 2, .out_channels = 3, .order = Order::pre_activation}, rng);
  age(block);
  const auto x = normal<double>(Shape{2, 4, 4, 2});
  const auto a = ReLU<double>()(block.get<BatchNorm<double>>("bn1")(x));
  auto y = block.get<Conv2d<double>>("conv1")(a);
  y = block.get<Conv2d<double>>("conv2")(ReLU<double>()(block.get<BatchNorm<double>>("bn2")(y)));
  y.array() += block.get<Conv2d<double>>("shortcut.0")(a).carray();
  EXPECT_LT(largest_difference(block(x), y), 1e-14);
}

TEST(Blocks, RefuseOptionsThatDoNotFit) {
  Random rng(1);
  EXPECT_EQ(message([&] { ResidualBlock<float>({.in_channels = 4, .out_channels = 8, .shortcut = Shortcut::identity}, rng); }),
            "ResidualBlock: expected in_channels = out_channels and stride 1 for an identity shortcut, got 4, 8 and (1, 1)");
  EXPECT_EQ(message([&] { ResidualBlock<float>({.in_channels = 0, .out_channels = 8}, rng); }),
            "ResidualBlock: expected in_channels of at least 1, got 0");
  EXPECT_EQ(message([&] { Bottleneck<float>({.in_channels = 4, .channels = 3, .out_channels = 8, .groups = 2}, rng); }),
            "Conv2d: expected groups that divide in_channels and out_channels, got 2 for 3 and 3");
  EXPECT_EQ(message([&] {
              ResidualBlock<float>({.in_channels = 8, .out_channels = 4, .stride = 2, .shortcut = Shortcut::subsample}, rng);
            }),
            "Subsample: expected out_channels of at least 8, got 4");
  EXPECT_EQ(message([&] { ResidualBlock<float>({.in_channels = 8, .out_channels = 8, .shortcut_name = "bn2"}, rng); }),
            "ResidualBlock: expected a shortcut_name that no part has, got bn2");
  EXPECT_EQ(message([] { Norm<float>::named("bach"); }),
            "Norm: expected one of none, batch, layer, group, instance, rms, got 'bach'");
  EXPECT_EQ(message([&] { Repeat<float>(ReLU<float>(), -1); }), "Repeat: expected a number of times of at least 0, got -1");
}

TEST(Blocks, TheNormIsAnyFunctionFromChannelsToALayer) {
  Random rng(1);
  ResidualBlock<float> block({.in_channels = 8, .out_channels = 8, .norm = [](Index channels) {
                                return GroupNorm<float>({.num_groups = 2, .num_channels = channels});
                              }}, rng);
  EXPECT_EQ(block.get<GroupNorm<float>>("bn2").options.num_groups, 2);
}

TEST(Repeat, UsesTheSameWeightsEachTime) {
  Random rng(1);
  Linear<double> layer({.in_features = 3, .out_features = 3}, rng);
  const auto x = normal<double>(Shape{2, 3});
  EXPECT_EQ(Repeat<double>(layer, 3)(x), layer(layer(layer(x))));
  EXPECT_EQ(Repeat<double>(layer, 0)(x), x);
  Repeat<double> three(layer, 3);
  EXPECT_EQ(three.parameters().size(), 2u);
}

/// A layer of a user's, with everything by hand: y = x + a ⊙ tanh(x).
template <typename S>
struct Wave {
  Parameter<S> a;
  explicit Wave(Index features) : a(Tensor<S>(Shape{features}, S(0.5))) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    Tensor<S> y(x.shape(), uninitialized);
    y.matrix() = x.cmatrix().array().tanh().matrix() * a.value.carray().matrix().asDiagonal();
    tape.push(std::move(x));
    return y;
  }
  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto x = tape.template pop<Tensor<S>>();
    const Matrix<S> t = x.cmatrix().array().tanh();
    a.add_gradient(dy.cmatrix().cwiseProduct(t).colwise().sum());
    dy.matrix() = (dy.cmatrix() * a.value.carray().matrix().asDiagonal()).cwiseProduct((S(1) - t.array().square()).matrix());
    return dy;
  }
  static void visit(auto& self, auto&& v) { v("a", self.a); }
};

TEST(Blocks, OfLayersOfOnesOwn) {
  Random rng(1);
  Sequential<double> net;
  net.add("first", Residual<double>(Wave<double>(4)));
  net.add("again", Repeat<double>(Residual<double>(Sequential<double>(Wave<double>(4), LayerNorm<double>(Shape{4}))), 2));
  net.add("conv", Residual<double>(Wave<double>(4), Conv2d<double>({.in_channels = 4, .out_channels = 4, .kernel_size = 1}, rng),
                                   ReLU<double>()));
  EXPECT_EQ(names(net), "first.branch.a again.layer.branch.0.a again.layer.branch.1.weight again.layer.branch.1.bias "
                        "conv.branch.a conv.shortcut.weight conv.shortcut.bias ");
  const auto report = gradient_check(net, normal<double>(Shape{2, 3, 3, 4}));
  EXPECT_TRUE(report.passed()) << report;
  const auto x = normal<double>(Shape{2, 3, 3, 4});
  EXPECT_LT(largest_difference(inference(net)(x), net(x)), 1e-13);
}

/// Its backward returns what is no gradient of its input.
struct Wrong {
  Tensor<float> forward(Tensor<float> x, Tape<float>&) const { return x; }
  Tensor<float> backward(Tensor<float>, Tape<float>&) { return Tensor<float>(Shape{7}); }
  static void visit(auto&, auto&&) {}
};

TEST(Residual, TheGradientsOfBranchAndShortcutMustAgree) {
  Random rng(1);
  Residual<float> net{Layer<float>(Wrong())};
  Tape<float> tape(rng);
  const auto y = net.forward(Tensor<float>(Shape{2, 3}), tape);
  EXPECT_EQ(message([&] { net.backward(y, tape); }),
            "Residual: expected branch and shortcut to give input gradients of the same shape, got [7] and [2, 3]");
}

TEST(Blocks, NestAndMove) {
  Random rng(1);
  Sequential<float> net(ResidualBlock<float>({.in_channels = 2, .out_channels = 2}, rng), ReLU<float>());
  EXPECT_EQ(net.get<Conv2d<float>>("0.conv1").options.in_channels, 2);
  Sequential<float> one(ResidualBlock<float>({.in_channels = 2, .out_channels = 2}, rng));
  EXPECT_EQ(one.name(0), "0");
  Layer<float> layer = ReLU<float>(), other = std::move(layer);
  EXPECT_EQ(message([&] { Layer<float> copy(layer); }), "Layer: expected a layer, got one that was moved from");
  EXPECT_EQ(message([&] { other = layer; }), "Layer: expected a layer, got one that was moved from");
  EXPECT_EQ(inference(ReLU<float>())(Tensor<float>(Shape{1}, -1.f))(0), 0.f);
}

// --- inference -----------------------------------------------------------------------------------------------------------

TEST(Inference, IsTheSameFunctionForEveryBlock) {
  for (Order order : {Order::post_activation, Order::pre_activation, Order::plain}) {
    for (Shortcut shortcut : {Shortcut::projection, Shortcut::subsample}) {
      for (const char* norm : {"none", "batch", "layer", "group", "instance", "rms"}) {
        Random rng(3);
        Sequential<double> net;
        net.add("a", ResidualBlock<double>({.in_channels = 4, .out_channels = 4, .order = order, .shortcut = shortcut,
                                            .norm = Norm<double>::named(norm)}, rng));
        net.add("b", Bottleneck<double>({.in_channels = 4, .channels = 6, .out_channels = 8, .stride = 2, .groups = 2,
                                         .order = order, .shortcut = shortcut, .norm = Norm<double>::named(norm)}, rng));
        net.add("relu", ReLU<double>());
        net.add("drop", Dropout<double>());
        net.add("pool", GlobalAvgPool2d<double>());
        net.add("fc", Linear<double>({.in_features = 8, .out_features = 3, .bias = false}, rng));
        net.add("bn", BatchNorm<double>({.num_features = 3}));
        age(net);
        const auto x = normal<double>(Shape{3, 5, 7, 4});
        const auto fused = inference(net);
        EXPECT_LT(largest_difference(fused(x), net(x)), 1e-13) << norm << ' ' << static_cast<int>(order);
        EXPECT_EQ(fused(x), fused(x));
      }
    }
  }
}

TEST(Inference, FoldsAndFusesWhatItCan) {
  Random rng(1);
  auto net = cifar_resnet<float>(8, {.shortcut = Shortcut::projection}, rng);
  age(net);
  auto fused = inference(net);
  const Summary table = summary(fused, {1, 32, 32, 3});
  EXPECT_EQ(table.rows.size(), 12u) << table;  // 7 convolutions, 3 shortcuts, pool, linear: no norm, no ReLU
  EXPECT_EQ(table.multiply_adds, summary(net, {1, 32, 32, 3}).multiply_adds);
  const auto x = normal<float>(Shape{4, 32, 32, 3});
  const auto logits = net(x);
  EXPECT_LT(largest_difference(fused(x), logits), 1e-5f * largest(logits.carray()));
  EXPECT_EQ(message([&] {
              Tape<float> tape(rng);
              fused.forward(x, tape);
              fused.backward(logits, tape);
            }),
            "linear: expected a network that can be trained, got one made by inference()");
}

TEST(Inference, RefusesWhatTheNetworkRefuses) {
  Random rng(1);
  Sequential<float> net(Conv2d<float>({.in_channels = 2, .out_channels = 3, .kernel_size = 1}, rng),
                        BatchNorm<float>({.num_features = 5}));
  EXPECT_EQ(message([&] { inference(net)(Tensor<float>(Shape{1, 2, 2, 2})); }),
            "1: expected 5 input features, got 3 (input is [1, 2, 2, 3])");
  net.get<Conv2d<float>>("0").weight.value = Tensor<float>(Shape{2, 2});
  EXPECT_EQ(message([&] { net(Tensor<float>(Shape{1, 2, 2, 2})); }),
            "0: expected weight of shape [3, 1, 1, 2], found one of [2, 2]");
}

/// Sequential's own inference(), inherited.
struct Inherits : Sequential<double> {
  using Sequential::Sequential;
};

/// One of its own in its place.
struct Replaces : Sequential<double> {
  using Sequential::Sequential;
  Layer<double> inference() const { return Identity<double>(); }
};

TEST(Inference, IsThatOfTheTypeThatHasIt) {
  Random rng(1);
  const Conv2d<double> conv({.in_channels = 2, .out_channels = 3, .kernel_size = 3}, rng);
  const auto x = normal<double>(Shape{2, 5, 5, 2});
  const Sequential<double> inherits(Inherits(conv, ReLU<double>())), replaces(Replaces(conv, ReLU<double>()));
  EXPECT_LT(largest_difference(inference(inherits)(x), inherits(x)), 1e-14);
  EXPECT_EQ(summary(inference(inherits), {2, 5, 5, 2}).rows.size(), 1u);  // fused
  EXPECT_EQ(inference(replaces)(x), x);
  EXPECT_EQ(inference(Layer<double>(Replaces(conv)))(x), x);
}

TEST(Inference, KeepsANormWithoutRunningStatistics) {
  Random rng(1);
  Sequential<double> net(Conv2d<double>({.in_channels = 2, .out_channels = 3, .kernel_size = 3}, rng),
                         BatchNorm<double>({.num_features = 3, .track_running_stats = false}), ReLU<double>());
  const auto x = normal<double>(Shape{2, 5, 5, 2});
  EXPECT_LT(largest_difference(inference(net)(x), net(x)), 1e-14);
}

// --- summary ---------------------------------------------------------------------------------------------------------------

TEST(Summary, IsTheFamiliarTable) {
  Random rng(1);
  Sequential<float> net;
  net.add("conv1", Conv2d<float>({.in_channels = 3, .out_channels = 16, .kernel_size = 3, .padding = 1, .bias = false}, rng));
  net.add("bn1", BatchNorm<float>({.num_features = 16}));
  net.add("relu", ReLU<float>());
  net.add("pool", GlobalAvgPool2d<float>());
  net.add("fc", Linear<float>({.in_features = 16, .out_features = 10}, rng));
  net.get<Linear<float>>("fc").bias.requires_grad = false;
  std::ostringstream text;
  text << summary(net, {2, 32, 32, 3});
  EXPECT_EQ(text.str(),
            "path   layer            output shape     parameters  multiply-adds  activations  \n"
            "-----  ---------------  ---------------  ----------  -------------  -----------  \n"
            "conv1  Conv2d           [2, 32, 32, 16]         432        884,736     0.13 MiB  \n"
            "bn1    BatchNorm        [2, 32, 32, 16]          32              0     0.13 MiB  \n"
            "relu   ReLU             [2, 32, 32, 16]           0              0     0.00 MiB  \n"
            "pool   GlobalAvgPool2d  [2, 16]                   0              0     0.00 MiB  \n"
            "fc     Linear           [2, 10]                 170            320     0.00 MiB  \n"
            "-----  ---------------  ---------------  ----------  -------------  -----------  \n"
            "total                                           634        885,056     0.13 MiB  \n"
            "input [2, 32, 32, 3], 624 of 634 parameters trainable\n");
}

TEST(Summary, CountsWhatIsUsedTwiceAndChangesNothing) {
  Random rng(1);
  Sequential<float> net;
  net.add("twice", Repeat<float>(Conv2d<float>({.in_channels = 2, .out_channels = 2, .kernel_size = 1}, rng), 2));
  net.add("bn", BatchNorm<float>({.num_features = 2}));
  const Summary table = summary(net, {1, 4, 4, 2});
  EXPECT_EQ(table.parameters, 10);
  EXPECT_EQ(table.multiply_adds, 2 * 16 * 4);
  EXPECT_EQ(net.get<BatchNorm<float>>("bn").num_batches_tracked.value(), 0.f);
  EXPECT_EQ(summary(BatchNorm<float>({.num_features = 3}), {1, 3}).parameters, 6) << "one row is enough";
}

// --- convert ---------------------------------------------------------------------------------------------------------------

/// Made by default, it has no parameter.
template <typename S>
struct Forgetful : Identity<S> {
  Parameter<S> a;
  Forgetful() = default;
  explicit Forgetful(Index features) : a(Tensor<S>(Shape{features})) {}
  static void visit(auto& self, auto&& v) { v("a", self.a); }
};

TEST(Convert, GivesTheSameNetworkInAnotherScalar) {
  Random rng(1);
  auto net = cifar_resnet<float>(8, {}, rng);
  net.add("extra", AdaptiveLayerNorm<float>({.num_features = 10, .summary_features = 4}, rng));
  age(net);
  net.get<Conv2d<float>>("conv1").weight.requires_grad = false;
  net.get<BatchNorm<float>>("bn1").options.frozen = true;
  const Sequential<double> precise = convert<double>(net);
  EXPECT_FALSE(precise.get<Conv2d<double>>("conv1").weight.requires_grad);
  EXPECT_TRUE(precise.get<BatchNorm<double>>("bn1").options.frozen);
  EXPECT_EQ(precise.get<ResidualBlock<double>>("layer3.0").size(), 1);
  const auto x = normal<float>(Shape{2, 32, 32, 3});
  EXPECT_LT(largest_difference(precise(x.cast<double>()).cast<float>(), net(x)), 1e-4f);
  Sequential<float> back = convert<float>(precise);
  EXPECT_EQ(back(x), net(x));
  EXPECT_EQ(names(back), names(net));
}

TEST(Convert, KnowsEveryLayer) {
  Random rng(1);
  Sequential<float> net(MaxPool2d<float>({.kernel_size = 2}), AvgPool2d<float>({.kernel_size = 1}), LeakyReLU<float>(),
                        GELU<float>(), SiLU<float>(), Sigmoid<float>(), Tanh<float>(), Softmax<float>(),
                        AdaptiveAvgPool2d<float>({.output_size = 3}), DropPath<float>(), Dropout<float>(),
                        RMSNorm<float>({.normalized_shape = {4}}), LayerNorm<float>({3, 3, 4}),
                        InstanceNorm<float>({.num_features = 4}), Identity<float>(), Flatten<float>());
  const auto x = normal<float>(Shape{2, 8, 8, 4});
  EXPECT_LT(largest_difference(convert<double>(net)(x.cast<double>()).cast<float>(), net(x)), 1e-5f);
}

TEST(Convert, RefusesALayerThatDoesNotKeepItsParameters) {
  Sequential<float> net(Forgetful<float>(3));
  EXPECT_EQ((message([&] { convert<double, Forgetful>(net); })),
            "convert: expected a converted layer to have the parameters and buffers of the original, got 0 and 0 for 1 and 0, "
            "or others");
}

TEST(Convert, WantsToBeToldOfOtherLayers) {
  Sequential<float> net(Wave<float>(3));
  EXPECT_EQ(message([&] { convert<double>(net); }),
            "convert: expected layers of the library or those named as convert<scalar, YourLayer>(net), got a Wave");
}

}  // namespace
