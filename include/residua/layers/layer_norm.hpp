// LayerNorm: each row normalised over its features.
#pragma once

#include <concepts>
#include <limits>

#include <residua/core/layer.hpp>
#include <residua/kernels/normalization.hpp>
#include <residua/layers/norm_checks.hpp>

namespace residua::inline RESIDUA_ABI {

struct LayerNormOptions {
  Shape normalized_shape = {};  ///< the last axes of the input, one or more
  double eps = 1e-5;
  bool elementwise_affine = true;
  bool bias = true;  ///< where there is a weight
};

namespace detail {

/// Up to four sizes in braces. An aggregate, because g++ would read {.normalized_shape = …} as a Shape or a list too.
struct Sizes {
  static constexpr Index none = std::numeric_limits<Index>::min();
  Index first = none, second = none, third = none, fourth = none;

  Shape shape() const {
    Shape result;
    for (Index size : {first, second, third, fourth}) {
      if (size != none) result.append(size);
    }
    return result;
  }
};

}  // namespace detail

/// y = (x − mean) / √(var + eps) · weight + bias,   mean and biased variance over the last axes, as normalized_shape
/// gives them.
///
///     LayerNorm<float>(Shape{64})            // of (N, T, 64): over the features of each element of a sequence;
///                                            // of (N, H, W, 64): over the channels of an image at each pixel
///     LayerNorm<float>(Shape{28, 28, 16})    // of (N, 28, 28, 16): over the whole image
///
/// weight and bias have the shape normalized_shape and start at 1 and 0. Throws Error for an empty normalized_shape or
/// a negative eps, and in forward for an input that does not end with normalized_shape or is empty.
///
/// Ba, Kiros and Hinton, "Layer Normalization" (2016).
template <typename S>
class LayerNorm : public Network<LayerNorm<S>, S> {
 public:
  LayerNormOptions options;
  Parameter<S> weight, bias;

  explicit LayerNorm(const LayerNormOptions& o) : options(o) {
    detail::require_normalized_shape("LayerNorm", o.normalized_shape);
    detail::require_eps("LayerNorm", o.eps);
    const Layout layout = o.normalized_shape.rank() == 3 ? Layout::image : Layout::plain;
    if (o.elementwise_affine) weight = Parameter<S>(Tensor<S>(o.normalized_shape, S(1)), layout);
    if (o.elementwise_affine && o.bias) bias = Parameter<S>(Tensor<S>(o.normalized_shape, S(0)), layout);
  }

  /// LayerNorm<float>(Shape{64}), or LayerNorm<float>({64}) with up to four sizes.
  template <std::same_as<Shape> T>
  explicit LayerNorm(const T& normalized_shape) : LayerNorm(LayerNormOptions{.normalized_shape = normalized_shape}) {}
  explicit LayerNorm(const detail::Sizes& normalized_shape) : LayerNorm(normalized_shape.shape()) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::check_normalized("LayerNorm", options.normalized_shape, x.shape(), tape);
    const auto norm = rows_of(x);
    const S* const in = x.cdata();
    Tensor<S> statistics(Shape{tape.recording() ? norm.rows : 0, 2}, uninitialized);  // mean and rstd of each row
    Tensor<S> y = tape.recording() ? Tensor<S>(x.shape(), uninitialized) : detail::take_over(x);
    kernels::row_norm(norm, in, y.data(), statistics.data());
    tape.push_for(weight.trainable() || bias.trainable(), std::move(x), std::move(statistics));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [x, statistics] = tape.template pop<Tensor<S>, Tensor<S>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("LayerNorm", dy, x.shape(), tape);
    Tensor<S> dweight = detail::gradient_memory(weight), dbias = detail::gradient_memory(bias);
    const S* const d = dy.cdata();
    Tensor<S> dx = tape.input_gradient() ? detail::take_over(dy) : Tensor<S>();
    kernels::row_norm_gradient(rows_of(x), x.cdata(), statistics.cdata(), d, dx.data(), dweight.data(), dbias.data());
    weight.add_gradient(std::move(dweight));
    bias.add_gradient(std::move(dbias));
    return dx;
  }

  bool samplewise() const { return options.normalized_shape.rank() == 1; }

  static void visit(auto& self, auto&& v) {
    v("weight", self.weight);
    v("bias", self.bias);
  }

 private:
  kernels::RowNorm<S> rows_of(const Tensor<S>& x) const {
    const Index features = options.normalized_shape.size();
    return {.rows = x.size() / features, .features = features, .eps = options.eps, .centered = true,
            .weight = weight.value.cdata(), .bias = bias.value.cdata()};
  }
};

}  // namespace residua::inline RESIDUA_ABI
