// Cross-entropy: the loss of a classifier, computed from its logits.
#pragma once

#include <cmath>
#include <limits>
#include <span>

#include <residua/core/threads.hpp>
#include <residua/loss/loss.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename S>
struct CrossEntropyOptions {
  Tensor<S> weight = {};                  ///< one weight per class; empty: all 1
  Index ignore_index = -100;              ///< rows with this label count nothing
  Reduction reduction = Reduction::mean;
  double label_smoothing = 0;             ///< ε in [0, 1]: the share of the target spread over all classes
};

/// The mean over rows of −log softmax(logits)[label], as PyTorch's CrossEntropyLoss.
///
///     loss_n = −(1 − ε) w[label_n] log p_n[label_n] − ε/classes Σ_c w[c] log p_n[c],   p_n = softmax(logits_n)
///
/// summed, or with Reduction::mean divided by Σ_n w[label_n]. That divisor is 0 where every row is ignored, and the
/// loss then NaN, as in PyTorch. The loss is summed in double.
///
/// Shapes: logits (…, classes); one label for each row. Throws Error for no rows, another number of labels, a label
/// that is neither a class nor ignore_index, a weight that is not (classes), or a smoothing outside of [0, 1].
template <typename S>
Loss<S> cross_entropy(const Tensor<S>& logits, std::span<const Index> labels, CrossEntropyOptions<S> options = {}) {
  const char* const place = "cross_entropy";
  const Index rows = logits.rows(), classes = logits.features();
  const double smoothing = options.label_smoothing;
  if (logits.empty()) fail(place, "expected at least one row and one class, got logits ", logits.shape());
  if (static_cast<Index>(labels.size()) != rows) {
    fail(place, "expected ", rows, " labels for logits ", logits.shape(), ", got ", labels.size());
  }
  if (!options.weight.empty() && options.weight.shape() != Shape{classes}) {
    fail(place, "expected a weight of shape ", Shape{classes}, ", got ", options.weight.shape());
  }
  if (!(smoothing >= 0 && smoothing <= 1)) fail(place, "expected a label_smoothing from 0 to 1, got ", smoothing);

  const S* w = options.weight.empty() ? nullptr : options.weight.cdata();
  double divisor = 0, weight_sum = static_cast<double>(classes);
  for (std::size_t n = 0; n < labels.size(); ++n) {
    const Index label = labels[n];
    if (label == options.ignore_index) continue;
    if (label < 0 || label >= classes) {
      fail(place, "expected labels from 0 to ", classes - 1, ", got ", label, " at row ", n);
    }
    divisor += w ? static_cast<double>(w[label]) : 1;
  }
  if (w) weight_sum = options.weight.carray().template cast<double>().sum();
  if (options.reduction == Reduction::sum) divisor = 1;

  const double hard = 1 - smoothing, soft = smoothing / static_cast<double>(classes);
  Tensor<S> dx(logits.shape(), uninitialized);
  Tensor<double> losses(Shape{rows}, uninitialized);
  const ConstMatrixMap<S> x = logits.cmatrix();
  MatrixMap<S> gradient = dx.matrix();
  double* const loss = losses.data();

  parallel_ranges(rows, 64, [&](Index first, Index last) {
    for (Index n = first; n < last; ++n) {
      const Index label = labels[static_cast<std::size_t>(n)];
      auto dx_n = gradient.row(n).array();
      if (label == options.ignore_index) {
        dx_n.setZero();
        loss[n] = 0;
        continue;
      }
      const auto x_n = x.row(n).array();
      const S largest = x_n.maxCoeff();
      dx_n = (x_n - largest).exp();
      const S sum = dx_n.sum();
      const double log_sum = static_cast<double>(largest) + std::log(static_cast<double>(sum));
      const double w_label = w ? static_cast<double>(w[label]) : 1;

      loss[n] = hard * w_label * (log_sum - static_cast<double>(x_n[label]));
      dx_n *= static_cast<S>((hard * w_label + soft * weight_sum) / divisor / static_cast<double>(sum));
      dx_n[label] -= static_cast<S>(hard * w_label / divisor);
      if (soft == 0) continue;
      for (Index c = 0; c < classes; ++c) {
        const double w_c = w ? static_cast<double>(w[c]) : 1;
        loss[n] += soft * w_c * (log_sum - static_cast<double>(x_n[c]));
        dx_n[c] -= static_cast<S>(soft * w_c / divisor);
      }
    }
  });

  double total = 0;
  for (Index n = 0; n < rows; ++n) total += loss[n];
  if (options.reduction == Reduction::mean) total /= divisor;
  return {total, std::move(dx)};
}

}  // namespace residua::inline RESIDUA_ABI
