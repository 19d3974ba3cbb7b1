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

/// How the losses of single rows, or of single elements, become one number.
enum class Reduction { mean, sum };

namespace detail {

/// How much single losses count: all 1 where the tensor is empty. A tensor shorter than what it weighs repeats.
template <typename S>
struct LossWeight {
  const S* weight;
  Index size;

  explicit LossWeight(const Tensor<S>& tensor) : weight(tensor.cdata()), size(tensor.size()) {}
  double operator()(Index i) const { return size == 0 ? 1 : static_cast<double>(weight[i % size]); }
};

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
