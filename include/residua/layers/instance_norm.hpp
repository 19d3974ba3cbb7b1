// InstanceNorm: each channel of each image normalised over height and width.
#pragma once

#include <utility>

#include <residua/core/layer.hpp>
#include <residua/kernels/normalization.hpp>
#include <residua/layers/norm_checks.hpp>
#include <residua/layers/running_statistics.hpp>

namespace residua::inline RESIDUA_ABI {

struct InstanceNormOptions {
  Index num_features = 0;
  double eps = 1e-5;
  double momentum = 0.1;  ///< share of the new value in the running statistics
  bool affine = false;
  bool track_running_stats = false;
};

/// y = (x − mean) / √(var + eps) · weight + bias,   mean and biased variance of each channel of each sample, over all
/// its positions: (N, H, W, C), (N, T, C).
///
/// weight and bias are (C) and start at 1 and 0. With track_running_stats the mean over the batch of the samples'
/// statistics, the variance unbiased, is folded by backward into the running ones, as BatchNorm does, and these are
/// used in evaluation. Throws Error for another number of features, an empty batch, or a single position per channel
/// where its own statistics are to be used.
///
/// Ulyanov, Vedaldi and Lempitsky, "Instance Normalization" (2016).
template <typename S>
class InstanceNorm : public Samplewise<InstanceNorm<S>, S> {
 public:
  InstanceNormOptions options;
  Parameter<S> weight, bias;
  Buffer<S> running_mean, running_var;  // (C), start at 0 and 1
  Buffer<S> num_batches_tracked;        // PyTorch's file has it; it stays 0 there too

  explicit InstanceNorm(const InstanceNormOptions& o) : options(o) {
    detail::require_at_least("InstanceNorm", "num_features", 1, o.num_features);
    detail::require_eps("InstanceNorm", o.eps);
    if (!(o.momentum >= 0 && o.momentum <= 1)) {
      fail("InstanceNorm", "expected momentum between 0 and 1, got ", o.momentum);
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
    detail::check_features("InstanceNorm", C, 3, x.shape(), tape);
    const bool tracked = options.track_running_stats;
    const auto norm = channels_of(x.shape(), !tracked || tape.training());
    if (norm.of_input && norm.pixels == 1) {
      tape.fail("InstanceNorm", "expected more than 1 position per channel, got input ", x.shape());
    }

    Tensor<S> moments(Shape{norm.samples, 2, C}, uninitialized);  // mean and variance of each sample
    for (S *to = moments.data(), *end = to + moments.size(); !norm.of_input && to != end;) {
      to = std::copy_n(running_mean.value.cdata(), C, to);
      to = std::copy_n(running_var.value.cdata(), C, to);
    }
    const S* const in = x.cdata();
    Tensor<S> y = tape.recording() ? Tensor<S>(x.shape(), uninitialized) : detail::take_over(x);
    kernels::group_norm(norm, in, y.data(), moments.data());

    Tensor<S> statistics;
    if (tracked && tape.training()) statistics = of_batch(norm, moments);
    if (tape.updates_in_forward()) fold(std::exchange(statistics, {}), tape);
    tape.push_for(weight.trainable() || bias.trainable(), Recorded{std::move(x), std::move(moments), norm.of_input});
    tape.keep(std::move(statistics));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");  // updates wait for the end of it
    auto statistics = tape.template pop<Tensor<S>>();
    const auto [x, moments, of_input] = tape.template pop<Recorded>();
    if (tape.output_gradient()) detail::check_gradient("InstanceNorm", dy, x.shape(), tape);
    fold(std::move(statistics), tape);
    if (!tape.output_gradient()) return {};
    Tensor<S> dweight = detail::gradient_memory(weight), dbias = detail::gradient_memory(bias);
    const S* const d = dy.cdata();
    Tensor<S> dx = tape.input_gradient() ? detail::take_over(dy) : Tensor<S>();
    kernels::group_norm_gradient(channels_of(x.shape(), of_input), x.cdata(), moments.cdata(), d, dx.data(),
                                 dweight.data(), dbias.data());
    weight.add_gradient(std::move(dweight));
    bias.add_gradient(std::move(dbias));
    return dx;
  }

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
    bool of_input;
  };

  kernels::GroupNorm<S> channels_of(const Shape& x, bool of_input) const {
    return {.samples = x[0], .pixels = x.rows() / x[0], .channels = x[-1], .groups = x[-1], .eps = options.eps,
            .of_input = of_input, .weight = weight.value.cdata(), .bias = bias.value.cdata()};
  }

  /// The mean over the batch of the samples' means and unbiased variances.   (2, C)
  static Tensor<S> of_batch(const kernels::GroupNorm<S>& norm, const Tensor<S>& moments) {
    const Index C = norm.channels;
    const S samples = static_cast<S>(norm.samples), pixels = static_cast<S>(norm.pixels);
    Tensor<S> result = kernels::column_sums(moments.cdata(), norm.samples, 2 * C).reshaped(Shape{2, C});
    S *const mean = result.data(), *const variance = mean + C;
    for (Index c = 0; c < C; ++c) {
      mean[c] /= samples;
      variance[c] = variance[c] / samples * (pixels / (pixels - 1));
    }
    return result;
  }

  /// Has them folded into the running ones; nothing where there are none.
  void fold(Tensor<S> statistics, Tape<S>& tape) const {
    if (statistics.empty()) return;
    tape.on_success(detail::Fold<S>{running_mean.handle(), running_var.handle(), num_batches_tracked.handle(), false,
                                    options.momentum, std::move(statistics)});
  }
};

}  // namespace residua::inline RESIDUA_ABI
