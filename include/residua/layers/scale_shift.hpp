// ScaleShift: what inference(net) makes of a BatchNorm, and of all else that is an affine map of each channel.
#pragma once

#include <cmath>
#include <utility>

#include <residua/kernels/columns.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/norm_checks.hpp>
#include <residua/layers/prediction_only.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = x · scale + shift for each channel, like a BatchNorm that uses its running statistics.
template <typename S>
class ScaleShift : public PredictionOnly<ScaleShift<S>, S> {
 public:
  Tensor<S> scale, shift;  // (C)
  bool relu = false;

  ScaleShift(Tensor<S> scale_by, Tensor<S> shift_by) : scale(std::move(scale_by)), shift(std::move(shift_by)) {}

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

  bool samplewise() const { return true; }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const Index C = scale.size();
    detail::check_features("BatchNorm", C, 2, x.shape(), tape);
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    const kernels::WideRows wide(y.rows(), C);
    kernels::map_columns(wide, y.data(), [this](auto v, auto a, auto b) {
      const auto value = v * a + b;
      return relu ? where(value < S(0), S(0), value) : value;
    }, in, kernels::repeated(scale.cdata(), wide), kernels::repeated(shift.cdata(), wide));
    return y;
  }
};

template <typename S>
Layer<S> BatchNorm<S>::inference() const {
  if (!options.track_running_stats) return *this;
  return ScaleShift<S>(*this);
}

}  // namespace residua::inline RESIDUA_ABI
