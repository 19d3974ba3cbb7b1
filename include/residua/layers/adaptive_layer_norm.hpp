// AdaptiveLayerNorm: LayerNorm whose scale and shift are computed, from a condition or from the input itself.
#pragma once

#include <optional>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/kernels/normalization.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/layer_norm.hpp>
#include <residua/layers/linear.hpp>
#include <residua/layers/norm_checks.hpp>
#include <residua/layers/tanh.hpp>

namespace residua::inline RESIDUA_ABI {

/// Scale and shift are learned (neither number of features given), or computed from one of two sources.
struct AdaptiveLayerNormOptions {
  Index num_features = 0;
  Index condition_features = 0;  ///< of a condition that is handed in
  bool gate = false;             ///< the condition also gives a gate, and all start at zero
  Index summary_features = 0;    ///< of a summary of the input
  double eps = 1e-5;
};

/// Normalisation over the features, with a scale and a shift for each sample:
///
///     y = norm(x) · γ + β,   norm(x) = (x − mean) / √(var + eps),   x (N, …, C), γ and β (N, C)
///
/// Three kinds, told apart by the options:
///
/// - condition_features: γ = 1 + scale and β = shift are a linear map, `modulation`, of a condition (N, D):
///
///       auto [y, gate] = norm.forward(x, condition, tape);
///       auto [dx, dcondition] = norm.backward(dy, dgate, tape);
///
///   With `gate` the map gives shift, scale and gate (N, C), in this order, and starts at zero, so that y starts as
///   norm(x), and a branch that is multiplied by the gate starts as nothing. Without it gate and dgate are empty, and
///   the map starts as any Linear does. (Perez et al., "FiLM", 2018; Peebles and Xie, "Scalable Diffusion Models with
///   Transformers", 2023: adaLN and adaLN-Zero)
///
/// - summary_features: γ = gamma(a) and β = beta(a) are linear maps of a summary of the sample, a = the mean over its
///   positions of tanh(summary(x)). gamma and beta start with weights 0 and biases 1 and 0, so that y starts as
///   norm(x). (Kim, Song and Bengio, "Dynamic Layer Normalization for Adaptive Neural Acoustic Modeling in Speech
///   Recognition", 2017)
///
/// - neither: LayerNorm over the features, with its weight and bias.
///
/// Throws Error for options that do not fit together, and in forward for another number of features, an empty input, a
/// condition that does not belong to x, or where there is none and one is expected.
template <typename S>
class AdaptiveLayerNorm : public Network<AdaptiveLayerNorm<S>, S> {
 public:
  AdaptiveLayerNormOptions options;
  std::optional<Linear<S>> modulation;            // with a condition
  std::optional<Linear<S>> summary, gamma, beta;  // with a summary
  std::optional<LayerNorm<S>> plain;              // with neither

  AdaptiveLayerNorm(const AdaptiveLayerNormOptions& o, Random& random) : options(checked(o)) {
    const Index C = o.num_features;
    Random zero = Random::none();
    if (o.condition_features > 0) {
      modulation.emplace(LinearOptions{.in_features = o.condition_features, .out_features = (o.gate ? 3 : 2) * C},
                         o.gate ? zero : random);
    } else if (o.summary_features > 0) {
      summary.emplace(LinearOptions{.in_features = C, .out_features = o.summary_features}, random);
      gamma.emplace(LinearOptions{.in_features = o.summary_features, .out_features = C}, zero);
      beta.emplace(LinearOptions{.in_features = o.summary_features, .out_features = C}, zero);
      gamma->bias.value.array() = S(1);
    } else {
      plain.emplace(LayerNormOptions{.normalized_shape = {C}, .eps = o.eps});
    }
  }

  // --- without a condition -------------------------------------------------------------------------------------------

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    if (modulation) {
      tape.fail("AdaptiveLayerNorm", "expected a condition of ", options.condition_features,
                " features, as in forward(x, condition, tape), got only an input ", x.shape());
    }
    if (plain) return plain->forward(std::move(x), tape);
    detail::check_features("AdaptiveLayerNorm", options.num_features, 2, x.shape(), tape);
    auto scope = tape.scope("");
    const bool wanted = tape.input_gradient();

