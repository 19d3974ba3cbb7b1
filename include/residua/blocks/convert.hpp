// convert: the same network with another scalar.
#pragma once

#include <algorithm>
#include <optional>
#include <type_traits>
#include <utility>

#include <residua/blocks/concat.hpp>
#include <residua/blocks/gradient_checkpoint.hpp>
#include <residua/blocks/layer_scale.hpp>
#include <residua/blocks/repeat.hpp>
#include <residua/blocks/residual.hpp>
#include <residua/blocks/residual_block.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/blocks/trunk.hpp>
#include <residua/layers/adaptive_avg_pool2d.hpp>
#include <residua/layers/adaptive_layer_norm.hpp>
#include <residua/layers/avg_pool2d.hpp>
#include <residua/layers/drop_path.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/layers/flatten.hpp>
#include <residua/layers/gelu.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/leaky_relu.hpp>
#include <residua/layers/max_pool2d.hpp>
#include <residua/layers/relu6.hpp>
#include <residua/layers/rescale.hpp>
#include <residua/layers/sigmoid.hpp>
#include <residua/layers/silu.hpp>
#include <residua/layers/softmax.hpp>
#include <residua/layers/tanh.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// A layer of the same structure with scalar T; what its parameters and buffers hold comes afterwards.
/// `inner` does the same for a layer inside.
template <typename T, template <typename> class L, typename S, typename Inner>
L<T> with_scalar(const L<S>& from, Inner&& inner) {
  [[maybe_unused]] Random none = Random::none();
  if constexpr (std::is_base_of_v<Sequential<S>, L<S>>) {
    Sequential<T> to;
    for (Index i = 0; i < from.size(); ++i) to.add(from.name(i), inner(from[i]));
    return L<T>(std::move(to));
  } else if constexpr (std::is_same_v<L<S>, Concat<S>>) {
    Concat<T> to;
    for (Index i = 0; i < from.size(); ++i) to.add(from.name(i), inner(from[i]));
    return to;
  } else if constexpr (std::is_same_v<L<S>, Trunk<S>>) {
    return from.template transformed<T>(inner);
  } else if constexpr (std::is_same_v<L<S>, LayerScale<S>>) {
    return LayerScale<T>(from.options, inner(from.block));
  } else if constexpr (std::is_same_v<L<S>, Residual<S>>) {
    return Residual<T>(inner(from.branch), inner(from.shortcut), inner(from.activation), from.names);
  } else if constexpr (std::is_same_v<L<S>, Repeat<S>>) {
    return Repeat<T>(inner(from.layer), from.times);
  } else if constexpr (std::is_same_v<L<S>, Checkpoint<S>>) {
    return Checkpoint<T>(inner(from.layer));
  } else if constexpr (std::is_constructible_v<L<T>, const L<S>&>) {
    return L<T>(from);
  } else if constexpr (requires { L<T>(from.options, none); }) {
    return L<T>(from.options, none);
  } else if constexpr (requires { L<T>(from.options); }) {
    return L<T>(from.options);
  } else {
    static_assert(std::is_default_constructible_v<L<T>>,
                  "residua: to be converted, a layer needs a constructor from the same layer of another scalar");
    return L<T>();
  }
}

/// Tries each kind of layer in turn.
template <typename T, typename S, template <typename> class... Kinds>
struct StructureConverter {
  Layer<T> operator()(const Layer<S>& from) const {
    std::optional<Layer<T>> to;
    (try_kind<Kinds>(from, to) || ...);
    if (!to) {
      fail("convert", "expected layers of the library or those named as convert<scalar, YourLayer>(net), got a ",
           short_name(from.type()));
    }
    return std::move(*to);
  }

  template <template <typename> class L>
  bool try_kind(const Layer<S>& from, std::optional<Layer<T>>& to) const {
    const L<S>* layer = from.template target<L<S>>();
    if (layer != nullptr) to.emplace(with_scalar<T, L>(*layer, *this));
    return layer != nullptr;
  }
};

/// Copies the state of one network into one of the same structure and another scalar.
template <typename T, typename S, typename To, typename From>
void copy_state(const From& from, To& to) {
  From& source = const_cast<From&>(from);  // to be read only
  const auto parameters = named_parameters<S>(source);
  const auto new_parameters = named_parameters<T>(to);
  const auto buffers = named_buffers<S>(source);
  const auto new_buffers = named_buffers<T>(to);
  const auto agree = [](const auto& a, const auto& b) {
    return a.first == b.first && a.second->value.shape() == b.second->value.shape();
  };
  if (!std::equal(parameters.begin(), parameters.end(), new_parameters.begin(), new_parameters.end(), agree) ||
      !std::equal(buffers.begin(), buffers.end(), new_buffers.begin(), new_buffers.end(), agree)) {
    fail("convert", "expected a converted layer to have the parameters and buffers of the original, got ",
         new_parameters.size(), " and ", new_buffers.size(), " for ", parameters.size(), " and ", buffers.size(),
         ", or others");
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    new_parameters[i].second->value = parameters[i].second->value.template cast<T>();
    new_parameters[i].second->requires_grad = parameters[i].second->requires_grad;
  }
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    new_buffers[i].second->value = buffers[i].second->value.template cast<T>();
  }
}

}  // namespace detail

/// The same network with scalar T: structure, parameters, buffers, what is frozen; not the gradients.
///
///     Sequential<double> precise = convert<double>(net);
///     Sequential<double> own = convert<double, Scale>(net);      // with layers of one's own: template <typename S> Scale
///
/// A layer of one's own is made from its `options`, or by a constructor from the same layer of another scalar, or by
/// default. Throws Error for a layer that is neither the library's nor named, and for a network made by inference().
template <typename T, template <typename> class... Own, template <typename> class L, typename S>
L<T> convert(const L<S>& net) {
  const detail::StructureConverter<T, S, Own..., Sequential, ResidualBlock, Bottleneck, Residual, Concat, Trunk,
                                   LayerScale, Repeat, Checkpoint, Conv2d, Linear, BatchNorm, LayerNorm, GroupNorm,
                                   InstanceNorm, RMSNorm, AdaptiveLayerNorm, ReLU, ReLU6, LeakyReLU, GELU, SiLU,
                                   Sigmoid, Tanh, Softmax, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, GlobalAvgPool2d,
                                   Flatten, Dropout, DropPath, Identity, Rescale, Subsample>
      structure;
  L<T> result = [&] {
    if constexpr (std::is_same_v<L<S>, Layer<S>>) {
      return structure(net);
    } else {
      return detail::with_scalar<T, L>(net, structure);
    }
  }();
  detail::copy_state<T, S>(net, result);
  return result;
}

}  // namespace residua::inline RESIDUA_ABI
