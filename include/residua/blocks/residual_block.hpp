// ResidualBlock and Bottleneck: the blocks residual networks are made of.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include <residua/blocks/norm.hpp>
#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/relu.hpp>
#include <residua/layers/subsample.hpp>

namespace residua::inline RESIDUA_ABI {

/// Where norms and activations stand in a residual block.
enum class Order {
  post_activation,  ///< conv–norm–relu–conv–norm, relu after the sum (He et al. 2015)
  pre_activation,   ///< norm–relu–conv–norm–relu–conv, nothing after the sum (He et al. 2016, "Identity Mappings")
  plain,            ///< norm–conv–norm–conv, no activation at all
};

/// What the shortcut does where the branch changes the shape; elsewhere it is the identity.
enum class Shortcut {
  identity,    ///< nothing: a change of shape is an Error
  projection,  ///< a strided 1×1 convolution with norm (option B); in pre-activation, of the activated input, without
  subsample,   ///< strided subsampling with zero-padded channels, without parameters (option A)
};

template <typename S>
struct ResidualBlockOptions {
  Index in_channels = 0;
  Index out_channels = 0;
  Pair stride = 1;
  Order order = Order::post_activation;
  Shortcut shortcut = Shortcut::projection;
  Norm<S> norm = norm::batch;
  Layer<S> activation = ReLU<S>();
  std::string shortcut_name = "shortcut";
};

template <typename S>
struct BottleneckOptions {
  Index in_channels = 0;
  Index channels = 0;  ///< of the 3×3 convolution
  Index out_channels = 0;
  Pair stride = 1;
  Index groups = 1;
  Order order = Order::post_activation;
  Shortcut shortcut = Shortcut::projection;
  Norm<S> norm = norm::batch;
  Layer<S> activation = ReLU<S>();
  std::string shortcut_name = "shortcut";
};

namespace detail {

/// The residual block around a chain of convolutions: names conv1, bn1, conv2, bn2, …, and the shortcut's.
template <typename S, typename Options>
Sequential<S> residual_block(std::string_view block, const Options& o, std::initializer_list<Conv2dOptions> convolutions,
                             Random& random) {
  require_at_least(block, "in_channels", 1, o.in_channels);
  require_at_least(block, "out_channels", 1, o.out_channels);
  require_at_least(block, "stride", 1, o.stride);
  if (o.shortcut_name.empty() || o.shortcut_name.find('.') != std::string::npos) {
    fail(block, "expected a shortcut_name that is not empty and without dots, got '", o.shortcut_name, "'");
  }
  const bool reshapes = o.in_channels != o.out_channels || o.stride != Pair(1);
  if (reshapes && o.shortcut == Shortcut::identity) {
    fail(block, "expected in_channels = out_channels and stride 1 for an identity shortcut, got ", o.in_channels, ", ",
         o.out_channels, " and ", o.stride);
  }
  const bool projects = reshapes && o.shortcut == Shortcut::projection;
  const bool shared_activation = projects && o.order == Order::pre_activation;

  Sequential<S> before, branch;
  for (std::size_t i = 0; i < convolutions.size(); ++i) {
    const bool first = i == 0, last = i + 1 == convolutions.size();
    Conv2dOptions convolution = convolutions.begin()[i];
    convolution.bias = o.norm.none();
    // In pre-activation the projection sees the activated input too, so the first norm and activation stand before the fork.
    Sequential<S>& front = first && shared_activation ? before : branch;
    const auto add = [&](Sequential<S>& to, const char* kind, Layer<S> part) {
      to.add(kind + std::to_string(i + 1), std::move(part));
    };
    const bool post = o.order == Order::post_activation;
    if (!post && !o.norm.none()) add(front, "bn", o.norm(convolution.in_channels));
    if (o.order == Order::pre_activation) add(front, "relu", o.activation);
    add(branch, "conv", Conv2d<S>(convolution, random));
    if (post && !o.norm.none()) add(branch, "bn", o.norm(convolution.out_channels));
    if (post && !last) add(branch, "relu", o.activation);
  }

  for (Index i = 0; i < branch.size(); ++i) {
    if (branch.name(i) == o.shortcut_name) fail(block, "expected a shortcut_name that no part has, got ", o.shortcut_name);
  }

  Layer<S> shortcut = Identity<S>();
  if (reshapes && o.shortcut == Shortcut::subsample) {
    shortcut = Subsample<S>({o.in_channels, o.out_channels, o.stride});
  }
  if (projects) {
    const bool with_norm = !o.norm.none() && !shared_activation;
    Sequential<S> projection(Conv2d<S>({.in_channels = o.in_channels,
                                        .out_channels = o.out_channels,
                                        .kernel_size = 1,
                                        .stride = o.stride,
                                        .bias = o.norm.none()},
                                       random));
    if (with_norm) projection.add(o.norm(o.out_channels));
    shortcut = std::move(projection);
  }
  Layer<S> activation = Identity<S>();
  if (o.order == Order::post_activation) activation = o.activation;
  before.add("", Residual<S>(std::move(branch), std::move(shortcut), std::move(activation), {"", o.shortcut_name, "relu"}));
  return before;
}

}  // namespace detail

/// Two 3×3 convolutions and a shortcut around them; the first convolution has the stride.
///
///     x (N, H, W, in_channels) → y (N, ⌈H/stride⌉, ⌈W/stride⌉, out_channels)
///
/// Its parts are conv1, bn1, conv2, bn2 and, where the shortcut projects, shortcut.0 and shortcut.1. The convolutions
/// have a bias exactly when there is no norm. Throws Error for options that do not fit together.
template <typename S>
class ResidualBlock : public Sequential<S> {
 public:
  ResidualBlock(const ResidualBlockOptions<S>& o, Random& random) : Sequential<S>(built(o, random)) {}

