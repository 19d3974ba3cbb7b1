// inference: the same network for prediction only.
#pragma once

#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/blocks/trunk.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/linear.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

template <typename S>
struct AllPredictionForms final : PredictionForms<S> {
  Layer<S> of(const BatchNorm<S>& layer) const override { return layer.inference(); }
  Layer<S> of(const Conv2d<S>& layer) const override { return layer.inference(); }
  Layer<S> of(const Linear<S>& layer) const override { return layer.inference(); }
  Layer<S> of(const Residual<S>& layer) const override { return layer.inference(); }
  Layer<S> of(const Sequential<S>& layer) const override { return layer.inference(); }
  Layer<S> of(const Trunk<S>& layer) const override { return layer.inference(); }
};

}  // namespace detail

/// The same network for prediction only: norms folded into convolutions, activations and sums fused into their ends.
template <typename S>
Layer<S> inference(const Layer<S>& net) {
  return net.inference();
}

/// As above, for any layer or block; one without a form for prediction only is copied.
template <typename Net>
auto inference(const Net& net) {
  if constexpr (requires { net.inference(); }) {
    return net.inference();
  } else {
    return net;
  }
}

}  // namespace residua::inline RESIDUA_ABI
