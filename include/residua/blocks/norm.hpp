// Norm: which normalisation a block uses.
#pragma once

#include <concepts>
#include <functional>
#include <numeric>
#include <string_view>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/group_norm.hpp>
#include <residua/layers/instance_norm.hpp>
#include <residua/layers/layer_norm.hpp>
#include <residua/layers/rms_norm.hpp>

namespace residua::inline RESIDUA_ABI {

/// The usual norms by name, for a number of channels. Whoever uses one compiles one.
namespace norm {

/// No normalisation: the block's convolutions get a bias instead.
struct None {};

/// BatchNorm.
struct Batch {
  template <typename S> static Layer<S> make(Index channels) { return BatchNorm<S>({.num_features = channels}); }
};

/// LayerNorm over the channels of each pixel.
struct LayerOver {
  template <typename S> static Layer<S> make(Index channels) { return LayerNorm<S>(Shape{channels}); }
};

/// GroupNorm with 32 groups, or fewer where that would leave less than 4 channels in each.
struct Group {
  template <typename S> static Layer<S> make(Index channels) {
    const Index groups = std::gcd<Index, Index>(32, std::max<Index>(1, channels / 4));
    return GroupNorm<S>({.num_groups = std::gcd(groups, channels), .num_channels = channels});
  }
};

/// InstanceNorm with weight and bias.
struct Instance {
  template <typename S> static Layer<S> make(Index channels) {
    return InstanceNorm<S>({.num_features = channels, .affine = true});
  }
};

/// RMSNorm over the channels of each pixel.
struct RMS {
  template <typename S> static Layer<S> make(Index channels) { return RMSNorm<S>({.normalized_shape = {channels}}); }
};

inline constexpr None none;
inline constexpr Batch batch;
inline constexpr LayerOver layer;
inline constexpr Group group;
inline constexpr Instance instance;
inline constexpr RMS rms;

}  // namespace norm

/// Which norm a block uses: a usual one by name, or any function from a number of channels to a layer.
///
///     .norm = norm::group
///     .norm = [](Index channels) { return GroupNorm<float>({.num_groups = 8, .num_channels = channels}); }
template <typename S>
class Norm {
 public:
  Norm(norm::None) {}

  template <typename Name>
    requires requires(Index channels) { Name::template make<S>(channels); }
  Norm(Name) : make_(&Name::template make<S>) {}

  template <std::invocable<Index> F>
  Norm(F make) : make_([f = std::move(make)](Index channels) -> Layer<S> { return f(channels); }) {}

  /// By a name that is only known at run time: "none", "batch", "layer", "group", "instance" or "rms", else an Error.
  static Norm named(std::string_view name) {
    if (name == "none") return norm::none;
    if (name == "batch") return norm::batch;
    if (name == "layer") return norm::layer;
    if (name == "group") return norm::group;
    if (name == "instance") return norm::instance;
    if (name == "rms") return norm::rms;
    fail("Norm", "expected one of none, batch, layer, group, instance, rms, got '", name, "'");
  }

  bool none() const { return !make_; }
  Layer<S> operator()(Index channels) const { return make_(channels); }

 private:
  std::function<Layer<S>(Index)> make_;
};

}  // namespace residua::inline RESIDUA_ABI
