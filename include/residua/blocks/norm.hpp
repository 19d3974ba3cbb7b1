// Norm: which normalisation a block uses.
#pragma once

#include <concepts>
#include <functional>
#include <numeric>
#include <string_view>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/layers/batch_norm.hpp>

namespace residua::inline RESIDUA_ABI {

/// The usual norms by name, for a number of channels. Whoever uses one compiles one.
namespace norm {

/// No normalisation: the block's convolutions get a bias instead.
struct None {};

/// BatchNorm.
struct Batch {
  template <typename S> static Layer<S> make(Index channels) { return BatchNorm<S>({.num_features = channels}); }
};

inline constexpr None none;
inline constexpr Batch batch;

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
    fail("Norm", "expected one of none, batch, layer, group, instance, rms, got '", name, "'");
  }

  bool none() const { return !make_; }
  Layer<S> operator()(Index channels) const { return make_(channels); }

 private:
  std::function<Layer<S>(Index)> make_;
};

}  // namespace residua::inline RESIDUA_ABI
