// Errors: what they say and about which layer, and that nothing is changed by one.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "errors.hpp"
#include "small_net.hpp"

namespace {

using namespace residua;
using namespace small_net;

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
  const SmallBatch<float> batch, second(4, 9);
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
  EXPECT_TRUE(same_bits(net.backward(loss.gradient, tape), other.backward(loss.gradient, clean)));
  EXPECT_TRUE(tape.empty());
  expect_same(all_gradients<float>(net), all_gradients<float>(other));
  expect_same(state<float>(net), state<float>(other));
}

TEST(Errors, ABackwardThatThrowsLeavesValuesAndBuffers) {
  const bool never = false;
  bool blows = false;
  auto net = fused_net(never, blows), other = net;
  const SmallBatch<float> batch;
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
  EXPECT_EQ(message([&] { linear(Tensor<float>(Shape{2, 5})); }),
            "Linear: expected 3 input features, got 5 (input is [2, 5])");
  EXPECT_THROW(linear(Tensor<float>(Shape{0, 3})), Error);
  EXPECT_THROW(linear(Tensor<float>(Shape{})), Error);

  const BatchNorm<float> norm({.num_features = 3});
  EXPECT_EQ(message([&] { norm(Tensor<float>(Shape{2, 5})); }),
            "BatchNorm: expected 3 input features, got 5 (input is [2, 5])");
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
  const SmallBatch<float> batch;
  Random random(1);
  Tape<float> tape(random), other(random);
  const auto loss = cross_entropy(net.forward(batch.images, tape), batch.labels);
  const auto before = state<float>(net);
  const std::string empty = "fc: expected a recorded forward before backward, got an empty tape";
  const std::string strange =
      ": expected to find on the tape what this layer's forward pushed, got what another one pushed";

  EXPECT_EQ(message([&] { net.backward(loss.gradient, other); }), empty);
  EXPECT_EQ(message([&] { residua::backward(net[0], "stem", Tensor<float>(batch.images.shape()), tape); }),
            "stem.bn" + strange);
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
  SmallBatch<float> batch;
  batch.images(2, 3, 3, 1) = nan;
  EXPECT_TRUE(net(batch.images).cmatrix().row(2).array().isNaN().all());
  EXPECT_FALSE(net(batch.images).cmatrix().row(1).array().isNaN().any());
}

}  // namespace