    // a = the mean over positions of tanh(summary(x)),  γ = gamma(a),  β = beta(a)
    Tensor<S> t = Tanh<S>().forward(residua::forward(*summary, "summary", x, tape), tape);
    const Shape positions{x.dim(0), 1, x.rows() / x.dim(0), options.summary_features};
    const Tensor<S> a = GlobalAvgPool2d<S>().forward(std::move(t).reshaped(positions), tape);
    const bool summary_wanted = tape.input_gradient();
    const Tensor<S> scale = residua::forward(*gamma, "gamma", a, tape);
    const bool scale_wanted = tape.input_gradient();
    tape.set_input_gradient(summary_wanted);
    const Tensor<S> shift = residua::forward(*beta, "beta", a, tape);
    const bool shift_wanted = tape.input_gradient();
    tape.set_input_gradient(wanted);
    return normalize(std::move(x), scale, scale.cdata(), shift.cdata(), scale_wanted || shift_wanted, tape);
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    if (modulation) {
      tape.fail("AdaptiveLayerNorm", "expected backward(dy, dgate, tape), since a condition was given to forward");
    }
    if (plain) return plain->backward(std::move(dy), tape);
    auto scope = tape.scope("");
    const Index C = options.num_features;
    const auto [x, statistics, scale] = tape.template pop<Tensor<S>, Tensor<S>, Tensor<S>>();
    const bool wanted = tape.input_gradient();
    Tensor<S> dx, dscale, dshift;
    if (tape.output_gradient()) {
      dscale = Tensor<S>(scale.shape(), uninitialized);
      dshift = Tensor<S>(scale.shape(), uninitialized);
      dx = normalize_gradient(x, statistics, scale.cdata(), std::move(dy), dscale.data(), dshift.data(), C, tape);
    }
    Tensor<S> da = residua::backward(*beta, "beta", std::move(dshift), tape);
    da = detail::sum(std::move(da), residua::backward(*gamma, "gamma", std::move(dscale), tape));
    Tensor<S> dt = GlobalAvgPool2d<S>().backward(std::move(da), tape);
    if (!dt.empty()) dt = std::move(dt).reshaped(x.shape().with(-1, options.summary_features));
    dt = Tanh<S>().backward(std::move(dt), tape);
    Tensor<S> dsummary = residua::backward(*summary, "summary", std::move(dt), tape);
    return wanted ? detail::sum(std::move(dx), std::move(dsummary)) : Tensor<S>();
  }

  // --- with a condition ----------------------------------------------------------------------------------------------

  /// y and the gate, which is empty without the option.   condition (N, D), x (N, …, C) → y (N, …, C), gate (N, C)
  std::pair<Tensor<S>, Tensor<S>> forward(Tensor<S> x, Tensor<S> condition, Tape<S>& tape) const {
    if (!modulation) {
      tape.fail("AdaptiveLayerNorm", "expected no condition, since condition_features is 0, got ", condition.shape());
    }
    detail::check_features("AdaptiveLayerNorm", options.num_features, 2, x.shape(), tape);
    if (condition.shape() != Shape{x.dim(0), options.condition_features}) {
      tape.fail("AdaptiveLayerNorm", "expected a condition ", Shape{x.dim(0), options.condition_features}, ", got ",
                condition.shape(), " (input is ", x.shape(), ")");
    }
    auto scope = tape.scope("");
    const Index C = options.num_features;
    const bool wanted = tape.input_gradient();
    Tensor<S> m = residua::forward(*modulation, "modulation", std::move(condition), tape);  // shift, scale, gate
    Tensor<S> gate;
    if (options.gate) {
      gate = Tensor<S>(Shape{x.dim(0), C}, uninitialized);
      gate.matrix() = m.cmatrix().rightCols(C);
    }
    m.matrix().middleCols(C, C).array() += S(1);  // γ = 1 + scale
    const bool modulation_wanted = tape.input_gradient();
    tape.set_input_gradient(wanted);
    Tensor<S> y = normalize(std::move(x), m, m.cdata() + C, m.cdata(), modulation_wanted, tape);
    return {std::move(y), std::move(gate)};
  }

