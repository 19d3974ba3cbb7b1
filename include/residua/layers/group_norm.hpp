// GroupNorm: groups of channels of each sample normalised.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/kernels/normalization.hpp>
#include <residua/layers/finish.hpp>
#include <residua/layers/norm_checks.hpp>

namespace residua::inline RESIDUA_ABI {

struct GroupNormOptions {
  Index num_groups = 0;
  Index num_channels = 0;
  double eps = 1e-5;
  bool affine = true;
};

/// y = (x − mean) / √(var + eps) · weight + bias,   mean and biased variance of each group of num_channels / num_groups
/// neighbouring channels of each sample, over all its positions: (N, C), (N, T, C), (N, H, W, C).
///
/// weight and bias are (C) and start at 1 and 0. Throws Error for groups that do not divide the channels or a negative
/// eps, and in forward for another number of channels or an empty batch.
///
/// Wu and He, "Group Normalization" (2018).
template <typename S>
class GroupNorm : public Samplewise<GroupNorm<S>, S> {
 public:
  GroupNormOptions options;
  Parameter<S> weight, bias;

  explicit GroupNorm(const GroupNormOptions& o) : options(o) {
    detail::require_at_least("GroupNorm", "num_groups", 1, o.num_groups);
    detail::require_at_least("GroupNorm", "num_channels", 1, o.num_channels);
    detail::require_eps("GroupNorm", o.eps);
    if (o.num_channels % o.num_groups != 0) {
      fail("GroupNorm", "expected num_groups that divides num_channels, got ", o.num_groups, " for ", o.num_channels);
    }
    if (o.affine) {
      weight = Parameter<S>(Tensor<S>(Shape{o.num_channels}, S(1)));
      bias = Parameter<S>(Tensor<S>(Shape{o.num_channels}, S(0)));
    }
  }

  using Finishes = GroupNorm;

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::check_features("GroupNorm", options.num_channels, 2, x.shape(), tape);
    const auto norm = groups_of(x.shape());
    const S* const in = x.cdata();
    Tensor<S> moments(Shape{norm.samples, 2, norm.channels}, uninitialized);
    detail::Ending<S> end = detail::take_finish(x.shape(), tape);
    const S* const sum = end.sum.cdata();
    Tensor<S> y = detail::memory_for_norm(x, end.sum, tape);
    kernels::group_norm(norm, in, y.data(), moments.data(), sum, end.relu);
    tape.push_for(weight.trainable() || bias.trainable(), std::move(x), std::move(moments));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto [x, moments] = tape.template pop<Tensor<S>, Tensor<S>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("GroupNorm", dy, x.shape(), tape);
    Tensor<S> dweight = detail::gradient_memory(weight), dbias = detail::gradient_memory(bias);
    const S* const d = dy.cdata();
    Tensor<S> dx = tape.input_gradient() ? detail::take_over(dy) : Tensor<S>();
    kernels::group_norm_gradient(groups_of(x.shape()), x.cdata(), moments.cdata(), d, dx.data(), dweight.data(),
                                 dbias.data());
    weight.add_gradient(std::move(dweight));
    bias.add_gradient(std::move(dbias));
    return dx;
  }

  static void visit(auto& self, auto&& v) {
    v("weight", self.weight);
    v("bias", self.bias);
  }

 private:
  kernels::GroupNorm<S> groups_of(const Shape& x) const {
    return {.samples = x[0], .pixels = x.rows() / x[0], .channels = x[-1], .groups = options.num_groups,
            .eps = options.eps, .of_input = true, .weight = weight.value.cdata(), .bias = bias.value.cdata()};
  }
};

}  // namespace residua::inline RESIDUA_ABI
