// BatchNorm: each channel normalised over the batch.
#pragma once

#include <cmath>
#include <optional>
#include <type_traits>

#include <residua/core/layer.hpp>
#include <residua/core/options.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/layers/running_statistics.hpp>

namespace residua::inline RESIDUA_ABI {

struct BatchNormOptions {
  Index num_features = 0;
  double eps = 1e-5;
  std::optional<double> momentum = 0.1;  ///< share of the new value; none: the average of all batches so far
  bool affine = true;
  bool track_running_stats = true;
  bool frozen = false;  ///< use the running statistics, and leave them alone, in training too
};

/// y = (x − mean) / √(var + eps) · weight + bias   for each feature, over all rows: (N, C), (N, T, C), (N, H, W, C).
///
/// In training mean and (biased) variance are the batch's, and backward folds them into the running statistics once for
/// each recorded forward:  running ← (1 − momentum) · running + momentum · batch, the variance unbiased there. In
/// evaluation, or when `frozen`, the running statistics are used. Without running statistics the batch's are used always.
/// Throws Error for another number of features, an empty batch, or training on a single row.
///
/// Ioffe and Szegedy, "Batch Normalization" (2015).
template <typename S>
class BatchNorm : public Network<BatchNorm<S>, S> {
 public:
  BatchNormOptions options;
  Parameter<S> weight, bias;                                // (C), start at 1 and 0
  Buffer<S> running_mean, running_var, num_batches_tracked;  // (C), start at 0 and 1; a single number

  explicit BatchNorm(const BatchNormOptions& o) : options(o) {
    detail::require_at_least("BatchNorm", "num_features", 1, o.num_features);
    if (!(o.eps >= 0)) fail("BatchNorm", "expected eps of at least 0, got ", o.eps);
    if (o.momentum && !(*o.momentum >= 0 && *o.momentum <= 1)) {
      fail("BatchNorm", "expected momentum between 0 and 1, got ", *o.momentum);
    }
    const Shape channels{o.num_features};
    if (o.affine) {
      weight = Parameter<S>(Tensor<S>(channels, S(1)));
      bias = Parameter<S>(Tensor<S>(channels, S(0)));
    }
    if (o.track_running_stats) {
      running_mean = Buffer<S>(Tensor<S>(channels, S(0)));
      running_var = Buffer<S>(Tensor<S>(channels, S(1)));
      num_batches_tracked = Buffer<S>(Tensor<S>(Shape{}, S(0)), Layout::count);
    }
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const Index C = options.num_features;
    if (x.rank() < 2 || x.dim(-1) != C) {
      tape.fail("BatchNorm", "expected ", C, " input features, got ", x.features(), " (input is ", x.shape(), ")");
    }
    if (x.empty()) tape.fail("BatchNorm", "expected a batch that is not empty, got ", x.shape());
    if (options.affine) {
      detail::check_value("BatchNorm", "weight", weight.value, Shape{C}, tape);
      detail::check_value("BatchNorm", "bias", bias.value, Shape{C}, tape);
    }
    if (options.track_running_stats) {
      detail::check_value("BatchNorm", "running_mean", running_mean.value, Shape{C}, tape);
      detail::check_value("BatchNorm", "running_var", running_var.value, Shape{C}, tape);
    }

    const bool of_batch = batch_statistics(tape);
    if (of_batch && tape.training() && x.rows() == 1) {
      tape.fail("BatchNorm", "expected more than 1 value per channel when training, got input ", x.shape());
    }
    Tensor<S> mean = running_mean.value, rstd;  // (C)
    std::optional<detail::Fold<S>> fold;
    if (of_batch) {
      const Tensor<S> moments = kernels::column_moments(x.cdata(), x.rows(), C);  // means, then Σ(x − mean)²
      const S* const squares = moments.cdata() + C;
      const S rows = static_cast<S>(x.rows());
      mean = per_channel([&](Index c) { return moments.cdata()[c]; });
      rstd = per_channel([&](Index c) { return S(1) / std::sqrt(squares[c] / rows + eps()); });
      if (tape.training() && options.track_running_stats) {
        fold = detail::Fold<S>{running_mean.handle(), running_var.handle(), num_batches_tracked.handle(),
                               options.momentum, mean,
                               per_channel([&](Index c) { return squares[c] / (rows - S(1)); })};
      }
    } else {
      rstd = per_channel([&](Index c) { return S(1) / std::sqrt(running_var.value.cdata()[c] + eps()); });
    }

    // y = (x − mean) · scale + bias,   scale = rstd · weight
    const S* const in = x.cdata();
    Tensor<S> y = tape.recording() ? Tensor<S>(x.shape(), uninitialized) : detail::take_over(x);
    S* const out = y.data();
    const kernels::WideRows wide(y.rows(), C);
    const Tensor<S> center = kernels::repeated(mean.cdata(), wide);
    const Tensor<S> scale = kernels::repeated(scaled(rstd).cdata(), wide);
    const Tensor<S> shift = options.affine ? kernels::repeated(bias.value.cdata(), wide) : Tensor<S>(Shape{wide.width});
    parallel_for(wide.blocks(), [&](Index block) {
      wide.for_each(block, [&](Index at, Index n) {
        ArrayMap<S>(out + at, n) =
            (ConstArrayMap<S>(in + at, n) - center.carray().head(n)) * scale.carray().head(n) + shift.carray().head(n);
      });
    });

    if (fold && tape.updates_in_forward()) {
      tape.on_success(std::move(*fold));
      fold.reset();
    }
    tape.push_for(weight.trainable() || bias.trainable(), std::move(x), std::move(mean), std::move(rstd), of_batch);
    tape.keep(std::move(fold));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");  // updates wait for the end of it
    auto fold = tape.template pop<std::optional<detail::Fold<S>>>();
    const auto [x, mean, rstd, of_batch] = tape.template pop<Tensor<S>, Tensor<S>, Tensor<S>, bool>();
    if (tape.output_gradient()) detail::check_gradient("BatchNorm", dy, x.shape(), tape);
    if (fold) tape.on_success(std::move(*fold));
    if (!tape.output_gradient()) return {};

    const Index C = options.num_features;
    const bool learns = weight.trainable() || bias.trainable();
    Tensor<S> sums(Shape{2, C});  // Σ dy, Σ dy · (x − mean)
    if (learns || of_batch) sums = kernels::column_gradients(dy.cdata(), x.cdata(), mean.cdata(), x.rows(), C);
    const S* const sum = sums.cdata();
    const S* const product = sum + C;
    const S* const r = rstd.cdata();
    if (learns) {
      weight.add_gradient(per_channel([&](Index c) { return product[c] * r[c]; }));
      bias.add_gradient(per_channel([&](Index c) { return sum[c]; }));
    }
    if (!tape.input_gradient()) return {};

    // dx = scale · (dy − Σdy / N − (x − mean) · rstd² · Σ(dy · (x − mean)) / N),  without the sums where the batch's
    // statistics are not used
    const kernels::WideRows wide(x.rows(), C);
    const Tensor<S> scales = scaled(rstd);
    const Tensor<S> scale = kernels::repeated(scales.cdata(), wide);
    const S* const in = x.cdata();
    const S* const d = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);
    S* const out = dx.data();
    const S share = of_batch ? S(1) / static_cast<S>(x.rows()) : S(0);
    const Tensor<S> center = kernels::repeated(mean.cdata(), wide);
    const auto shifts = per_channel([&](Index c) { return scales.cdata()[c] * sum[c] * share; });
    const auto slopes = per_channel([&](Index c) { return scales.cdata()[c] * r[c] * r[c] * product[c] * share; });
    const Tensor<S> shift = kernels::repeated(shifts.cdata(), wide), slope = kernels::repeated(slopes.cdata(), wide);
    parallel_for(wide.blocks(), [&](Index block) {
      wide.for_each(block, [&](Index at, Index n) {
        ArrayMap<S>(out + at, n) = ConstArrayMap<S>(d + at, n) * scale.carray().head(n) - shift.carray().head(n) -
                                   (ConstArrayMap<S>(in + at, n) - center.carray().head(n)) * slope.carray().head(n);
      });
    });
    return dx;
  }

