// RMSNorm: each row divided by its root mean square.
#pragma once

#include <limits>
#include <optional>

#include <residua/core/layer.hpp>
#include <residua/kernels/normalization.hpp>
#include <residua/layers/norm_checks.hpp>

namespace residua::inline RESIDUA_ABI {

struct RMSNormOptions {
  Shape normalized_shape = {};      ///< the last axes of the input, one or more
  std::optional<double> eps = {};  ///< none: the machine epsilon of the scalar
  bool elementwise_affine = true;
};

/// y = x / √(mean(x²) + eps) · weight,   the mean over the last axes, those of normalized_shape.
///
/// weight has the shape normalized_shape and starts at 1. Throws Error for an empty normalized_shape or a negative eps,
/// and in forward for an input that does not end with normalized_shape or is empty.
///
/// Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019).
template <typename S>
class RMSNorm : public Network<RMSNorm<S>, S> {
 public:
  RMSNormOptions options;
  Parameter<S> weight;

  explicit RMSNorm(const RMSNormOptions& o) : options(o) {
    detail::require_normalized_shape("RMSNorm", o.normalized_shape);
    if (o.eps) detail::require_eps("RMSNorm", *o.eps);
    const Layout layout = o.normalized_shape.rank() == 3 ? Layout::image : Layout::plain;
    if (o.elementwise_affine) weight = Parameter<S>(Tensor<S>(o.normalized_shape, S(1)), layout);
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::check_normalized("RMSNorm", options.normalized_shape, x.shape(), tape);
    const auto norm = rows_of(x);
    const S* const in = x.cdata();
    Tensor<S> statistics(Shape{tape.recording() ? norm.rows : 0, 2}, uninitialized);  // 0 and 1/√(…) of each row
    Tensor<S> y = tape.recording() ? Tensor<S>(x.shape(), uninitialized) : detail::take_over(x);
    kernels::row_norm(norm, in, y.data(), statistics.data());
    tape.push_for(weight.trainable(), std::move(x), std::move(statistics));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [x, statistics] = tape.template pop<Tensor<S>, Tensor<S>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("RMSNorm", dy, x.shape(), tape);
    Tensor<S> dweight = detail::gradient_memory(weight);
    const S* const d = dy.cdata();
    Tensor<S> dx = tape.input_gradient() ? detail::take_over(dy) : Tensor<S>();
    kernels::row_norm_gradient<S>(rows_of(x), x.cdata(), statistics.cdata(), d, dx.data(), dweight.data(), nullptr);
    weight.add_gradient(std::move(dweight));
    return dx;
  }

  bool samplewise() const { return options.normalized_shape.rank() == 1; }

  static void visit(auto& self, auto&& v) { v("weight", self.weight); }

 private:
  kernels::RowNorm<S> rows_of(const Tensor<S>& x) const {
    const Index features = options.normalized_shape.size();
    const double eps = options.eps.value_or(static_cast<double>(std::numeric_limits<S>::epsilon()));
    return {.rows = x.size() / features, .features = features, .eps = eps, .centered = false,
            .weight = weight.value.cdata(), .bias = nullptr};
  }
};

}  // namespace residua::inline RESIDUA_ABI