  /// dx and dcondition.
  std::pair<Tensor<S>, Tensor<S>> backward(Tensor<S> dy, Tensor<S> dgate, Tape<S>& tape) {
    if (!modulation) tape.fail("AdaptiveLayerNorm", "expected backward(dy, tape), since there is no condition");
    auto scope = tape.scope("");
    const Index C = options.num_features;
    const auto [x, statistics, m] = tape.template pop<Tensor<S>, Tensor<S>, Tensor<S>>();
    Tensor<S> dx, dm;
    if (tape.output_gradient()) {
      detail::check_gradient("AdaptiveLayerNorm", dgate, options.gate ? Shape{x.dim(0), C} : Shape{0}, tape);
      dm = Tensor<S>(m.shape(), uninitialized);
      if (options.gate) dm.matrix().rightCols(C) = dgate.cmatrix();
      dx = normalize_gradient(x, statistics, m.cdata() + C, std::move(dy), dm.data() + C, dm.data(), m.dim(1), tape);
    }
    Tensor<S> dcondition = residua::backward(*modulation, "modulation", std::move(dm), tape);
    return {std::move(dx), std::move(dcondition)};
  }

  static void visit(auto& self, auto&& v) {
    if (self.modulation) v("modulation", *self.modulation);
    if (self.summary) v("summary", *self.summary);
    if (self.gamma) v("gamma", *self.gamma);
    if (self.beta) v("beta", *self.beta);
    if (self.plain) v("", *self.plain);
  }

 private:
  static const AdaptiveLayerNormOptions& checked(const AdaptiveLayerNormOptions& o) {
    detail::require_at_least("AdaptiveLayerNorm", "num_features", 1, o.num_features);
    detail::require_at_least("AdaptiveLayerNorm", "condition_features", 0, o.condition_features);
    detail::require_at_least("AdaptiveLayerNorm", "summary_features", 0, o.summary_features);
    detail::require_eps("AdaptiveLayerNorm", o.eps);
    if (o.condition_features > 0 && o.summary_features > 0) {
      fail("AdaptiveLayerNorm", "expected condition_features or summary_features, got both, ", o.condition_features,
           " and ", o.summary_features);
    }
    if (o.gate && o.condition_features == 0) {
      fail("AdaptiveLayerNorm", "expected condition_features where there is a gate, got 0");
    }
    return o;
  }

  kernels::RowNorm<S> rows_of(const Tensor<S>& x, const S* scale, const S* shift) const {
    return {.rows = x.rows(), .features = options.num_features, .eps = options.eps, .centered = true, .weight = scale,
            .bias = shift};
  }

  /// y = norm(x) · γ + β. Keeps x, its statistics and `factors`, which γ is in; samples' γ and β are a row of it apart.
  Tensor<S> normalize(Tensor<S> x, Tensor<S> factors, const S* scale, const S* shift, bool factors_wanted,
                      Tape<S>& tape) const {
    const S* const in = x.cdata();
    const auto norm = rows_of(x, scale, shift);
    Tensor<S> statistics(Shape{tape.recording() ? norm.rows : 0, 2}, uninitialized);  // mean and rstd of each row
    Tensor<S> y = tape.recording() ? Tensor<S>(x.shape(), uninitialized) : detail::take_over(x);
    kernels::row_norm(norm, factors.dim(0), factors.dim(1), in, y.data(), statistics.data());
    tape.push_for(factors_wanted, std::move(x), std::move(statistics), std::move(factors));
    return y;
  }

  /// dx, empty where it is not wanted; dγ and dβ are written, each sample's `stride` apart.
  Tensor<S> normalize_gradient(const Tensor<S>& x, const Tensor<S>& statistics, const S* scale, Tensor<S> dy, S* dscale,
                               S* dshift, Index stride, const Tape<S>& tape) const {
    detail::check_gradient("AdaptiveLayerNorm", dy, x.shape(), tape);
    const S* const d = dy.cdata();
    Tensor<S> dx = tape.input_gradient() ? detail::take_over(dy) : Tensor<S>();
    kernels::row_norm_gradient<S>(rows_of(x, scale, nullptr), x.dim(0), stride, x.cdata(), statistics.cdata(), d,
                                  dx.data(), dscale, dshift);
    return dx;
  }
};

}  // namespace residua::inline RESIDUA_ABI
