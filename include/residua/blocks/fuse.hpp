// fuse: which layers inference(net) makes one of.
#pragma once

#include <typeinfo>

#include <residua/core/layer.hpp>
#include <residua/layers/fused_conv2d.hpp>
#include <residua/layers/fused_linear.hpp>
#include <residua/layers/identity.hpp>
#include <residua/layers/relu.hpp>
#include <residua/layers/scale_shift.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// Makes `after` a part of the layer `before` it, where that can be done without changing the function.
template <typename S>
bool fuse(Layer<S>& before, const Layer<S>& after) {
  if (after.type() == typeid(Identity<S>)) return true;
  const auto* norm = after.template target<ScaleShift<S>>();
  const bool relu = after.type() == typeid(ReLU<S>);
  const auto into = [&](auto* layer) {
    if (layer == nullptr || layer->relu) return false;
    if constexpr (requires { layer->fold(norm->scale, norm->shift); }) {
      if (norm != nullptr) {
        if (!layer->fold(norm->scale, norm->shift)) return false;
        layer->relu = norm->relu;
        return true;
      }
    }
    return layer->relu = relu;
  };
  return into(before.template target<FusedConv2d<S>>()) || into(before.template target<FusedLinear<S>>()) ||
         into(before.template target<ScaleShift<S>>());
}

}  // namespace residua::inline RESIDUA_ABI::detail
