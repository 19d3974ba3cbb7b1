// MobileNetV2: residual blocks that are narrow outside and wide, but depthwise, inside.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <residua/blocks/norm.hpp>
#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/relu6.hpp>
#include <residua/models/draw.hpp>

namespace residua::inline RESIDUA_ABI {

/// n blocks of c channels that are t times as many inside; the first has stride s. A row of Table 2 of Sandler et al.
struct InvertedResidualSetting {
  Index t, c, n, s;
};

template <typename S>
struct MobileNetV2Options {
  Index num_classes = 1000;
  double width_mult = 1;
  std::vector<InvertedResidualSetting> inverted_residual_setting{
      {1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  Index round_nearest = 8;  ///< channels are multiples of this
  Norm<S> norm = norm::batch;
  double dropout = 0.2;
};

namespace detail {

/// The multiple of `divisor` nearest to v, and not more than a tenth below it.
inline Index make_divisible(double v, Index divisor) {
  const Index nearest = std::max(divisor, static_cast<Index>(v + static_cast<double>(divisor) / 2) / divisor * divisor);
  return static_cast<double>(nearest) < 0.9 * v ? nearest + divisor : nearest;
}

}  // namespace detail

/// images (N, H, W, 3) → logits (N, num_classes), of any size.
///
/// Names and weights are torchvision's: features.0.0, …, features.1.conv.0.0, …, features.18.1, classifier.1.
/// Convolutions start Kaiming-normal by their fan out, the classifier normal with standard deviation 0.01.
///
///     Random rng(42);
///     Sequential<float> net = mobilenet_v2<float>({.width_mult = 0.5}, rng);
///
/// Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018).
template <typename S>
Sequential<S> mobilenet_v2(const MobileNetV2Options<S>& o, Random& random) {
  if (!(o.width_mult > 0)) fail("mobilenet_v2", "expected a positive width_mult, got ", o.width_mult);
  detail::require_at_least("mobilenet_v2", "round_nearest", 1, o.round_nearest);
  Random none = Random::none();

  const auto conv_norm = [&](Index in, Index out, Index kernel, Index stride, Index groups) {
    Sequential<S> layers(Conv2d<S>({.in_channels = in, .out_channels = out, .kernel_size = kernel, .stride = stride,
                                    .padding = kernel / 2, .groups = groups, .bias = o.norm.none()}, none));
    return o.norm.none() ? layers : layers.add(o.norm(out));
  };
  const auto conv_norm_relu6 = [&](Index in, Index out, Index kernel, Index stride, Index groups) {
    return conv_norm(in, out, kernel, stride, groups).add(ReLU6<S>());
  };
  const auto inverted_residual = [&](Index in, Index out, Index stride, Index expand_ratio) -> Layer<S> {
    const Index hidden = in * expand_ratio;
    Sequential<S> branch;
    if (expand_ratio != 1) branch.add(conv_norm_relu6(in, hidden, 1, 1, 1));  // wider
    branch.add(conv_norm_relu6(hidden, hidden, 3, stride, hidden));           // depthwise
    const auto linear = conv_norm(hidden, out, 1, 1, 1);                      // narrow again
    for (Index i = 0; i < linear.size(); ++i) branch.add(linear[i]);
    if (stride == 1 && in == out) return Residual<S>(std::move(branch), Identity<S>(), Identity<S>(), {"conv", "", ""});
    return Sequential<S>().add("conv", std::move(branch));
  };

  Index in = detail::make_divisible(32 * o.width_mult, o.round_nearest);
  const Index last = detail::make_divisible(1280 * std::max(1.0, o.width_mult), o.round_nearest);
  Sequential<S> features;
  features.add(conv_norm_relu6(3, in, 3, 2, 1));
  for (const auto& [t, c, n, s] : o.inverted_residual_setting) {
    const Index out = detail::make_divisible(static_cast<double>(c) * o.width_mult, o.round_nearest);
    for (Index i = 0; i < n; ++i) {
      features.add(inverted_residual(in, out, i == 0 ? s : 1, t));
      in = out;
    }
  }
  features.add(conv_norm_relu6(in, last, 1, 1, 1));

  Linear<S> linear({.in_features = last, .out_features = o.num_classes}, none);
  linear.weight.value = init::normal<S>(linear.weight.value.shape(), 0, 0.01, random);

  Sequential<S> net;
  net.add("features", std::move(features));
  net.add("avgpool", GlobalAvgPool2d<S>());
  net.add("classifier", Sequential<S>(Dropout<S>({.p = o.dropout}), std::move(linear)));
  detail::draw_convolutions<S>(net, Fan::out, random);
  return net;
}

}  // namespace residua::inline RESIDUA_ABI
