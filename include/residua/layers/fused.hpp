// What inference(net) is made of: layers that only predict, with norms folded in and activations fused.
#pragma once

#include <cmath>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/identity.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/relu.hpp>

namespace residua::inline RESIDUA_ABI {

/// The part of a layer that a layer for prediction only does not have.
template <typename Derived, typename S>
class PredictionOnly : public Network<Derived, S> {
 public:
  Tensor<S> backward(Tensor<S>, Tape<S>& tape) {
    tape.fail("inference", "expected a network that can be trained, got one made by inference()");
  }
  static void visit(auto&, auto&&) {}
};

/// y = x · scale + shift for each channel: a BatchNorm that uses its running statistics.
template <typename S>
class ScaleShift : public PredictionOnly<ScaleShift<S>, S> {
 public:
  Tensor<S> scale, shift;  // (C)
  bool relu = false;

  explicit ScaleShift(const BatchNorm<S>& norm) : scale(norm.running_var.value), shift(norm.running_mean.value) {
    S* const a = scale.data();
    S* const b = shift.data();
    const S* const weight = norm.weight.value.cdata();
    const S* const bias = norm.bias.value.cdata();
    for (Index c = 0; c < scale.size(); ++c) {
      a[c] = (weight ? weight[c] : S(1)) / std::sqrt(a[c] + static_cast<S>(norm.options.eps));
      b[c] = (bias ? bias[c] : S(0)) - b[c] * a[c];
    }
  }

  /// v = v · scale + shift for one value a channel.
  void apply(Tensor<S>& v) const {
    S* const to = v.data();
    for (Index c = 0; c < v.size(); ++c) to[c] = to[c] * scale.cdata()[c] + shift.cdata()[c];
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const Index C = scale.size();
    detail::check_features("BatchNorm", C, 2, x.shape(), tape);
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    const kernels::WideRows wide(y.rows(), C);
    kernels::map_columns(wide, y.data(), [this](auto v, auto a, auto b) {
      const auto value = v * a + b;
      return relu ? (value < S(0) ? decltype(v){} : value) : value;
    }, in, kernels::repeated(scale.cdata(), wide), kernels::repeated(shift.cdata(), wide));
    return y;
  }
};

/// relu(conv(x) + sum): weights packed once, norm folded in, sum and ReLU done as each tile is stored.
template <typename S>
class FusedConv2d : public PredictionOnly<FusedConv2d<S>, S> {
 public:
  bool relu = false;

  explicit FusedConv2d(const Conv2d<S>& layer)
      : options_(layer.options), bias_(layer.bias.value.empty() ? Tensor<S>(Shape{options_.out_channels}) : layer.bias.value) {
    const kernels::ConvolutionShape shape{.N = 1, .H = 1, .W = 1, .C = options_.in_channels, .K = options_.out_channels,
                                          .kernel = {options_.kernel_size.height, options_.kernel_size.width},
                                          .stride = {1, 1}, .padding = {0, 0}, .dilation = {1, 1},
                                          .groups = options_.groups};
    weights_ = kernels::pack_weights(layer.weight.value.cdata(), shape);
  }

  /// Follows the convolution by a scale and shift of its output channels; false where their number is another.
  bool fold(const ScaleShift<S>& norm) {
    if (norm.scale.size() != options_.out_channels) return false;
    const Index channels = options_.out_channels / options_.groups;
    for (std::size_t g = 0; g < weights_.size(); ++g) {
      weights_[g].scale_columns(norm.scale.cdata() + static_cast<Index>(g) * channels);
    }
    norm.apply(bias_);
    relu = norm.relu;
    return true;
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const auto shape = detail::convolution_shape(options_, x.shape(), tape);
    Tensor<S> y(shape.output(), uninitialized);
    kernels::convolution<S>(x.cdata(), weights_, y.data(), shape, {.bias = bias_.cdata(), .relu = relu});
    return y;
  }

  /// relu?(conv(x) + sum), in sum's memory.
  Tensor<S> forward_onto(Tensor<S> sum, const Tensor<S>& x, bool relu_after, Tape<S>& tape) const {
    const auto shape = detail::convolution_shape(options_, x.shape(), tape);
    if (sum.shape() != shape.output()) {
      tape.fail("Residual", "expected branch and shortcut to give the same shape, got ", shape.output(), " and ", sum.shape());
    }
    kernels::convolution<S>(x.cdata(), weights_, sum.data(), shape,
                            {.bias = bias_.cdata(), .accumulate = true, .relu = relu_after});
    return sum;
  }

  Index multiply_adds(const Shape& input) const {
    return detail::convolution_shape(options_, input, Tape<S>()).multiply_adds();
  }

 private:
  Conv2dOptions options_;
  Tensor<S> bias_;  // (K)
  kernels::PackedGroups<S> weights_;
};

/// relu(x · weightᵀ + bias): weight packed once, norm folded in.
template <typename S>
class FusedLinear : public PredictionOnly<FusedLinear<S>, S> {
 public:
  bool relu = false;

  explicit FusedLinear(const Linear<S>& layer)
      : options_(layer.options), bias_(layer.bias.value.empty() ? Tensor<S>(Shape{options_.out_features}) : layer.bias.value),
        weight_(options_.in_features, options_.out_features) {
    weight_.fill(0, options_.in_features, layer.weight.value.cdata(), 1, options_.in_features);
  }

  bool fold(const ScaleShift<S>& norm) {
    if (norm.scale.size() != options_.out_features) return false;
    weight_.scale_columns(norm.scale.cdata());
    norm.apply(bias_);
    relu = norm.relu;
    return true;
  }

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

template <typename S> Layer<S> Conv2d<S>::inference() const { return FusedConv2d<S>(*this); }
template <typename S> Layer<S> Linear<S>::inference() const { return FusedLinear<S>(*this); }
template <typename S> Layer<S> BatchNorm<S>::inference() const {
  if (!options.track_running_stats) return *this;
  return ScaleShift<S>(*this);
}

namespace detail {

/// Makes `after` a part of the layer `before` it, where that can be done without changing the function.
template <typename S>
bool fuse(Layer<S>& before, const Layer<S>& after) {
  if (after.type() == typeid(Identity<S>)) return true;
  const auto* norm = after.template target<ScaleShift<S>>();
  const bool relu = after.type() == typeid(ReLU<S>);
  const auto into = [&](auto* layer) {
    if (layer == nullptr || layer->relu) return false;
    if constexpr (requires { layer->fold(*norm); }) {
      if (norm != nullptr) return layer->fold(*norm);
    }
    return layer->relu = relu;
  };
  return into(before.template target<FusedConv2d<S>>()) || into(before.template target<FusedLinear<S>>()) ||
         into(before.template target<ScaleShift<S>>());
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
