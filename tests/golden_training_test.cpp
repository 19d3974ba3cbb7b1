// A whole training run, step by step beside PyTorch.
#include <residua/residua.hpp>

#include "golden.hpp"

namespace {

using namespace residua;

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
