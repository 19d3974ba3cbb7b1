// GoogLeNet: Inception modules, with two auxiliary heads.
#pragma once

#include <string>
#include <utility>

#include <residua/blocks/concat.hpp>
#include <residua/blocks/trunk.hpp>
#include <residua/layers/adaptive_avg_pool2d.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/layers/flatten.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/max_pool2d.hpp>
#include <residua/models/conv_norm_relu.hpp>

namespace residua::inline RESIDUA_ABI {

struct GoogLeNetOptions {
  Index num_classes = 1000;
  bool aux_logits = true;        ///< with the heads aux1 and aux2
  bool transform_input = false;  ///< images are normalised as for torchvision's other networks
  double dropout = 0.2;
  double dropout_aux = 0.7;
  double width_mult = 1;         ///< times as many channels everywhere, rounded down
};

namespace detail {

/// One row of Table 1 of Szegedy et al. 2014.
struct InceptionRow {
  Index in, conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_proj;
  Index out() const { return conv1x1 + conv3x3 + conv5x5 + pool_proj; }
};

/// [conv 1×1, conv 1×1 – conv 3×3, conv 1×1 – conv 3×3, pool – conv 1×1]; in the paper the third is 5×5.
template <typename S>
Concat<S> inception_module(const InceptionRow& r) {
  const auto conv = [](Index in, Index out, Index kernel) {
    return conv_norm_relu<S>({.in_channels = in, .out_channels = out, .kernel_size = kernel, .padding = kernel / 2});
  };
  const MaxPool2d<S> pool({.kernel_size = 3, .stride = 1, .padding = 1, .ceil_mode = true});
  Concat<S> module;
  module.add("branch1", conv(r.in, r.conv1x1, 1));
  module.add("branch2", Sequential<S>(conv(r.in, r.reduce3x3, 1), conv(r.reduce3x3, r.conv3x3, 3)));
  module.add("branch3", Sequential<S>(conv(r.in, r.reduce5x5, 1), conv(r.reduce5x5, r.conv5x5, 3)));
  module.add("branch4", Sequential<S>(pool, conv(r.in, r.pool_proj, 1)));
  return module;
}

template <typename S>
Sequential<S> googlenet_head(Index in, Index channels, Index hidden, Index num_classes, double dropout, Random& random) {
  Sequential<S> head;
  head.add("avgpool", AdaptiveAvgPool2d<S>({.output_size = 4}));
  head.add("conv", conv_norm_relu<S>({.in_channels = in, .out_channels = channels, .kernel_size = 1}));
  head.add("flatten", Flatten<S>());
  head.add("fc1", Linear<S>({.in_features = 16 * channels, .out_features = hidden}, random));
  head.add("relu", ReLU<S>());
  head.add("dropout", Dropout<S>({.p = dropout}));
  head.add("fc2", Linear<S>({.in_features = hidden, .out_features = num_classes}, random));
  return head;
}

}  // namespace detail

/// images (N, H, W, 3) → logits (N, num_classes), of any size. With aux_logits forward_all gives those of the heads aux1
/// and aux2 behind inception4a and inception4d, too; the paper adds their losses times 0.3.
///
///     Trunk<float> net = googlenet<float>({.num_classes = 10}, rng);
///     auto outputs = net.forward_all(images, tape);              // logits, aux1's, aux2's
///
/// Names and weights are torchvision's: conv1.conv, conv1.bn, …, inception3a.branch2.0.conv, …, aux1.fc2, aux2.fc2, fc. It
/// has norms behind all convolutions. Weights start normal with standard deviation 0.01.
///
/// Szegedy et al., "Going Deeper with Convolutions" (2014).
template <typename S>
Trunk<S> googlenet(const GoogLeNetOptions& o, Random& random) {
  if (!(o.width_mult > 0)) fail("googlenet", "expected a positive width_mult, got ", o.width_mult);
  const auto wide = [&](Index channels) { return static_cast<Index>(static_cast<double>(channels) * o.width_mult); };
  const auto pool = [](Index kernel) { return MaxPool2d<S>({.kernel_size = kernel, .stride = 2, .ceil_mode = true}); };
  Index in = wide(192);

  Trunk<S> net;
  const auto inception = [&](const std::string& name, Index conv1x1, Index reduce3x3, Index conv3x3, Index reduce5x5,
                             Index conv5x5, Index pool_proj) {
    const detail::InceptionRow row{in, wide(conv1x1), wide(reduce3x3), wide(conv3x3), wide(reduce5x5), wide(conv5x5),
                                   wide(pool_proj)};
    net.add(name, detail::inception_module<S>(row));
    in = row.out();
    return in;
  };
  const auto aux = [&](const std::string& name, const std::string& after, Index channels) {
    net.add_head(name, detail::googlenet_head<S>(channels, wide(128), wide(1024), o.num_classes, o.dropout_aux, random),
                 after);
  };

  if (o.transform_input) net.add("transform_input", detail::transform_input<S>());
  net.add("conv1", detail::conv_norm_relu<S>({.in_channels = 3, .out_channels = wide(64), .kernel_size = 7, .stride = 2,
                                              .padding = 3}));
  net.add("maxpool1", pool(3));
  net.add("conv2", detail::conv_norm_relu<S>({.in_channels = wide(64), .out_channels = wide(64), .kernel_size = 1}));
  net.add("conv3", detail::conv_norm_relu<S>({.in_channels = wide(64), .out_channels = in, .kernel_size = 3,
                                              .padding = 1}));
  net.add("maxpool2", pool(3));
  //                        1×1       3×3        5×5  pool
  inception("inception3a",   64,  96, 128, 16,  32,   32);
  inception("inception3b",  128, 128, 192, 32,  96,   64);
  net.add("maxpool3", pool(3));
  const Index out4a = inception("inception4a", 192, 96, 208, 16, 48, 64);
  inception("inception4b",  160, 112, 224, 24,  64,   64);
  inception("inception4c",  128, 128, 256, 24,  64,   64);
  const Index out4d = inception("inception4d", 112, 144, 288, 32, 64, 64);
  inception("inception4e",  256, 160, 320, 32, 128,  128);
  net.add("maxpool4", pool(2));
  inception("inception5a",  256, 160, 320, 32, 128,  128);
  inception("inception5b",  384, 192, 384, 48, 128,  128);
  if (o.aux_logits) {
    aux("aux1", "inception4a", out4a);
    aux("aux2", "inception4d", out4d);
  }
  net.add("avgpool", GlobalAvgPool2d<S>());
  net.add("dropout", Dropout<S>({.p = o.dropout}));
  net.add("fc", Linear<S>({.in_features = in, .out_features = o.num_classes}, random));

  detail::draw_truncated<S>(net, 0.01, random);
  return net;
}

}  // namespace residua::inline RESIDUA_ABI
