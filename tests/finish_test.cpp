// What comes next is done at once: a layer that ends in the sum and the ReLU that its block does to its result.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/residua.hpp>

#include "errors.hpp"
#include "layer_steps.hpp"
#include "tensors.hpp"

using namespace residua;

namespace {

/// All that a network leaves behind, forward and where it records backward.
struct Left {
  Tensor<float> y, dx;
  std::vector<Tensor<float>> gradients, buffers;
};

/// A tape that is watched tells nobody what comes next: every layer runs by itself.
Left left_by(Layer<float> net, const Tensor<float>& x, const TapeOptions& options, bool layer_by_layer) {
  Random random(1);
  Tape<float> tape(random, options);
  if (layer_by_layer) tape.observe([](const Observation<float>&) {});
  Left left{.y = net.forward(x, tape), .dx = {}, .gradients = {}, .buffers = {}};
  if (options.record) left.dx = net.backward(normal<float>(left.y.shape(), 8), tape);
  for (auto& p : net.parameters()) left.gradients.push_back(p->grad);
  for (auto& [path, b] : net.named_buffers()) left.buffers.push_back(b->value);
  return left;
}

void expect_same_as_layer_by_layer(const Layer<float>& net, const Tensor<float>& x) {
  for (const TapeOptions& options : {TapeOptions{.mode = Mode::evaluate, .record = false}, {.mode = Mode::evaluate}, {},
                                     {.input_gradient = false}, {.record = false, .update_statistics = true}}) {
    SCOPED_TRACE(testing::Message() << "training " << (options.mode == Mode::train) << ", recording " << options.record);
    const Left wanted = left_by(net, x, options, true), got = left_by(net, x, options, false);
    EXPECT_TRUE(same_bits(got.y, wanted.y));
    EXPECT_TRUE(same_bits(got.dx, wanted.dx));
    for (std::size_t i = 0; i < wanted.gradients.size(); ++i) EXPECT_TRUE(same_bits(got.gradients[i], wanted.gradients[i]));
    for (std::size_t i = 0; i < wanted.buffers.size(); ++i) EXPECT_TRUE(same_bits(got.buffers[i], wanted.buffers[i]));
  }
}

TEST(Finish, TheSameBitsAsLayerByLayer) {
  Random rng(12);
  const Tensor<float> x = init::normal<float>({3, 9, 8, 8}, 0, 1, rng);
  for (const Norm<float>& kind : std::vector<Norm<float>>{norm::batch, norm::none, norm::group}) {
    for (const Order order : {Order::post_activation, Order::pre_activation, Order::plain}) {
      for (const Index stride : {1, 2}) {
        ResidualBlock<float> block({.in_channels = 8, .out_channels = 8 * stride, .stride = stride, .order = order, .norm = kind}, rng);
        age(block);
        expect_same_as_layer_by_layer(block, x);
      }
    }
  }
  const auto residual = [&](Layer<float> activation) {
    Sequential<float> branch(Conv2d<float>({.in_channels = 8, .out_channels = 8, .kernel_size = 1}, rng), BatchNorm<float>({.num_features = 8}));
    return Residual<float>(std::move(branch), Identity<float>(), std::move(activation));
  };
  expect_same_as_layer_by_layer(residual(ReLU<float>()), x);
  expect_same_as_layer_by_layer(residual(GELU<float>()), x);
  expect_same_as_layer_by_layer(Residual<float>(BatchNorm<float>({.num_features = 8}), Identity<float>(), ReLU<float>()), x);
  expect_same_as_layer_by_layer(Residual<float>(ReLU<float>(), Identity<float>(), ReLU<float>()), x);
  expect_same_as_layer_by_layer(Sequential<float>(Linear<float>({.in_features = 8, .out_features = 5}, rng), ReLU<float>(), ReLU<float>()), x);
  expect_same_as_layer_by_layer(Sequential<float>(Sequential<float>(residual(ReLU<float>()), BatchNorm<float>({.num_features = 8})), ReLU<float>()), x);
  expect_same_as_layer_by_layer(Sequential<float>(Sequential<float>(), ReLU<float>()), x);

  // More numbers than go into one run, and runs that are no whole rows of bits.
  expect_same_as_layer_by_layer(residual(ReLU<float>()), normal<float>({8, 24, 24, 8}));
  expect_same_as_layer_by_layer(Sequential<float>(BatchNorm<float>({.num_features = 5}), ReLU<float>()),
                                normal<float>({4, 41, 41, 5}));

  Tensor<float> nan = x;
  nan(0, 0, 0, 0) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(residual(ReLU<float>())(nan).cdata()[0]));
}

