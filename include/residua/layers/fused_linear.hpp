// FusedLinear: what inference(net) makes of a Linear.
#pragma once

#include <residua/kernels/matmul.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/prediction_only.hpp>

namespace residua::inline RESIDUA_ABI {

/// relu(x · weightᵀ + bias): weight packed once, norm folded in.
template <typename S>
class FusedLinear : public PredictionOnly<FusedLinear<S>, S> {
 public:
  bool relu = false;

  explicit FusedLinear(const Linear<S>& layer)
      : options_(layer.options),
        bias_(layer.bias.value.empty() ? Tensor<S>(Shape{options_.out_features}) : layer.bias.value),
        weight_(options_.in_features, options_.out_features) {
    weight_.fill(0, options_.in_features, {layer.weight.value.cdata(), 1, options_.in_features});
  }

  /// Follows the product by a scale and shift of its output features; false where their number is another.
  bool fold(const Tensor<S>& scale, const Tensor<S>& shift) {
    if (scale.size() != options_.out_features) return false;
    weight_.scale_columns(scale.cdata());
    detail::fold_into_bias(bias_, scale, shift);
    return true;
  }

  bool samplewise() const { return true; }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::check_linear(options_, x.shape(), tape);
    Tensor<S> y(x.shape().with(-1, options_.out_features), uninitialized);
    kernels::matmul<S>(x.cmatrix(), weight_, y.matrix(), {.bias = bias_.cdata(), .relu = relu});
    return y;
  }

  Index multiply_adds(const Shape& input) const { return input.rows() * options_.in_features * options_.out_features; }

 private:
  LinearOptions options_;
  Tensor<S> bias_;  // (out_features)
  kernels::Packed<S> weight_;
};

template <typename S>
Layer<S> Linear<S>::inference() const {
  return FusedLinear<S>(*this);
}

}  // namespace residua::inline RESIDUA_ABI
