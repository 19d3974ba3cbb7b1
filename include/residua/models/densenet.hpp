// DenseNet: every layer sees what all layers before it made.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <residua/blocks/concat.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/layers/avg_pool2d.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/max_pool2d.hpp>
#include <residua/layers/relu.hpp>
#include <residua/models/draw.hpp>

namespace residua::inline RESIDUA_ABI {

struct DenseNetOptions {
  Index growth_rate = 32;                        ///< channels that each layer adds
  std::vector<Index> block_config = {6, 12, 24, 16};  ///< layers of each dense block
  Index num_init_features = 64;                  ///< channels of the first convolution
  Index bn_size = 4;                             ///< channels inside of a layer, in growth rates
  double drop_rate = 0;                          ///< of the Dropout behind each layer
  Index num_classes = 1000;
};

namespace detail {

/// y = [x, f(x)],   f: norm–relu–conv 1×1–norm–relu–conv 3×3
template <typename S>
Concat<S> dense_layer(const std::string& name, Index in, const DenseNetOptions& o) {
  Random none = Random::none();
  const Index inside = o.bn_size * o.growth_rate;
  Sequential<S> layer;
  layer.add("norm1", BatchNorm<S>({.num_features = in}));
  layer.add("relu1", ReLU<S>());
  layer.add("conv1", Conv2d<S>({.in_channels = in, .out_channels = inside, .kernel_size = 1, .bias = false}, none));
  layer.add("norm2", BatchNorm<S>({.num_features = inside}));
  layer.add("relu2", ReLU<S>());
  layer.add("conv2", Conv2d<S>({.in_channels = inside, .out_channels = o.growth_rate, .kernel_size = 3, .padding = 1,
                                .bias = false}, none));
  layer.add("drop", Dropout<S>({.p = o.drop_rate}));
  return Concat<S>().add("", Identity<S>()).add(name, std::move(layer));
}

/// Half of the channels, half of the size.
template <typename S>
Sequential<S> dense_transition(Index in) {
  Random none = Random::none();
  Sequential<S> layers;
  layers.add("norm", BatchNorm<S>({.num_features = in}));
  layers.add("relu", ReLU<S>());
  layers.add("conv", Conv2d<S>({.in_channels = in, .out_channels = in / 2, .kernel_size = 1, .bias = false}, none));
  layers.add("pool", AvgPool2d<S>({.kernel_size = 2, .stride = 2}));
  return layers;
}

}  // namespace detail

/// images (N, H, W, 3) → logits (N, num_classes), of any size that survives the halvings, 29×29 and above.
///
/// Names and weights are torchvision's: features.conv0, features.norm0, features.denseblock1.denselayer1.norm1, …,
/// features.transition1.norm, …, features.norm5, classifier. Convolutions start Kaiming-normal by their fan in. What a
/// dense block keeps for backward grows with the square of its layers, as in PyTorch.
///
/// Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks" (2017).
template <typename S>
Sequential<S> densenet(const DenseNetOptions& o, Random& random) {
  Random none = Random::none();
  Index in = o.num_init_features;

  Sequential<S> features;
  features.add("conv0", Conv2d<S>({.in_channels = 3, .out_channels = in, .kernel_size = 7, .stride = 2, .padding = 3,
                                   .bias = false}, none));
  features.add("norm0", BatchNorm<S>({.num_features = in}));
  features.add("relu0", ReLU<S>());
  features.add("pool0", MaxPool2d<S>({.kernel_size = 3, .stride = 2, .padding = 1}));
  for (std::size_t b = 0; b < o.block_config.size(); ++b) {
    Sequential<S> block;
    for (Index i = 0; i < o.block_config[b]; ++i) {
      block.add("", detail::dense_layer<S>("denselayer" + std::to_string(i + 1), in, o));
      in += o.growth_rate;
    }
    features.add("denseblock" + std::to_string(b + 1), std::move(block));
    if (b + 1 == o.block_config.size()) break;
    features.add("transition" + std::to_string(b + 1), detail::dense_transition<S>(in));
    in /= 2;
  }
  features.add("norm5", BatchNorm<S>({.num_features = in}));

  Linear<S> classifier({.in_features = in, .out_features = o.num_classes}, random);
  classifier.bias.value = Tensor<S>(Shape{o.num_classes});

  Sequential<S> net;
  net.add("features", std::move(features));
  net.add("relu", ReLU<S>());
  net.add("avgpool", GlobalAvgPool2d<S>());
  net.add("classifier", std::move(classifier));
  detail::draw_convolutions<S>(net, Fan::in, random);
  return net;
}

template <typename S>
Sequential<S> densenet121(const DenseNetOptions& o, Random& random) {
  return densenet<S>(o, random);
}
/// Blocks of 6, 12, 32 and 32 layers, whatever `o` says of that.
template <typename S>
Sequential<S> densenet169(DenseNetOptions o, Random& random) {
  o.block_config = {6, 12, 32, 32};
  return densenet<S>(o, random);
}

}  // namespace residua::inline RESIDUA_ABI