/// y = 2x, which counts how often it was told what comes next.
struct Doubling {
  using Finishes = Doubling;
  int* told;

  Tensor<float> forward(Tensor<float> x, Tape<float>& tape) const {
    *told += tape.finish() != nullptr;
    x.array() *= 2;
    tape.push(0);
    return x;
  }
  Tensor<float> backward(Tensor<float> dy, Tape<float>& tape) {
    tape.pop<int>();
    dy.array() *= 2;
    return dy;
  }
  static void visit(auto&, auto&&) {}
};

/// Layers inside, called without their names, and with more to do than they know of.
struct Negated : Doubling {
  BatchNorm<float> norm{{.num_features = 4}};

  Tensor<float> forward(Tensor<float> x, Tape<float>& tape) const {
    Tensor<float> y = Doubling::forward(norm.forward(std::move(x), tape), tape);
    y.array() *= -1;
    return y;
  }
};

TEST(Finish, OnlyALayerThatKnowsHowIsToldWhatComesNext) {
  int told = 0;
  Random random(1);
  const Tensor<float> x = Tensor<float>::from((Eigen::MatrixXf(2, 4) << 1, -2, 3, 0, 5, 6, -7, 8).finished());
  const Tensor<float> doubled = Tensor<float>::from(2 * x.cmatrix());
  const Tensor<float> activated = Tensor<float>::from((2 * x.cmatrix()).cwiseMax(0));

  const Sequential<float> net(Doubling{&told}, ReLU<float>());
  EXPECT_EQ(net(x), activated);  // it did not say that it was done
  EXPECT_EQ(told, 1);
  Tape<float> recording(random, {.mode = Mode::evaluate});
  EXPECT_EQ(net.forward(x, recording), activated);
  EXPECT_EQ(told, 2);
  Tape<float> watched;
  std::vector<std::string> seen;
  watched.observe([&](const Observation<float>& o) { seen.push_back(o.path); });
  EXPECT_EQ(net.forward(x, watched), activated);
  EXPECT_EQ(seen, (std::vector<std::string>{"0", "1"}));
  EXPECT_EQ(told, 2);

  EXPECT_EQ(Sequential<float>(Doubling{&told})(x), doubled);  // nothing comes next
  EXPECT_EQ(Sequential<float>(Doubling{&told}, Identity<float>())(x), doubled);
  EXPECT_EQ(told, 2);
  EXPECT_EQ(Residual<float>(Doubling{&told})(x), Tensor<float>::from(3 * x.cmatrix()));
  EXPECT_EQ(told, 3);

  Negated negated{{&told}};
  negated.norm.options.eps = 0;
  EXPECT_EQ(Sequential<float>(negated, ReLU<float>())(x), Tensor<float>::from((-2 * x.cmatrix()).cwiseMax(0)));
  EXPECT_EQ(told, 3);
}

/// y = max(x, 0) if it is told to, without a word about what that stops.
struct Forgetful {
  using Finishes = Forgetful;

  Tensor<float> forward(Tensor<float> x, Tape<float>& tape) const {
    if (tape.finish() != nullptr) {
      tape.finish()->done = true;
      x.array() = x.array().max(0);
    }
    return x;
  }
  Tensor<float> backward(Tensor<float> dy, Tape<float>&) { return dy; }
  static void visit(auto&, auto&&) {}
};

TEST(Finish, BackwardMustKnowWhatAReLUStopped) {
  const Sequential<float> net(Forgetful{}, ReLU<float>());
  const Tensor<float> x = normal<float>({2, 4});
  EXPECT_EQ(net(x), ReLU<float>()(x));
  Random random(1);
  Tape<float> tape(random);
  expect_error([&] { net.forward(x, tape); }, "1: expected to be told what it stops");
  EXPECT_TRUE(tape.empty());
}

}  // namespace
