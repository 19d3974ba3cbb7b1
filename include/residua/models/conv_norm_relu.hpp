// What GoogLeNet and Inception are made of.
#pragma once

#include <residua/blocks/sequential.hpp>
#include <residua/core/visit.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/init.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/relu.hpp>
#include <residua/layers/rescale.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// torchvision's BasicConv2d: conv–bn–relu, without weights yet.
template <typename S>
Sequential<S> conv_norm_relu(Conv2dOptions o) {
  Random none = Random::none();
  o.bias = false;
  Sequential<S> layers;
  layers.add("conv", Conv2d<S>(o, none));
  layers.add("bn", BatchNorm<S>({.num_features = o.out_channels, .eps = 1e-3}));
  layers.add("relu", ReLU<S>());
  return layers;
}

/// torchvision's transform_input: images normalised for its other networks become images in −1 … 1.
template <typename S>
Rescale<S> transform_input() {
  return Rescale<S>({.scale = {0.229 / 0.5, 0.224 / 0.5, 0.225 / 0.5},
                     .shift = {(0.485 - 0.5) / 0.5, (0.456 - 0.5) / 0.5, (0.406 - 0.5) / 0.5}});
}

/// Draws the weights of all convolutions and linear maps normal, between −2 and 2.
template <typename S, typename Net>
void draw_truncated(Net& net, double stddev, Random& random) {
  if (random.is_none()) return;
  const auto draw = [&](auto& layer) {
    layer.weight.value = init::truncated_normal<S>(layer.weight.value.shape(), stddev, 2, random);
  };
  for_each_layer<Conv2d<S>>(net, draw);
  for_each_layer<Linear<S>>(net, draw);
}

}  // namespace residua::inline RESIDUA_ABI::detail
