// How models draw the weights of their convolutions.
#pragma once

#include <residua/core/visit.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/init.hpp>

namespace residua::inline RESIDUA_ABI {

/// What keeps its size through a convolution: with `in` the activations of the forward pass, with `out` the gradients of
/// the backward pass.
enum class Fan { in, out };

namespace detail {

/// Draws the weights of all convolutions in `net` Kaiming-normal, as torch.nn.init.kaiming_normal_ does. A model is built
/// without weights and drawn at its end, so that with Random::none() no time is spent on them.
template <typename S, typename Net>
void draw_convolutions(Net& net, Fan fan, Random& random) {
  if (random.is_none()) return;
  for_each_layer<Conv2d<S>>(net, [&](Conv2d<S>& convolution) {
    Tensor<S>& weight = convolution.weight.value;  // (K, R, S, C/groups)
    const Index kept = weight.dim(fan == Fan::in ? 3 : 0);
    weight = init::kaiming_normal<S>(weight.shape(), kept * weight.dim(1) * weight.dim(2), random);
  });
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
