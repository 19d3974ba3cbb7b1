// Binary cross-entropy from logits: the loss of yes-or-no questions, many of which may be true of one row.
#pragma once

#include <algorithm>
#include <cmath>

#include <residua/loss/elementwise_loss.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename S>
struct BCEWithLogitsOptions {
  Tensor<S> weight = {};                  ///< of the logits' shape, or one weight per feature; empty: all 1
  Reduction reduction = Reduction::mean;
  Tensor<S> pos_weight = {};              ///< how much a yes counts, one weight per feature; empty: all 1
};

/// The mean over all elements of −log of the probability given to the target, as PyTorch's BCEWithLogitsLoss, or their
/// sum. With t the target, w the weight and v the pos_weight of an element:
///
///     loss = −w (v t log σ(x) + (1 − t) log σ(−x)),   −log σ(x) = max(−x, 0) + log(1 + e^−|x|)
///
/// so that no logit is too large. A target may be any number from 0 to 1. The mean divides by the number of elements,
/// whatever the weights. Summed in double.
///
/// Shapes: logits and target alike, of any shape. Throws Error for no elements, shapes that differ, a weight that is
/// neither of the logits' shape nor (features), or a pos_weight that is not (features).
template <typename S>
Loss<S> bce_with_logits(const Tensor<S>& logits, const Tensor<S>& target, BCEWithLogitsOptions<S> options = {}) {
  const char* const place = "bce_with_logits";
  const Shape &shape = logits.shape(), per_feature{logits.features()};
  const Tensor<S> &weight = options.weight, &pos_weight = options.pos_weight;
  if (!weight.empty() && weight.shape() != shape && weight.shape() != per_feature) {
    fail(place, "expected a weight of shape ", shape, " or ", per_feature, ", got ", weight.shape());
  }
  if (!pos_weight.empty() && pos_weight.shape() != per_feature) {
    fail(place, "expected a pos_weight of shape ", per_feature, ", got ", pos_weight.shape());
  }
  const detail::LossWeight<S> weight_of(weight), pos_weight_of(pos_weight);
  return detail::elementwise_loss(place, logits, target, options.reduction, [&](double x, double t, Index i) {
    const double e = std::exp(-std::abs(x)), rest = std::log1p(e);
    const double larger = 1 / (1 + e), smaller = e / (1 + e);  // σ(|x|) and σ(−|x|)
    const double yes = weight_of(i) * pos_weight_of(i) * t, no = weight_of(i) * (1 - t);
    return detail::ElementLoss{yes * (std::max(-x, 0.0) + rest) + no * (std::max(x, 0.0) + rest),
                               x < 0 ? no * smaller - yes * larger : no * larger - yes * smaller};
  });
}

}  // namespace residua::inline RESIDUA_ABI
