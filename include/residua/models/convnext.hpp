// ConvNeXt: a residual network with the blocks of a transformer.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <residua/blocks/layer_scale.hpp>
#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/core/visit.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/drop_path.hpp>
#include <residua/layers/gelu.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/layer_norm.hpp>
#include <residua/layers/linear.hpp>

namespace residua::inline RESIDUA_ABI {

/// One stage: so many blocks of so many channels.
struct ConvNeXtStage {
  Index channels, blocks;
};

struct ConvNeXtOptions {
  Index num_classes = 1000;
  double stochastic_depth_prob = 0.1;  ///< of the last block; it grows linearly from 0 for the first
  double layer_scale = 1e-6;
};

namespace detail {

/// y = x + drop(layer_scale ⊙ block(x)),   block: depthwise conv 7×7 – norm – linear – GELU – linear
template <typename S>
Residual<S> convnext_block(Index channels, double layer_scale, double drop, Random& random) {
  Sequential<S> block;
  block.add("0", Conv2d<S>({.in_channels = channels, .out_channels = channels, .kernel_size = 7, .padding = 3,
                            .groups = channels}, random));
  block.add("2", LayerNorm<S>({.normalized_shape = {channels}, .eps = 1e-6}));
  block.add("3", Linear<S>({.in_features = channels, .out_features = 4 * channels}, random));
  block.add("4", GELU<S>());
  block.add("5", Linear<S>({.in_features = 4 * channels, .out_features = channels}, random));

  Sequential<S> branch;
  branch.add("", LayerScale<S>({.num_features = channels, .init_value = layer_scale}, std::move(block)));
  branch.add("stochastic_depth", DropPath<S>({.p = drop}));
  return Residual<S>(std::move(branch), Identity<S>(), Identity<S>(), {"", "", ""});
}

}  // namespace detail

/// images (N, H, W, 3) → logits (N, num_classes), of any size from 32×32 on.
///
/// Names and weights are torchvision's: features.0.0, features.0.1, features.1.0.layer_scale, features.1.0.block.0, …,
/// features.2.0, …, classifier.0, classifier.2. Weights start normal with standard deviation 0.02, biases at 0.
///
/// Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s" (2022).
template <typename S>
Sequential<S> convnext(const std::vector<ConvNeXtStage>& stages, const ConvNeXtOptions& o, Random& random) {
  if (stages.empty()) fail("convnext", "expected at least 1 stage, got 0");
  Random none = Random::none();
  Index blocks = 0, block = 0;
  for (const ConvNeXtStage& stage : stages) blocks += stage.blocks;
  const auto norm = [](Index channels) { return LayerNorm<S>({.normalized_shape = {channels}, .eps = 1e-6}); };

  Sequential<S> features;
  Index in = stages[0].channels;
  features.add(Sequential<S>(Conv2d<S>({.in_channels = 3, .out_channels = in, .kernel_size = 4, .stride = 4}, none),
                             norm(in)));
  for (const ConvNeXtStage& stage : stages) {
    if (features.size() > 1) {
      features.add(Sequential<S>(norm(in), Conv2d<S>({.in_channels = in, .out_channels = stage.channels,
                                                      .kernel_size = 2, .stride = 2}, none)));
    }
    in = stage.channels;
    Sequential<S> layer;
    for (Index i = 0; i < stage.blocks; ++i, ++block) {
      const double drop = blocks > 1 ? o.stochastic_depth_prob * static_cast<double>(block) / static_cast<double>(blocks - 1) : 0;
      layer.add(detail::convnext_block<S>(in, o.layer_scale, drop, none));
    }
    features.add(std::move(layer));
  }

  Sequential<S> net, classifier;
  classifier.add("0", norm(in)).add("2", Linear<S>({.in_features = in, .out_features = o.num_classes}, none));
  net.add("features", std::move(features)).add("avgpool", GlobalAvgPool2d<S>()).add("classifier", std::move(classifier));

  const auto draw = [&](auto& layer) {
    layer.weight.value = init::truncated_normal<S>(layer.weight.value.shape(), 0.02, 2, random);
  };
  if (!random.is_none()) {
    for_each_layer<Conv2d<S>>(net, draw);
    for_each_layer<Linear<S>>(net, draw);
  }
  return net;
}

template <typename S>
Sequential<S> convnext_tiny(const ConvNeXtOptions& o, Random& random) {
  return convnext<S>({{96, 3}, {192, 3}, {384, 9}, {768, 3}}, o, random);
}

}  // namespace residua::inline RESIDUA_ABI
