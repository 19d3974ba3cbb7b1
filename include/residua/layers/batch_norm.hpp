// BatchNorm: each channel normalised over the batch.
#pragma once

#include <algorithm>
#include <optional>
#include <type_traits>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/kernels/normalization.hpp>
#include <residua/layers/finish.hpp>
#include <residua/layers/norm_checks.hpp>
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
    detail::require_eps("BatchNorm", o.eps);
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

  using Finishes = BatchNorm;

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const Index C = options.num_features;
    const Shape channels{C};
    detail::check_features("BatchNorm", C, 2, x.shape(), tape);
    if (options.affine) {
      detail::check_value("BatchNorm", "weight", weight.value, channels, tape);
      detail::check_value("BatchNorm", "bias", bias.value, channels, tape);
    }
    if (options.track_running_stats) {
      detail::check_value("BatchNorm", "running_mean", running_mean.value, channels, tape);
      detail::check_value("BatchNorm", "running_var", running_var.value, channels, tape);
    }

    const bool of_batch = !options.track_running_stats || (tape.training() && !options.frozen);
    if (of_batch && tape.training() && x.rows() == 1) {
      tape.fail("BatchNorm", "expected more than 1 value per channel when training, got input ", x.shape());
    }

    Tensor<S> moments(Shape{2, C}, uninitialized);  // mean and biased variance
    if (!of_batch) {
      S* const variance = std::copy_n(running_mean.value.cdata(), C, moments.data());
      std::copy_n(running_var.value.cdata(), C, variance);
    }
    const S* const in = x.cdata();
    const auto norm = channels_of(x.shape(), of_batch);
    detail::Ending<S> end = detail::take_finish(x.shape(), tape, kernels::norm_run(norm));
    const S* const sum = end.sum.cdata();
    Tensor<S> y = detail::memory_for_norm(x, end.sum, tape);
    kernels::group_norm(norm, in, y.data(), moments.data(), sum, end.relu, end.stopped);

    Tensor<S> statistics;
    if (of_batch && tape.training() && options.track_running_stats) statistics = unbiased(moments, y.rows());
    if (tape.updates_in_forward()) fold(std::exchange(statistics, {}), tape);
    tape.push_for(weight.trainable() || bias.trainable(), Recorded{std::move(x), std::move(moments), of_batch});
    tape.keep(std::move(statistics));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");  // updates wait for the end of it
    auto statistics = tape.template pop<Tensor<S>>();
    const auto [x, moments, of_batch] = tape.template pop<Recorded>();
    if (tape.output_gradient()) detail::check_gradient("BatchNorm", dy, x.shape(), tape);
    fold(std::move(statistics), tape);
    if (!tape.output_gradient()) return {};
    Tensor<S> dweight = detail::gradient_memory(weight), dbias = detail::gradient_memory(bias);
    const S* const d = dy.cdata();
    Tensor<S> dx = tape.input_gradient() ? detail::take_over(dy) : Tensor<S>();
    kernels::group_norm_gradient(channels_of(x.shape(), of_batch), x.cdata(), moments.cdata(), d, dx.data(),
                                 dweight.data(), dbias.data());
    weight.add_gradient(std::move(dweight));
    bias.add_gradient(std::move(dbias));
    return dx;
  }

  /// See layers/scale_shift.hpp.
  Layer<S> inference() const;

  bool samplewise() const { return options.track_running_stats; }

  static void visit(auto& self, auto&& v) {
    v("weight", self.weight);
    v("bias", self.bias);
    v("running_mean", self.running_mean);
    v("running_var", self.running_var);
    v("num_batches_tracked", self.num_batches_tracked);
  }

 private:
  struct Recorded {
    Tensor<S> x, moments;
    bool of_batch;
  };

  kernels::GroupNorm<S> channels_of(const Shape& x, bool of_batch) const {
    return {.samples = 1, .pixels = x.rows(), .channels = x[-1], .groups = x[-1], .eps = options.eps,
            .of_input = of_batch, .weight = weight.value.cdata(), .bias = bias.value.cdata()};
  }

  /// The mean and the unbiased variance of a batch of `rows`.   (2, C)
  static Tensor<S> unbiased(const Tensor<S>& moments, Index rows) {
    const Index C = moments.features();
    const S n = static_cast<S>(rows);
    Tensor<S> result(moments.shape(), uninitialized);
    S* const variance = std::copy_n(moments.cdata(), C, result.data());
    for (Index c = 0; c < C; ++c) variance[c] = moments.cdata()[C + c] * (n / (n - 1));
    return result;
  }

  /// Has them folded into the running ones; nothing where there are none.
  void fold(Tensor<S> statistics, Tape<S>& tape) const {
    if (statistics.empty()) return;
    tape.on_success(detail::Fold<S>{running_mean.handle(), running_var.handle(), num_batches_tracked.handle(), true,
                                    options.momentum, std::move(statistics)});
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

#include <residua/layers/scale_shift.hpp>
