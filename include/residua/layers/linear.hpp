// Linear: an affine map of the features.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/core/options.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/kernels/direct_weight_gradient.hpp>
#include <residua/layers/finish.hpp>
#include <residua/layers/init.hpp>

namespace residua::inline RESIDUA_ABI {

struct LinearOptions {
  Index in_features = 0;
  Index out_features = 0;
  bool bias = true;
};

namespace detail {

template <typename S>
void check_linear(const LinearOptions& o, const Shape& x, const Tape<S>& tape) {
  if (x.rank() < 1) tape.fail("Linear", "expected an input of at least one axis, got ", x);
  if (x[-1] != o.in_features) {
    tape.fail("Linear", "expected ", o.in_features, " input features, got ", x[-1], " (input is ", x, ")");
  }
  if (x.size() == 0) tape.fail("Linear", "expected an input that is not empty, got ", x);
}

}  // namespace detail

/// y = x · weightᵀ + bias   on the last axis.   x (…, in_features) → y (…, out_features)
///
/// weight is (out_features, in_features), bias (out_features); both start uniform in ±1/√in_features. Throws Error for
/// sizes below 1, and in forward for another number of features or an empty input.
template <typename S>
class Linear : public Samplewise<Linear<S>, S> {
 public:
  LinearOptions options;
  Parameter<S> weight, bias;

  Linear(const LinearOptions& o, Random& random) : options(o) {
    detail::require_at_least("Linear", "in_features", 1, o.in_features);
    detail::require_at_least("Linear", "out_features", 1, o.out_features);
    weight = Parameter<S>(init::kaiming_uniform<S>(Shape{o.out_features, o.in_features}, o.in_features, random));
    if (o.bias) bias = Parameter<S>(init::kaiming_uniform<S>(Shape{o.out_features}, o.in_features, random));
  }

  using Finishes = Linear;

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::check_linear(options, x.shape(), tape);
    detail::check_value("Linear", "weight", weight.value, Shape{options.out_features, options.in_features}, tape);
    if (options.bias) detail::check_value("Linear", "bias", bias.value, Shape{options.out_features}, tape);
    Tensor<S> y(x.shape().with(-1, options.out_features), uninitialized);
    // y = x · weightᵀ + bias
    kernels::matmul_bt<S>(x.cmatrix(), weight.value.cmatrix(), y.matrix(),
                          {.bias = bias.value.cdata(), .relu = detail::take_relu(tape)});
    tape.push_for(weight.trainable() || bias.trainable(), std::move(x));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto x = tape.template pop<Tensor<S>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("Linear", dy, x.shape().with(-1, options.out_features), tape);
    if (weight.trainable()) {  // dweight = dyᵀ · x
      Tensor<S> dweight(weight.value.shape(), uninitialized);
      kernels::matmul_at<S>(dy.cmatrix(), x.cmatrix(), dweight.matrix());
      weight.add_gradient(std::move(dweight));
    }
    if (bias.trainable()) {  // dbias = Σ_rows dy
      bias.add_gradient(kernels::column_sums(dy.cdata(), dy.rows(), dy.features()).reshaped(bias.value.shape()));
    }
    if (!tape.input_gradient()) return {};
    Tensor<S> dx(x.shape(), uninitialized);  // dx = dy · weight
    kernels::matmul<S>(dy.cmatrix(), weight.value.cmatrix(), dx.matrix());
    return dx;
  }

  static void visit(auto& self, auto&& v) {
    v("weight", self.weight);
    v("bias", self.bias);
  }

  /// See layers/fused_linear.hpp.
  Layer<S> inference() const;

  Index multiply_adds(const Shape& input) const { return input.rows() * options.in_features * options.out_features; }
};

}  // namespace residua::inline RESIDUA_ABI

#include <residua/layers/fused_linear.hpp>
