// Norm: which normalisation a block uses.
#pragma once

#include <concepts>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/layers/batch_norm.hpp>

namespace residua::inline RESIDUA_ABI {

/// A function from a number of channels to a layer, or the name of a usual one:
///
///     "none"       no normalisation; the block's convolutions get a bias instead
///     "batch"      BatchNorm
///     "layer"      LayerNorm over the channels of each pixel
///     "group"      GroupNorm with 32 groups, or fewer where that would leave less than 4 channels in each
///     "instance"   InstanceNorm, with weight and bias
///     "rms"        RMSNorm over the channels of each pixel
///
///     .norm = "group"
///     .norm = [](Index channels) { return GroupNorm<float>({.num_groups = 8, .num_channels = channels}); }
///
/// Throws Error for another name.
template <typename S>
class Norm {
 public:
  Norm(std::string_view name) : make_(named(name)) {}
  Norm(const std::string& name) : Norm(std::string_view(name)) {}
  Norm(const char* name) : Norm(std::string_view(name)) {}

  template <std::invocable<Index> F>
  Norm(F make) : make_([f = std::move(make)](Index channels) -> Layer<S> { return f(channels); }) {}

  bool none() const { return !make_; }
  Layer<S> operator()(Index channels) const { return make_(channels); }

 private:
  using Make = std::function<Layer<S>(Index)>;

  static Make named(std::string_view name) {
    if (name == "none") return {};
    if (name == "batch") return [](Index c) { return BatchNorm<S>({.num_features = c}); };
    fail("Norm", "expected one of none, batch, layer, group, instance, rms, got '", name, "'");
  }

  Make make_;
};

}  // namespace residua::inline RESIDUA_ABI
