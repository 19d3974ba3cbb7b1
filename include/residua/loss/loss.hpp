// Loss: what a training step minimises, and where its backward pass begins.
#pragma once

#include <residua/core/tensor.hpp>

namespace residua::inline RESIDUA_ABI {

/// What a loss function returns. `gradient` is ∂value/∂input, of the input's shape: a mean's 1/N is already in it.
template <typename S>
struct Loss {
  double value;
  Tensor<S> gradient;
};

/// How the losses of single rows become one number.
enum class Reduction { mean, sum };

}  // namespace residua::inline RESIDUA_ABI
