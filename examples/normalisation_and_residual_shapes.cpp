// A batch of images through a residual block and three kinds of layer normalisation: shapes, statistics, time, memory.
#include "common.hpp"

#include <cmath>
#include <sstream>
#include <sys/resource.h>

using namespace residua;

namespace {

struct Moments {
  double mean, variance;
};

/// Mean and variance of all elements.
Moments moments(const Tensor<float>& x) {
  double sum = 0, squares = 0;
  for (Index row = 0; row < x.rows(); ++row) {
    const auto values = x.cmatrix().row(row).cast<double>();
    sum += values.sum();
    squares += values.squaredNorm();
  }
  const double count = static_cast<double>(x.size()), mean = sum / count;
  return {mean, squares / count - mean * mean};
}

/// Noise with mean 1.5 and standard deviation 2, the same for any number of threads.
Tensor<float> random_images(const Shape& shape, const Random& rng) {
  Tensor<float> images(shape, uninitialized);
  const Index size = shape.size() / shape[0];
  float* const data = images.data();
  parallel_for(shape[0], [&](Index n) {
    Random own = rng.split(static_cast<std::uint64_t>(n));
    for (Index i = 0; i < size; ++i) data[n * size + i] = static_cast<float>(own.normal(1.5, 2));
  });
  return images;
}

/// Runs `layer` on x and prints what became of it.
template <typename Forward>
void show(const char* name, const Tensor<float>& x, Forward&& forward) {
  const Stopwatch watch;
  const Tensor<float> y = forward(x);
  const double seconds = watch.seconds();
  const auto [mean_before, variance_before] = moments(x);
  const auto [mean_after, variance_after] = moments(y);
  std::ostringstream shapes;
  shapes << x.shape() << " -> " << y.shape();
  std::printf("%s\n  shape     %s\n  mean      %.6f -> %.6f\n  variance  %.6f -> %.6f\n  time      %.3f s\n", name,
              shapes.str().c_str(), mean_before, mean_after, variance_before, variance_after, seconds);
}

void demonstrate(Index batch, Index size, Index channels) {
  Random rng(1);
  const Tensor<float> x = random_images(Shape{batch, size, size, channels}, rng.split(1));
  const Tensor<float> condition = random_images(Shape{batch, channels}, rng.split(2));

  // Training mode, where norms use the statistics of the batch, but nothing is kept for a backward pass.
  Tape<float> tape(rng, {.mode = Mode::train, .record = false});

  const ResidualBlock<float> block({.in_channels = channels, .out_channels = channels, .order = Order::plain}, rng);
  show("Residual block, norm-conv-norm-conv", x, [&](Tensor<float> in) { return block.forward(std::move(in), tape); });

  const LayerNorm<float> layer_norm(Shape{channels});
  show("LayerNorm over the channels of each pixel", x,
       [&](Tensor<float> in) { return layer_norm.forward(std::move(in), tape); });

  const AdaptiveLayerNorm<float> conditioned({.num_features = channels, .condition_features = channels}, rng);
  show("AdaptiveLayerNorm, scale and shift from a condition", x,
       [&](Tensor<float> in) { return conditioned.forward(std::move(in), condition, tape).first; });

  const AdaptiveLayerNorm<float> dynamic({.num_features = channels, .summary_features = channels}, rng);
  show("AdaptiveLayerNorm, scale and shift from a summary of the input", x,
       [&](Tensor<float> in) { return dynamic.forward(std::move(in), tape); });

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("Peak memory %.0f MB, of which the input %.0f MB\n", static_cast<double>(usage.ru_maxrss) / 1024,
              static_cast<double>(x.size()) * sizeof(float) / (1024 * 1024));
}

}  // namespace

int main(int argc, char** argv) {
  Index batch = 32, size = 224, channels = 64;
  CLI::App app("Sends a batch of random images through a residual block and through layer normalisations.");
  app.add_option("--batch", batch, "images")->check(CLI::Range(1, 4096))->capture_default_str();
  app.add_option("--size", size, "height and width of an image")->check(CLI::Range(2, 4096))->capture_default_str();
  app.add_option("--channels", channels, "channels of an image")->check(CLI::Range(1, 4096))->capture_default_str();
  return examples::run(app, argc, argv, [&] { demonstrate(batch, size, channels); });
}