  /// One that was taken apart, put together again.
  explicit ResidualBlock(Sequential<S> layers) : Sequential<S>(std::move(layers)) {}

 private:
  static Sequential<S> built(const ResidualBlockOptions<S>& o, Random& random) {
    return detail::residual_block<S>("ResidualBlock", o, {
        {.in_channels = o.in_channels, .out_channels = o.out_channels, .kernel_size = 3, .stride = o.stride, .padding = 1},
        {.in_channels = o.out_channels, .out_channels = o.out_channels, .kernel_size = 3, .padding = 1}}, random);
  }
};

/// A 1×1 convolution to `channels`, a 3×3 one (with the stride, in `groups`), a 1×1 one to out_channels, and a shortcut.
///
///     x (N, H, W, in_channels) → y (N, ⌈H/stride⌉, ⌈W/stride⌉, out_channels)
///
/// Its parts are conv1, bn1, …, conv3, bn3 and, where the shortcut projects, shortcut.0 and shortcut.1. With groups it is
/// the block of ResNeXt (Xie et al. 2017). Throws Error for options that do not fit together.
template <typename S>
class Bottleneck : public Sequential<S> {
 public:
  Bottleneck(const BottleneckOptions<S>& o, Random& random) : Sequential<S>(built(o, random)) {}

  /// One that was taken apart, put together again.
  explicit Bottleneck(Sequential<S> layers) : Sequential<S>(std::move(layers)) {}

 private:
  static Sequential<S> built(const BottleneckOptions<S>& o, Random& random) {
    return detail::residual_block<S>("Bottleneck", o, {
        {.in_channels = o.in_channels, .out_channels = o.channels, .kernel_size = 1},
        {.in_channels = o.channels, .out_channels = o.channels, .kernel_size = 3, .stride = o.stride, .padding = 1,
         .groups = o.groups},
        {.in_channels = o.channels, .out_channels = o.out_channels, .kernel_size = 1}}, random);
  }
};

}  // namespace residua::inline RESIDUA_ABI
