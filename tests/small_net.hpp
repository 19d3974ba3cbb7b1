// A small residual network, and one step of training it: what the tests of the laws are tried on.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/relu.hpp>
#include <residua/loss/cross_entropy.hpp>
#include <residua/optim/sgd.hpp>

#include "tensors.hpp"

namespace small_net {

using namespace residua;

template <typename S>
Tensor<S> whole_numbers(const Shape& shape, std::uint64_t seed) {
  Random random(seed);
  Tensor<S> t(shape);
  for (Index i = 0; i < t.size(); ++i) t.data()[i] = static_cast<S>(random.below(7) - 3);
  return t;
}

template <typename S>
Sequential<S> conv_bn(Index in, Index out, Pair kernel, Index stride, Random& random) {
  Sequential<S> net;
  net.add("conv", Conv2d<S>({.in_channels = in, .out_channels = out, .kernel_size = kernel, .stride = stride,
                             .padding = {kernel.height / 2, kernel.width / 2}, .bias = false}, random));
  net.add("bn", BatchNorm<S>({.num_features = out}));
  return net;
}

template <typename S>
Residual<S> block(Index in, Index out, Index stride, Random& random) {
  Sequential<S> branch;
  branch.add("0", conv_bn<S>(in, out, 3, stride, random)).add(ReLU<S>()).add(conv_bn<S>(out, out, 3, 1, random));
  if (in == out) return Residual<S>(std::move(branch), Identity<S>(), ReLU<S>());
  return Residual<S>(std::move(branch), conv_bn<S>(in, out, 1, stride, random), ReLU<S>());
}

/// Images (N, 8, 8, 3) to five classes; ten convolutions.
template <typename S>
Sequential<S> make(std::uint64_t seed = 1) {
  Random random(seed);
  Sequential<S> net;
  net.add("stem", conv_bn<S>(3, 8, 3, 1, random)).add("relu", ReLU<S>());
  net.add("layer1", Sequential<S>(block<S>(8, 8, 1, random), block<S>(8, 8, 1, random)));
  net.add("layer2", Sequential<S>(block<S>(8, 12, 2, random), block<S>(12, 12, 1, random)));
  net.add("pool", GlobalAvgPool2d<S>());
  net.add("fc", Linear<S>({.in_features = 12, .out_features = 5}, random));
  return net;
}

template <typename S>
struct SmallBatch {
  Tensor<S> images;
  std::vector<Index> labels;

  explicit SmallBatch(Index n = 6, std::uint64_t seed = 100) : images(normal<S>({n, 8, 8, 3}, seed)) {
    for (Index i = 0; i < n; ++i) labels.push_back(i % 5);
  }
};

/// Forward, loss, backward; gradients are added to. Returns the loss.
template <typename S, typename Net>
double gradients(Net& net, const SmallBatch<S>& batch, TapeOptions options = {}) {
  Random random(7);
  Tape<S> tape(random, options);
  const auto loss = cross_entropy(net.forward(batch.images, tape), batch.labels);
  net.backward(loss.gradient, tape);
  return loss.value;
}

template <typename S, typename Net>
double step(Net& net, SGD<S>& optimizer, const SmallBatch<S>& batch) {
  optimizer.zero_grad();
  const double loss = gradients(net, batch, {.input_gradient = false});
  optimizer.step();
  return loss;
}

template <typename S, typename Net>
SGD<S> optimizer_of(Net& net) {
  return SGD<S>(net.parameters(), {.lr = 0.05, .momentum = 0.9, .weight_decay = 1e-4});
}

/// All that can change in a network: the parameters' values and the buffers, by name.
template <typename S, typename Net>
std::vector<std::pair<std::string, Tensor<S>>> state(Net& net) {
  std::vector<std::pair<std::string, Tensor<S>>> all;
  for (auto& [name, p] : named_parameters<S>(net)) all.emplace_back(name, p->value);
  for (auto& [name, b] : named_buffers<S>(net)) all.emplace_back(name, b->value);
  return all;
}

template <typename S, typename Net>
std::vector<Tensor<S>> all_gradients(Net& net) {
  std::vector<Tensor<S>> all;
  for (auto& p : parameters<S>(net)) all.push_back(p->grad);
  return all;
}

template <typename S>
void expect_same(const std::vector<std::pair<std::string, Tensor<S>>>& a,
                 const std::vector<std::pair<std::string, Tensor<S>>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_TRUE(same_bits(a[i].second, b[i].second)) << a[i].first;
  }
}

template <typename S>
void expect_same(const std::vector<Tensor<S>>& a, const std::vector<Tensor<S>>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_bits(a[i], b[i])) << i;
}

}  // namespace small_net
