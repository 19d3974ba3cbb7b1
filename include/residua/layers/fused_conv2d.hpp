// FusedConv2d: what inference(net) makes of a Conv2d.
#pragma once

#include <residua/kernels/convolution.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/prediction_only.hpp>

namespace residua::inline RESIDUA_ABI {

/// relu(conv(x) + sum): weights packed once, norm folded in, sum and ReLU done as each tile is stored.
template <typename S>
class FusedConv2d : public PredictionOnly<FusedConv2d<S>, S> {
 public:
  bool relu = false;

  explicit FusedConv2d(const Conv2d<S>& layer)
      : options_(layer.options),
        bias_(layer.bias.value.empty() ? Tensor<S>(Shape{options_.out_channels}) : layer.bias.value),
        weights_(layer.weight.value.cdata(), detail::convolution_shape(options_)) {}

  /// Follows the convolution by a scale and shift of its output channels; false where their number is another.
  bool fold(const Tensor<S>& scale, const Tensor<S>& shift) {
    if (scale.size() != options_.out_channels) return false;
    weights_.scale(scale.cdata());
    detail::fold_into_bias(bias_, scale, shift);
    return true;
  }

  bool samplewise() const { return true; }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const auto shape = detail::convolution_shape(options_, x.shape(), tape);
    Tensor<S> y(shape.output(), uninitialized);
    weights_.convolve(x.cdata(), y.data(), shape, {.bias = bias_.cdata(), .relu = relu});
    return y;
  }

  /// relu?(conv(x) + sum), in sum's memory.
  Tensor<S> forward_onto(Tensor<S> sum, const Tensor<S>& x, bool relu_after, Tape<S>& tape) const {
    const auto shape = detail::convolution_shape(options_, x.shape(), tape);
    if (sum.shape() != shape.output()) {
      tape.fail("Residual", "expected branch and shortcut to give the same shape, got ", shape.output(), " and ",
                sum.shape());
    }
    weights_.convolve(x.cdata(), sum.data(), shape,
                      {.bias = bias_.cdata(), .accumulate = true, .relu = relu_after});
    return sum;
  }

  Index multiply_adds(const Shape& input) const {
    return detail::convolution_shape(options_, input, Tape<S>()).multiply_adds();
  }

 private:
  Conv2dOptions options_;
  Tensor<S> bias_;  // (K)
  kernels::ConvolutionWeights<S> weights_;
};

template <typename S>
Layer<S> Conv2d<S>::inference() const {
  return FusedConv2d<S>(*this);
}

}  // namespace residua::inline RESIDUA_ABI
