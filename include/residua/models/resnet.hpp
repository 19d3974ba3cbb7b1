// ResNet: residual networks for ImageNet, with ResNeXt and Wide ResNet.
#pragma once

#include <array>
#include <string>

#include <residua/blocks/residual_block.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/max_pool2d.hpp>
#include <residua/models/draw.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename S>
struct ResNetOptions {
  Index num_classes = 1000;
  bool zero_init_residual = false;  ///< each branch starts at 0, by the weight of its last norm
  Index groups = 1;                 ///< of the 3×3 convolutions of bottlenecks
  Index width_per_group = 64;       ///< channels of such a group, where the stage has 64
  Norm<S> norm = norm::batch;
};

/// A column of Table 1 of He et al. 2015.
struct ResNetTable {
  bool bottleneck;              ///< three convolutions a block, else two
  std::array<Index, 4> blocks;  ///< how many in each stage
  Index channels = 64;          ///< of the first stage; each further one has twice as many
};

/// images (N, H, W, 3) → logits (N, num_classes), of any size.
///
/// Names and weights are torchvision's: conv1, bn1, layer1.0.conv1, …, layer4.2.bn3, fc, with downsample.0 and
/// downsample.1 where the shape changes and the stride in the bottleneck's 3×3 convolution. Convolutions start
/// Kaiming-normal by their fan out.
///
/// He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015).
template <typename S>
Sequential<S> resnet(const ResNetTable& table, const ResNetOptions<S>& o, Random& random) {
  detail::require_at_least("resnet", "groups", 1, o.groups);
  detail::require_at_least("resnet", "width_per_group", 1, o.width_per_group);
  if (!table.bottleneck && (o.groups != 1 || o.width_per_group != 64)) {
    fail("resnet", "expected groups 1 and width_per_group 64 without bottlenecks, got ", o.groups, " and ",
         o.width_per_group);
  }
  Random none = Random::none();
  Index in = table.channels;

  Sequential<S> net;
  net.add("conv1", Conv2d<S>({.in_channels = 3, .out_channels = in, .kernel_size = 7, .stride = 2, .padding = 3,
                              .bias = o.norm.none()}, none));
  if (!o.norm.none()) net.add("bn1", o.norm(in));
  net.add("relu", ReLU<S>());
  net.add("maxpool", MaxPool2d<S>({.kernel_size = 3, .stride = 2, .padding = 1}));
  for (std::size_t stage = 0; stage < table.blocks.size(); ++stage) {
    const Index channels = table.channels << stage, out = table.bottleneck ? 4 * channels : channels;
    Sequential<S> layer;
    for (Index i = 0; i < table.blocks[stage]; ++i) {
      const Index stride = stage > 0 && i == 0 ? 2 : 1;
      if (table.bottleneck) {
        layer.add(Bottleneck<S>({.in_channels = in, .channels = channels * o.width_per_group / 64 * o.groups,
                                 .out_channels = out, .stride = stride, .groups = o.groups, .norm = o.norm,
                                 .shortcut_name = "downsample"}, none));
      } else {
        layer.add(ResidualBlock<S>({.in_channels = in, .out_channels = out, .stride = stride, .norm = o.norm,
                                    .shortcut_name = "downsample"}, none));
      }
      in = out;
    }
    net.add("layer" + std::to_string(stage + 1), std::move(layer));
  }
  net.add("avgpool", GlobalAvgPool2d<S>());
  net.add("fc", Linear<S>({.in_features = in, .out_features = o.num_classes}, random));

  detail::draw_convolutions<S>(net, Fan::out, random);
  if (o.zero_init_residual) {
    for (auto& [name, p] : net.named_parameters()) {
      if (name.ends_with(table.bottleneck ? ".bn3.weight" : ".bn2.weight")) p->value = Tensor<S>(p->value.shape());
    }
  }
  return net;
}

template <typename S>
Sequential<S> resnet18(const ResNetOptions<S>& o, Random& random) {
  return resnet<S>({.bottleneck = false, .blocks = {2, 2, 2, 2}}, o, random);
}
template <typename S>
Sequential<S> resnet34(const ResNetOptions<S>& o, Random& random) {
  return resnet<S>({.bottleneck = false, .blocks = {3, 4, 6, 3}}, o, random);
}
/// With fifty layers:
///
///     Random rng(42);
///     Sequential<float> net = resnet50<float>({.num_classes = 10}, rng);
template <typename S>
Sequential<S> resnet50(const ResNetOptions<S>& o, Random& random) {
  return resnet<S>({.bottleneck = true, .blocks = {3, 4, 6, 3}}, o, random);
}
template <typename S>
Sequential<S> resnet101(const ResNetOptions<S>& o, Random& random) {
  return resnet<S>({.bottleneck = true, .blocks = {3, 4, 23, 3}}, o, random);
}
template <typename S>
Sequential<S> resnet152(const ResNetOptions<S>& o, Random& random) {
  return resnet<S>({.bottleneck = true, .blocks = {3, 8, 36, 3}}, o, random);
}

/// 32 groups of 4 channels, whatever `o` says of them. Xie, Girshick, Dollár, Tu and He, "Aggregated Residual
/// Transformations for Deep Neural Networks" (2017).
template <typename S>
Sequential<S> resnext50_32x4d(ResNetOptions<S> o, Random& random) {
  o.groups = 32;
  o.width_per_group = 4;
  return resnet50<S>(o, random);
}
/// 32 groups of 8 channels, whatever `o` says of them.
template <typename S>
Sequential<S> resnext101_32x8d(ResNetOptions<S> o, Random& random) {
  o.groups = 32;
  o.width_per_group = 8;
  return resnet101<S>(o, random);
}
/// Twice as wide inside its bottlenecks, whatever `o` says of that. Zagoruyko and Komodakis, "Wide Residual Networks"
/// (2016).
template <typename S>
Sequential<S> wide_resnet50_2(ResNetOptions<S> o, Random& random) {
  o.width_per_group = 128;
  return resnet50<S>(o, random);
}

}  // namespace residua::inline RESIDUA_ABI
