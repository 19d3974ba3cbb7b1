// LayerScale: a branch whose features are scaled, each by a number that is learned.
#pragma once

#include <utility>

#include <residua/blocks/sequential.hpp>
#include <residua/core/options.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/layers/norm_checks.hpp>
#include <residua/layers/scale_shift.hpp>

namespace residua::inline RESIDUA_ABI {

struct LayerScaleOptions {
  Index num_features = 0;
  double init_value = 1e-5;
};

/// y = layer_scale ⊙ block(x),   layer_scale (1, 1, C), in files (C, 1, 1).
///
/// All of layer_scale starts at init_value, small, so that a deep residual network starts as the identity. Throws Error
/// for sizes below 1, and in forward where block gives another number of features.
///
/// Touvron et al., "Going deeper with Image Transformers" (2021).
template <typename S>
class LayerScale : public Network<LayerScale<S>, S> {
 public:
  LayerScaleOptions options;
  Parameter<S> layer_scale;
  Layer<S> block;

  LayerScale(const LayerScaleOptions& o, Layer<S> scaled) : options(o), block(std::move(scaled)) {
    detail::require_at_least("LayerScale", "num_features", 1, o.num_features);
    layer_scale = Parameter<S>(Tensor<S>(Shape{1, 1, o.num_features}, static_cast<S>(o.init_value)), Layout::image);
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");
    detail::check_value("LayerScale", "layer_scale", layer_scale.value, Shape{1, 1, options.num_features}, tape);
    x = residua::forward(block, "block", std::move(x), tape);
    detail::check_features("LayerScale", options.num_features, 1, x.shape(), tape);
    const S* const in = x.cdata();
    Tensor<S> y = tape.recording() ? Tensor<S>(x.shape(), uninitialized) : detail::take_over(x);
    scale(in, y);
    tape.push_for(layer_scale.trainable(), std::move(x));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    const auto x = tape.template pop<Tensor<S>>();
    if (!tape.output_gradient()) return residua::backward(block, "block", Tensor<S>(), tape);
    detail::check_gradient("LayerScale", dy, x.shape(), tape);
    if (layer_scale.trainable()) {  // dlayer_scale = Σ_rows dy ⊙ x
      const Tensor<S> zero(Shape{options.num_features});
      const Tensor<S> sums = kernels::column_gradients(dy.cdata(), x.cdata(), zero.cdata(), x.rows(), x.features());
      layer_scale.add_gradient(sums.cmatrix().row(1));
    }
    const S* const d = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);
    scale(d, dx);
    return residua::backward(block, "block", std::move(dx), tape);
  }

  /// The same function for prediction only, the scale folded into the block's last layer where that is linear.
  Layer<S> inference() const {
    Sequential<S> result;
    const Shape features{options.num_features};
    result.add("block", block);
    result.add("", ScaleShift<S>(layer_scale.value.reshaped(features), Tensor<S>(features)));
    return result.fused();
  }

  bool samplewise() const { return block.samplewise(); }

  static void visit(auto& self, auto&& v) {
    v("layer_scale", self.layer_scale);
    v("block", self.block);
  }

 private:
  /// y = layer_scale ⊙ x
  void scale(const S* x, Tensor<S>& y) const {
    const kernels::WideRows wide(y.rows(), options.num_features);
    kernels::map_columns(wide, y.data(), [](auto v, auto a) { return v * a; }, x,
                         kernels::repeated(layer_scale.value.cdata(), wide));
  }
};

}  // namespace residua::inline RESIDUA_ABI
