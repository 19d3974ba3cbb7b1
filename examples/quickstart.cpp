// The program of the README: builds a small residual network, trains it on images drawn here, and uses it.
#include "common.hpp"

using namespace residua;

namespace {

void train(int steps) {
  Random rng(42);

  Sequential<float> net;
  net.add("conv1", Conv2d<float>({.in_channels = 3, .out_channels = 16, .kernel_size = 3, .padding = 1, .bias = false}, rng));
  net.add("bn1", BatchNorm<float>({.num_features = 16}));
  net.add("relu", ReLU<float>());
  for (int i = 0; i < 9; ++i) {                                     // depth is a run-time number
    net.add("block" + std::to_string(i), ResidualBlock<float>({.in_channels = 16, .out_channels = 16}, rng));
  }
  net.add("pool", GlobalAvgPool2d<float>());
  net.add("fc", Linear<float>({.in_features = 16, .out_features = 2}, rng));

  SGD<float> optimizer(net.parameters(), {.lr = 0.02, .momentum = 0.9, .weight_decay = 1e-4});
  std::vector<Index> labels(32);
  // 32 images (N, H, W, C) of noise with faint stripes: lying ones have label 0, standing ones label 1.
  const auto draw = [&] {
    auto images = init::normal<float>(Shape{32, 16, 16, 3}, 0, 1, rng);
    for (Index n = 0; n < 32; ++n) {
      const Index standing = labels[static_cast<std::size_t>(n)] = rng.below(2);
      for (Index h = 0; h < 16; ++h) {
        for (Index w = 0; w < 16; ++w) images(n, h, w, 0) += (standing ? w : h) % 2 ? 0.2f : -0.2f;
      }
    }
    return images;
  };

  for (int step = 1; step <= steps; ++step) {
    const Tensor<float> images = draw();

    optimizer.zero_grad();
    Tape<float> tape(rng);                                          // remembers what backward needs
    Tensor<float> logits = net.forward(images, tape);
    auto loss = cross_entropy(logits, labels);
    net.backward(loss.gradient, tape);
    optimizer.step();
    if (step == 1 || step % 20 == 0) std::printf("step %2d: loss %.3f\n", step, loss.value);
  }

  const auto& model = net;
  Tensor<float> scores = model(draw());                             // prediction: const, thread-safe, keeps nothing
  int right = 0;
  for (Index n = 0; n < 32; ++n) right += (scores(n, 1) > scores(n, 0)) == (labels[static_cast<std::size_t>(n)] == 1);
  std::printf("%d of 32 new images right\n", right);
}

}  // namespace

int main(int argc, char** argv) {
  int steps = 60;
  CLI::App app("Trains a small residual network, for a few seconds, to tell lying stripes from standing ones.");
  app.add_option("--steps", steps, "training steps")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  return examples::run(app, argc, argv, [&] { train(steps); });
}
