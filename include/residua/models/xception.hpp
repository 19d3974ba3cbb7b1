// Xception: residual blocks of separable convolutions.
#pragma once

#include <string>
#include <utility>

#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/max_pool2d.hpp>
#include <residua/layers/relu.hpp>
#include <residua/models/draw.hpp>

namespace residua::inline RESIDUA_ABI {

struct XceptionOptions {
  Index num_classes = 1000;
  double drop_rate = 0;   ///< of the Dropout before the last layer
  double width_mult = 1;  ///< times as many channels everywhere, rounded down
};

namespace detail {

struct XceptionBlock {
  Index in, out, repetitions, stride;
  bool start_with_relu = true;
  bool grow_first = true;  ///< the first convolution changes the number of channels, else the last one
};

/// A depthwise 3×3 convolution and a 1×1 convolution.
template <typename S>
Sequential<S> separable_conv(Index in, Index out) {
  Random none = Random::none();
  Sequential<S> layers;
  layers.add("conv1", Conv2d<S>({.in_channels = in, .out_channels = in, .kernel_size = 3, .padding = 1, .groups = in,
                                 .bias = false}, none));
  layers.add("pointwise", Conv2d<S>({.in_channels = in, .out_channels = out, .kernel_size = 1, .bias = false}, none));
  return layers;
}

/// y = rep(x) + skip(x),   rep: (relu – separable conv – norm) a few times, then perhaps a pool;   skip: x or conv 1×1 – norm
template <typename S>
Residual<S> xception_block(const XceptionBlock& b) {
  Random none = Random::none();
  Sequential<S> rep;
  for (Index i = 0; i < b.repetitions; ++i) {
    const Index grows = b.grow_first ? 0 : b.repetitions - 1;
    const Index out = i < grows ? b.in : b.out;
    if (i > 0 || b.start_with_relu) rep.add(ReLU<S>());
    rep.add(separable_conv<S>(i <= grows ? b.in : b.out, out));
    rep.add(BatchNorm<S>({.num_features = out}));
  }
  if (b.stride != 1) rep.add(MaxPool2d<S>({.kernel_size = 3, .stride = b.stride, .padding = 1}));
  if (b.in == b.out && b.stride == 1) {
    return Residual<S>(std::move(rep), Identity<S>(), Identity<S>(), {"rep", "", ""});
  }
  Sequential<S> skip;  // a sum has no order: skip stands first as in timm
  skip.add("skip", Conv2d<S>({.in_channels = b.in, .out_channels = b.out, .kernel_size = 1, .stride = b.stride,
                              .bias = false}, none));
  skip.add("skipbn", BatchNorm<S>({.num_features = b.out}));
  return Residual<S>(std::move(skip), std::move(rep), Identity<S>(), {"", "rep", ""});
}

}  // namespace detail

/// images (N, H, W, 3) → logits (N, num_classes), of 299×299 or any other size.
///
/// Names and weights are those of timm's legacy_xception: conv1, bn1, conv2, bn2, block1.skip, block1.skipbn,
/// block1.rep.0.conv1, block1.rep.0.pointwise, …, conv3.conv1, bn3, conv4.conv1, bn4, fc. Convolutions start Kaiming-normal
/// by their fan out.
///
/// Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions" (2017), figure 5.
template <typename S>
Sequential<S> xception(const XceptionOptions& o, Random& random) {
  if (!(o.width_mult > 0)) fail("xception", "expected a positive width_mult, got ", o.width_mult);
  const auto wide = [&](Index channels) { return static_cast<Index>(static_cast<double>(channels) * o.width_mult); };
  Random none = Random::none();

  Sequential<S> net;
  const auto norm_relu = [&](const std::string& number, Index channels) {
    net.add("bn" + number, BatchNorm<S>({.num_features = channels}));
    net.add("act" + number, ReLU<S>());
  };
  int number = 0;
  const auto block = [&](detail::XceptionBlock b) {
    b.in = wide(b.in);
    b.out = wide(b.out);
    net.add("block" + std::to_string(++number), detail::xception_block<S>(b));
  };

  net.add("conv1", Conv2d<S>({.in_channels = 3, .out_channels = wide(32), .kernel_size = 3, .stride = 2, .bias = false}, none));
  norm_relu("1", wide(32));
  net.add("conv2", Conv2d<S>({.in_channels = wide(32), .out_channels = wide(64), .kernel_size = 3, .bias = false}, none));
  norm_relu("2", wide(64));
  block({.in = 64, .out = 128, .repetitions = 2, .stride = 2, .start_with_relu = false});
  block({.in = 128, .out = 256, .repetitions = 2, .stride = 2});
  block({.in = 256, .out = 728, .repetitions = 2, .stride = 2});
  for (int i = 0; i < 8; ++i) block({.in = 728, .out = 728, .repetitions = 3, .stride = 1});
  block({.in = 728, .out = 1024, .repetitions = 2, .stride = 2, .grow_first = false});
  net.add("conv3", detail::separable_conv<S>(wide(1024), wide(1536)));
  norm_relu("3", wide(1536));
  net.add("conv4", detail::separable_conv<S>(wide(1536), wide(2048)));
  norm_relu("4", wide(2048));
  net.add("global_pool", GlobalAvgPool2d<S>());
  net.add("dropout", Dropout<S>({.p = o.drop_rate}));
  net.add("fc", Linear<S>({.in_features = wide(2048), .out_features = o.num_classes}, random));

  detail::draw_convolutions<S>(net, Fan::out, random);
  return net;
}

}  // namespace residua::inline RESIDUA_ABI
