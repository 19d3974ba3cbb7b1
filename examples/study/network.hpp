// The networks of the study: CIFAR's, with and without shortcuts, with any norm.
#pragma once

#include "settings.hpp"

#include <residua/models/cifar_resnet.hpp>

namespace study {

/// Layers whose gradients are traced: those of the convolutions.
inline bool is_traced(const std::string&, const ParameterData<float>& p) { return p.value.rank() == 4; }

/// A norm by name; beside the library's names "adaptive", scale and shift computed from a summary of each image.
inline Norm<float> norm_named(const std::string& name, Random& random) {
  if (name != "adaptive") return Norm<float>::named(name);
  return [&random](Index channels) -> Layer<float> {
    return AdaptiveLayerNorm<float>({.num_features = channels, .summary_features = std::max<Index>(1, channels / 4)}, random);
  };
}

/// conv–norm–relu–conv–norm–relu: a residual block without its shortcut.
inline Sequential<float> plain_block(Index in, Index out, Index stride, const Norm<float>& norm, Random& random) {
  Sequential<float> block;
  for (const Index i : {1, 2}) {
    const std::string number = std::to_string(i);
    block.add("conv" + number, Conv2d<float>({.in_channels = i == 1 ? in : out, .out_channels = out, .kernel_size = 3,
                                              .stride = i == 1 ? stride : 1, .padding = 1, .bias = norm.none()}, random));
    if (!norm.none()) block.add("bn" + number, norm(out));
    block.add("relu" + number, ReLU<float>());
  }
  return block;
}

/// The network of a run: 6n + 2 layers as in He et al. 2015, section 4.2, weights drawn as PyTorch draws them by default,
/// those of convolutions times run.scale.
inline Sequential<float> build(const Run& run, Index width, Index classes, Random& random) {
  const Norm<float> norm = norm_named(run.norm, random);
  const bool pre = run.connection == "pre";
  Index in = width;
  Sequential<float> net;
  const auto norm_and_activation = [&] {
    if (!norm.none()) net.add("bn1", norm(in));
    net.add("relu", ReLU<float>());
  };
  net.add("conv1", Conv2d<float>({.in_channels = 3, .out_channels = in, .kernel_size = 3, .padding = 1,
                                  .bias = norm.none()}, random));
  if (!pre) norm_and_activation();
  for (int stage = 0; stage < 3; ++stage) {
    const Index out = width << stage;
    Sequential<float> layer;
    for (Index i = 0; i < (run.depth - 2) / 6; ++i) {
      const Index stride = stage > 0 && i == 0 ? 2 : 1;
      if (run.connection == "plain") {
        layer.add(plain_block(in, out, stride, norm, random));
      } else {
        layer.add(ResidualBlock<float>({.in_channels = in, .out_channels = out, .stride = stride,
                                        .order = pre ? Order::pre_activation : Order::post_activation,
                                        .shortcut = Shortcut::subsample, .norm = norm}, random));
      }
      in = out;
    }
    if (run.checkpointed) layer = checkpointed(std::move(layer));
    net.add("layer" + std::to_string(stage + 1), std::move(layer));
  }
  if (pre) norm_and_activation();
  net.add("avgpool", GlobalAvgPool2d<float>());
  net.add("linear", Linear<float>({.in_features = in, .out_features = classes}, random));

  for (auto& p : net.parameters_if(is_traced)) p->value.array() *= static_cast<float>(run.scale);
  return net;
}

}  // namespace study
