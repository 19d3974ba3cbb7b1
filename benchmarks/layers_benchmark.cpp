// What each layer does in a second: batches' items, multiplications and additions (FLOP/s), and bytes of the tensors that
// go in and come out (bytes_per_second); forward alone, and forward with backward.
//
//     layers_benchmark --benchmark_filter=Conv2d
//
// OMP_NUM_THREADS sets the number of threads.
#include <string>

#include <benchmark/benchmark.h>

#include <residua/residua.hpp>

namespace {

using namespace residua;

Tensor<float> input(const Shape& shape) {
  Random rng(1);
  return init::normal<float>(shape, 0, 1, rng);
}

/// Of a forward, of all layers inside too; 0 where none counts them.
Index multiply_adds(const Layer<float>& layer, const Tensor<float>& x) {
  Index sum = 0;
  Tape<float> tape;
  tape.observe([&](const Observation<float>& seen) { sum += seen.multiply_adds; });
  residua::forward(layer, "layer", x, tape);
  return sum;
}

/// `passes`: 1 for forward; 3 with the gradients by input and weights, of which each takes as many operations. Forward reads
/// x and writes y; backward reads x and dy and writes dx.
void count(benchmark::State& state, const Layer<float>& layer, const Tensor<float>& x, const Tensor<float>& y, int passes) {
  state.SetItemsProcessed(state.iterations() * x.dim(0));
  const Index tensors = passes == 1 ? x.size() + y.size() : 3 * x.size() + 2 * y.size();
  state.SetBytesProcessed(state.iterations() * tensors * static_cast<Index>(sizeof(float)));
  if (const Index products = multiply_adds(layer, x); products > 0) {
    state.counters["FLOP/s"] = benchmark::Counter(2.0 * passes * static_cast<double>(products),
                                                  benchmark::Counter::kIsIterationInvariantRate);
  }
}

/// Prediction of one batch after another.
void forward(benchmark::State& state, const Layer<float>& layer, const Shape& shape) {
  const Tensor<float> x = input(shape), y = layer(x);
  for (auto _ : state) benchmark::DoNotOptimize(layer(x).cdata());
  count(state, layer, x, y, 1);
}

/// One batch after another as in training: forward, all gradients, and the gradients forgotten.
void forward_backward(benchmark::State& state, Layer<float> layer, const Shape& shape) {
  const Tensor<float> x = input(shape), result = layer(x);
  const auto parameters = layer.parameters();
  Random rng(1);
  for (auto _ : state) {
    Tape<float> tape(rng);
    Tensor<float> y = layer.forward(x, tape);
    benchmark::DoNotOptimize(layer.backward(std::move(y), tape).cdata());
    for (const auto& p : parameters) p->grad = {};
  }
  count(state, layer, x, result, 3);
}

void add(std::string name, const Layer<float>& layer, const Shape& shape) {
  for (Index axis = 0; axis < shape.rank(); ++axis) name += (axis == 0 ? '/' : 'x') + std::to_string(shape[axis]);
  benchmark::RegisterBenchmark((name + "/forward").c_str(), [=](auto& state) {
    forward(state, layer, shape);
  })->UseRealTime();
  benchmark::RegisterBenchmark((name + "/forward_backward").c_str(), [=](auto& state) {
    forward_backward(state, layer, shape);
  })->UseRealTime();
}

const bool registered = [] {
  Random rng(1);
  const auto conv = [&](Index in, Index out, Index kernel, Index stride, Index groups) {
    return Conv2d<float>({.in_channels = in, .out_channels = out, .kernel_size = kernel, .stride = stride,
                          .padding = kernel / 2, .groups = groups, .bias = false}, rng);
  };
  // The stages of CIFAR's ResNet-20 at batch 32.
  for (const Index channels : {16, 32, 64}) {
    const Shape images{32, 512 / channels, 512 / channels, channels};
    add("Conv2d", conv(channels, channels, 3, 1, 1), images);
    add("BatchNorm", BatchNorm<float>({.num_features = channels}), images);
    add("ResidualBlock", ResidualBlock<float>({.in_channels = channels, .out_channels = channels}, rng), images);
  }
  // Layers of ResNet-50, ResNeXt, MobileNet and ConvNeXt at batch 8.
  add("Conv2d7x7s2", conv(3, 64, 7, 2, 1), {8, 224, 224, 3});
  add("Conv2d1x1", conv(64, 256, 1, 1, 1), {8, 56, 56, 64});
  add("Conv2d", conv(128, 128, 3, 1, 1), {8, 28, 28, 128});
  add("Conv2d32Groups", conv(256, 256, 3, 1, 32), {8, 28, 28, 256});
  add("Conv2dDepthwise", conv(144, 144, 3, 1, 144), {8, 56, 56, 144});
  add("Conv2d7x7Depthwise", conv(192, 192, 7, 1, 192), {8, 28, 28, 192});
  add("Bottleneck", Bottleneck<float>({.in_channels = 256, .channels = 64, .out_channels = 256}, rng), {8, 56, 56, 256});
  add("GroupNorm", GroupNorm<float>({.num_groups = 32, .num_channels = 256}), {8, 28, 28, 256});
  add("MaxPool2d", MaxPool2d<float>({.kernel_size = 3, .stride = 2, .padding = 1}), {8, 112, 112, 64});
  add("GlobalAvgPool2d", GlobalAvgPool2d<float>(), {8, 7, 7, 2048});
  add("ReLU", ReLU<float>(), {8, 56, 56, 256});
  add("GELU", GELU<float>(), {8, 56, 56, 256});
  // Rows, as of a transformer.
  add("Linear", Linear<float>({.in_features = 768, .out_features = 768}, rng), {1024, 768});
  add("LayerNorm", LayerNorm<float>({.normalized_shape = {768}}), {4096, 768});
  add("Softmax", Softmax<float>(), {4096, 1000});
  return true;
}();

}  // namespace
