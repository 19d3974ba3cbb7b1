// Builds a small residual network, trains it for a few seconds on images drawn here, and uses it.
#include "common.hpp"

#include <cmath>
#include <numbers>

using namespace residua;

namespace {

/// Noisy stripes of random phase and width, in one of four directions: the direction is the label.
Batch<float> draw_stripes(Index count, Random& rng) {
  Batch<float> batch{Tensor<float>(Shape{count, 32, 32, 3}), {}};
  for (Index n = 0; n < count; ++n) {
    const Index label = rng.below(4);
    const double angle = static_cast<double>(label) * std::numbers::pi / 4;
    const double phase = rng.uniform(0, 2 * std::numbers::pi), frequency = rng.uniform(0.5, 1.5);
    for (Index h = 0; h < 32; ++h) {
      for (Index w = 0; w < 32; ++w) {
        const double along = std::cos(angle) * static_cast<double>(w) + std::sin(angle) * static_cast<double>(h);
        const double wave = std::sin(frequency * along + phase);
        for (Index c = 0; c < 3; ++c) batch.images(n, h, w, c) = static_cast<float>(wave + rng.normal());
      }
    }
    batch.labels.push_back(label);
  }
  return batch;
}

void train(int steps) {
  Random rng(42);

  Sequential<float> net;
  net.add("conv1",
          Conv2d<float>({.in_channels = 3, .out_channels = 16, .kernel_size = 3, .padding = 1, .bias = false}, rng));
  net.add("bn1", BatchNorm<float>({.num_features = 16}));
  net.add("relu", ReLU<float>());
  for (int i = 0; i < 3; ++i) {
    net.add("block" + std::to_string(i), ResidualBlock<float>({.in_channels = 16, .out_channels = 16}, rng));
  }
  net.add("pool", GlobalAvgPool2d<float>());
  net.add("fc", Linear<float>({.in_features = 16, .out_features = 4}, rng));

  SGD<float> optimizer(net.parameters(), {.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-4});
  for (int step = 1; step <= steps; ++step) {
    const auto [images, labels] = draw_stripes(32, rng);

    optimizer.zero_grad();
    Tape<float> tape(rng);                             // training mode: remembers what backward needs
    Tensor<float> logits = net.forward(images, tape);  // net is const here
    auto loss = cross_entropy(logits, labels);         // loss.value, loss.gradient
    net.backward(loss.gradient, tape);
    optimizer.step();

    if (step == 1 || step % 10 == 0) std::printf("step %2d  loss %.4f\n", step, loss.value);
  }

  const auto [images, labels] = draw_stripes(200, rng);
  const auto& model = net;
  Tensor<float> scores = model(images);  // inference: const, thread-safe, keeps nothing
  std::printf("%ld of 200 new images right\n", examples::count_right(scores, labels));
}

}  // namespace

int main(int argc, char** argv) {
  int steps = 50;
  CLI::App app("Trains a small residual network, for a few seconds, to tell the direction of stripes.");
  app.add_option("--steps", steps, "training steps")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  return examples::run(app, argc, argv, [&] { train(steps); });
}
