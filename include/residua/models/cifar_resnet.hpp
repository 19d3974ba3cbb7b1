// Residual networks for CIFAR, from 20 layers to more than a thousand.
#pragma once

#include <string>

#include <residua/blocks/gradient_checkpoint.hpp>
#include <residua/blocks/residual_block.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/linear.hpp>
#include <residua/models/draw.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename S>
struct CifarResNetOptions {
  Index num_classes = 10;
  Shortcut shortcut = Shortcut::subsample;  ///< option A; Shortcut::projection is option B
  Order order = Order::post_activation;     ///< Order::pre_activation for the networks of 2016
  bool bottleneck = false;                  ///< three convolutions a block, 9n + 2 layers; else two, 6n + 2
  Norm<S> norm = norm::batch;
  Index in_channels = 3;  ///< of the images
  Index channels = 16;    ///< of the first stage; each further one has twice as many, four times that between bottlenecks
  bool checkpoint = false;  ///< backward runs the blocks again, each stage checkpointed: memory grows with √depth
};

/// images (N, H, W, in_channels) → logits (N, num_classes), of any size; CIFAR's is 32×32×3.
///
/// A 3×3 convolution, three stages of n blocks each, the last two at half the size of the one before, global pooling and
/// a linear map. Names are those of akamaster's pytorch_resnet_cifar10: conv1, bn1, layer1.0.conv1, …, linear, with
/// shortcut.0 and shortcut.1 in option B. In pre-activation bn1 stands behind the last stage. Where a pre-activated block
/// keeps the shape, the first included, norm and activation are inside of its branch; where it projects, before the fork.
/// Convolutions and the linear map start Kaiming-normal by their fan in. Throws Error for a depth that no n gives.
///
/// He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015), section 4.2, and "Identity Mappings in
/// Deep Residual Networks" (2016).
template <typename S>
Sequential<S> cifar_resnet(Index depth, const CifarResNetOptions<S>& o, Random& random) {
  const Index layers = o.bottleneck ? 9 : 6, blocks = (depth - 2) / layers;
  if (blocks < 1 || depth != layers * blocks + 2) {
    fail("cifar_resnet", "expected a depth of ", layers, "n + 2 layers, n at least 1, got ", depth);
  }
  const bool before = o.order == Order::post_activation;
  Random none = Random::none();
  Index in = o.channels;

  Sequential<S> net;
  const auto norm_and_activation = [&](Index channels) {
    if (!o.norm.none()) net.add("bn1", o.norm(channels));
    net.add("relu", ReLU<S>());
  };
  net.add("conv1", Conv2d<S>({.in_channels = o.in_channels, .out_channels = in, .kernel_size = 3, .padding = 1,
                              .bias = o.norm.none()}, none));
  if (before) norm_and_activation(in);
  for (int stage = 0; stage < 3; ++stage) {
    const Index channels = o.channels << stage, out = o.bottleneck ? 4 * channels : channels;
    Sequential<S> layer;
    for (Index i = 0; i < blocks; ++i) {
      const Index stride = stage > 0 && i == 0 ? 2 : 1;
      if (o.bottleneck) {
        layer.add(Bottleneck<S>({.in_channels = in, .channels = channels, .out_channels = out, .stride = stride,
                                 .order = o.order, .shortcut = o.shortcut, .norm = o.norm}, none));
      } else {
        layer.add(ResidualBlock<S>({.in_channels = in, .out_channels = out, .stride = stride, .order = o.order,
                                    .shortcut = o.shortcut, .norm = o.norm}, none));
      }
      in = out;
    }
    if (o.checkpoint) layer = checkpointed(std::move(layer));
    net.add("layer" + std::to_string(stage + 1), std::move(layer));
  }
  if (!before) norm_and_activation(in);
  net.add("avgpool", GlobalAvgPool2d<S>());
  Linear<S> linear({.in_features = in, .out_features = o.num_classes}, random);
  linear.weight.value = init::kaiming_normal<S>(linear.weight.value.shape(), in, random);
  net.add("linear", std::move(linear));

  detail::draw_convolutions<S>(net, Fan::in, random);
  return net;
}

/// Of He et al. 2015: two convolutions a block, option A unless `o` says otherwise.
template <typename S>
Sequential<S> cifar_resnet20(const CifarResNetOptions<S>& o, Random& random) { return cifar_resnet<S>(20, o, random); }
template <typename S>
Sequential<S> cifar_resnet32(const CifarResNetOptions<S>& o, Random& random) { return cifar_resnet<S>(32, o, random); }
template <typename S>
Sequential<S> cifar_resnet44(const CifarResNetOptions<S>& o, Random& random) { return cifar_resnet<S>(44, o, random); }
template <typename S>
Sequential<S> cifar_resnet56(const CifarResNetOptions<S>& o, Random& random) { return cifar_resnet<S>(56, o, random); }
template <typename S>
Sequential<S> cifar_resnet110(const CifarResNetOptions<S>& o, Random& random) { return cifar_resnet<S>(110, o, random); }
template <typename S>
Sequential<S> cifar_resnet1202(const CifarResNetOptions<S>& o, Random& random) { return cifar_resnet<S>(1202, o, random); }

/// Of He et al. 2016: pre-activation, two convolutions a block, option A unless `o` says otherwise.
template <typename S>
Sequential<S> cifar_preact_resnet110(CifarResNetOptions<S> o, Random& random) {
  o.order = Order::pre_activation;
  return cifar_resnet<S>(110, o, random);
}
/// Of He et al. 2016: pre-activation, bottlenecks, projections where the shape changes.
template <typename S>
Sequential<S> cifar_preact_resnet164(CifarResNetOptions<S> o, Random& random) {
  o.order = Order::pre_activation;
  o.bottleneck = true;
  o.shortcut = Shortcut::projection;
  return cifar_resnet<S>(164, o, random);
}
template <typename S>
Sequential<S> cifar_preact_resnet1001(CifarResNetOptions<S> o, Random& random) {
  o.order = Order::pre_activation;
  o.bottleneck = true;
  o.shortcut = Shortcut::projection;
  return cifar_resnet<S>(1001, o, random);
}

}  // namespace residua::inline RESIDUA_ABI