  /// See layers/fused.hpp.
  Layer<S> inference() const;

  static void visit(auto& self, auto&& v) {
    v("weight", self.weight);
    v("bias", self.bias);
    v("running_mean", self.running_mean);
    v("running_var", self.running_var);
    v("num_batches_tracked", self.num_batches_tracked);
  }

 private:
  bool batch_statistics(const Tape<S>& tape) const {
    return !options.track_running_stats || (tape.training() && !options.frozen);
  }

  S eps() const { return static_cast<S>(options.eps); }

  template <typename F>
  Tensor<S> per_channel(F&& f) const {
    Tensor<S> result(Shape{options.num_features}, uninitialized);
    S* const to = result.data();
    for (Index c = 0; c < options.num_features; ++c) to[c] = f(c);
    return result;
  }

  /// rstd · weight
  Tensor<S> scaled(const Tensor<S>& rstd) const {
    if (!options.affine) return rstd;
    return per_channel([&](Index c) { return rstd.cdata()[c] * weight.value.cdata()[c]; });
  }
};

/// Folds the statistics of `batches`, any range of tensors, into the running ones of every BatchNorm in `net`, from
/// forwards alone: after weights were averaged or loaded, for example. Dropout and the like draw from `random`.
template <typename Net, typename Batches>
void update_statistics(Net& net, const Batches& batches, Random random = Random(0)) {
  for (const auto& batch : batches) {
    Tape<typename std::remove_cvref_t<decltype(batch)>::Scalar> tape(
        random, {.mode = Mode::train, .record = false, .update_statistics = true});
    net.forward(batch, tape);
  }
}

}  // namespace residua::inline RESIDUA_ABI

#include <residua/layers/fused.hpp>
