// How many images, or rows, a second each of the main layers takes; forward alone and forward with backward.
#include <benchmark/benchmark.h>

#include <residua/residua.hpp>

namespace {

using namespace residua;

Tensor<float> input(const Shape& shape) {
  Random rng(1);
  return init::normal<float>(shape, 0, 1, rng);
}

/// Prediction of one batch after another.
void forward(benchmark::State& state, const Layer<float>& layer, const Shape& shape) {
  const Tensor<float> x = input(shape);
  for (auto _ : state) benchmark::DoNotOptimize(layer(x).cdata());
  state.SetItemsProcessed(state.iterations() * shape[0]);
}

/// One batch after another as in training: forward, all gradients, and the gradients forgotten.
void forward_backward(benchmark::State& state, Layer<float> layer, const Shape& shape) {
  const Tensor<float> x = input(shape);
  const auto parameters = layer.parameters();
  Random rng(1);
  for (auto _ : state) {
    Tape<float> tape(rng);
    Tensor<float> y = layer.forward(x, tape);
    benchmark::DoNotOptimize(layer.backward(std::move(y), tape).cdata());
    for (const auto& p : parameters) p->grad = {};
  }
  state.SetItemsProcessed(state.iterations() * shape[0]);
}

void add(const std::string& name, const Layer<float>& layer, const Shape& shape) {
  benchmark::RegisterBenchmark((name + "/forward").c_str(), [=](auto& state) {
    forward(state, layer, shape);
  })->UseRealTime();
  benchmark::RegisterBenchmark((name + "/forward_backward").c_str(), [=](auto& state) {
    forward_backward(state, layer, shape);
  })->UseRealTime();
}

/// The layers of CIFAR's ResNet-20 at batch 32, and a Linear as in a transformer.
const bool registered = [] {
  Random rng(1);
  for (const Index channels : {16, 32, 64}) {
    const Index side = 512 / channels;
    const Shape images{32, side, side, channels};
    const std::string size = "/" + std::to_string(channels) + "x" + std::to_string(side) + "x" + std::to_string(side);
    add("Conv2d" + size,
        Conv2d<float>({.in_channels = channels, .out_channels = channels, .kernel_size = 3, .padding = 1}, rng),
        images);
    add("BatchNorm" + size, BatchNorm<float>({.num_features = channels}), images);
    add("LayerNorm" + size, LayerNorm<float>(Shape{channels}), images);
    add("ResidualBlock" + size, ResidualBlock<float>({.in_channels = channels, .out_channels = channels}, rng), images);
  }
  add("Linear/512x512", Linear<float>({.in_features = 512, .out_features = 512}, rng), {1024, 512});
  return true;
}();

}  // namespace
