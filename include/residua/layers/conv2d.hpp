// Conv2d: convolution over images.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/core/options.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/kernels/convolution.hpp>
#include <residua/layers/finish.hpp>
#include <residua/layers/init.hpp>

namespace residua::inline RESIDUA_ABI {

/// Sizes are one number or a pair (height, width); padding is zeros on both sides; `groups` up to in_channels (depthwise).
/// `algorithm` is how it is computed: ConvAlgorithm::direct where rounding must be the least, at any price.
struct Conv2dOptions {
  Index in_channels = 0;
  Index out_channels = 0;
  Pair kernel_size = 0;
  Pair stride = 1;
  Pair padding = 0;
  Pair dilation = 1;
  Index groups = 1;
  bool bias = true;
  ConvAlgorithm algorithm = ConvAlgorithm::automatic;
};

namespace detail {

/// What the kernels call a convolution; of an input: throws Error where it does not fit.
inline kernels::ConvolutionShape convolution_shape(const Conv2dOptions& o, Index n = 1, Index h = 1, Index w = 1) {
  return {.N = n, .H = h, .W = w, .C = o.in_channels, .K = o.out_channels,
          .kernel = {o.kernel_size.height, o.kernel_size.width},
          .stride = {o.stride.height, o.stride.width},
          .padding = {o.padding.height, o.padding.width},
          .dilation = {o.dilation.height, o.dilation.width},
          .groups = o.groups,
          .algorithm = o.algorithm};
}
template <typename S>
kernels::ConvolutionShape convolution_shape(const Conv2dOptions& o, const Shape& x, const Tape<S>& tape) {
  const Pair kernel = o.kernel_size, padding = o.padding, dilation = o.dilation;
  if (x.rank() != 4) tape.fail("Conv2d", "expected an input [N, H, W, C], got ", x);
  if (x[-1] != o.in_channels) {
    tape.fail("Conv2d", "expected ", o.in_channels, " input channels, got ", x[-1], " (input is ", x, ")");
  }
  if (x.size() == 0) tape.fail("Conv2d", "expected a batch that is not empty, got ", x);
  const Pair padded(x[1] + 2 * padding.height, x[2] + 2 * padding.width);
  const Pair span(dilation.height * (kernel.height - 1) + 1, dilation.width * (kernel.width - 1) + 1);
  if (padded.height < span.height || padded.width < span.width) {
    tape.fail("Conv2d", "expected a padded input no smaller than the kernel, ", span, ", got ", padded, " (input is ", x,
              ")");
  }
  return convolution_shape(o, x[0], x[1], x[2]);
}

}  // namespace detail

/// y[n, h, w, k] = bias[k] + Σ_{r, s, c} weight[k, r, s, c] · x[n, h·stride − padding + r·dilation, …, c]
///
///     x (N, H, W, C) → y (N, H', W', K),   H' = ⌊(H + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1
///
/// weight is (K, R, S, C/groups), bias (K); both start uniform in ±1/√(R·S·C/groups). Throws Error for options that do not
/// fit together, and in forward for another rank or number of channels, an empty batch, or a kernel larger than the
/// padded input.
template <typename S>
class Conv2d : public Samplewise<Conv2d<S>, S> {
 public:
  Conv2dOptions options;
  Parameter<S> weight, bias;

  Conv2d(const Conv2dOptions& o, Random& random) : options(checked(o)) {
    const Index fan_in = o.in_channels / o.groups * o.kernel_size.height * o.kernel_size.width;
    const Shape shape{o.out_channels, o.kernel_size.height, o.kernel_size.width, o.in_channels / o.groups};
    weight = Parameter<S>(init::kaiming_uniform<S>(shape, fan_in, random), Layout::convolution);
    if (o.bias) bias = Parameter<S>(init::kaiming_uniform<S>(Shape{o.out_channels}, fan_in, random));
  }

  using Finishes = Conv2d;

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const auto shape = detail::convolution_shape(options, x.shape(), tape);
    detail::check_value("Conv2d", "weight", weight.value, shape.weight(), tape);
    if (options.bias) detail::check_value("Conv2d", "bias", bias.value, Shape{options.out_channels}, tape);
    Tensor<S> y(shape.output(), uninitialized);
    kernels::convolution<S>(x.cdata(), weight.value.cdata(), y.data(), shape,
                            {.bias = bias.value.cdata(), .relu = detail::take_relu(tape)});
    tape.push_for(weight.trainable() || bias.trainable(), std::move(x));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto x = tape.template pop<Tensor<S>>();
    if (!tape.output_gradient()) return {};
    const auto shape = detail::convolution_shape(options, x.shape(), tape);
    detail::check_gradient("Conv2d", dy, shape.output(), tape);
    if (weight.trainable()) {
      Tensor<S> dweight(weight.value.shape(), uninitialized);
      kernels::convolution_weight_gradient(x.cdata(), dy.cdata(), dweight.data(), shape);
      weight.add_gradient(std::move(dweight));
    }
    if (bias.trainable()) {
      bias.add_gradient(kernels::column_sums(dy.cdata(), dy.rows(), dy.features()).reshaped(bias.value.shape()));
    }
    if (!tape.input_gradient()) return {};
    Tensor<S> dx(x.shape(), uninitialized);
    kernels::convolution_input_gradient(dy.cdata(), weight.value.cdata(), dx.data(), shape);
    return dx;
  }

  static void visit(auto& self, auto&& v) {
    v("weight", self.weight);
    v("bias", self.bias);
  }

  Index multiply_adds(const Shape& input) const { 
    return detail::convolution_shape(options, input, Tape<S>()).multiply_adds();
  }

  /// See layers/fused_conv2d.hpp.
  Layer<S> inference() const;

 private:
  static const Conv2dOptions& checked(const Conv2dOptions& o) {
    detail::require_at_least("Conv2d", "in_channels", 1, o.in_channels);
    detail::require_at_least("Conv2d", "out_channels", 1, o.out_channels);
    detail::require_at_least("Conv2d", "kernel_size", 1, o.kernel_size);
    detail::require_at_least("Conv2d", "stride", 1, o.stride);
    detail::require_at_least("Conv2d", "padding", 0, o.padding);
    detail::require_at_least("Conv2d", "dilation", 1, o.dilation);
    detail::require_at_least("Conv2d", "groups", 1, o.groups);
    if (o.in_channels % o.groups != 0 || o.out_channels % o.groups != 0) {
      fail("Conv2d", "expected groups that divide in_channels and out_channels, got ", o.groups, " for ", o.in_channels,
           " and ", o.out_channels);
    }
    if (o.algorithm == ConvAlgorithm::winograd && !kernels::winograd_applies(detail::convolution_shape(o))) {
      fail("Conv2d", "expected kernel_size 3, stride 1 and dilation 1 for ConvAlgorithm::winograd, got ", o.kernel_size,
           ", ", o.stride, " and ", o.dilation);
    }
    return o;
  }
};

}  // namespace residua::inline RESIDUA_ABI

#include <residua/layers/fused_conv2d.hpp>
