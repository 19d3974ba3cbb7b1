// Cross-entropy: the loss of a classifier, computed from its logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include <residua/core/threads.hpp>
#include <residua/kernels/softmax.hpp>
#include <residua/loss/labels.hpp>
#include <residua/loss/loss.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename S>
struct CrossEntropyOptions {
  Tensor<S> weight = {};                  ///< one weight per class; empty: all 1
  Index ignore_index = -100;              ///< rows with this label count nothing
  Reduction reduction = Reduction::mean;
  double label_smoothing = 0;             ///< ε in [0, 1]: the share of the target spread over all classes
};

namespace detail {

template <typename S>
void check_cross_entropy(std::string_view place, const Tensor<S>& logits, const CrossEntropyOptions<S>& options) {
  const Shape per_class{logits.features()};
  const double smoothing = options.label_smoothing;
  if (logits.empty()) fail(place, "expected at least one row and one class, got logits ", logits.shape());
  if (!options.weight.empty() && options.weight.shape() != per_class) {
    fail(place, "expected a weight of shape ", per_class, ", got ", options.weight.shape());
  }
  if (!(smoothing >= 0 && smoothing <= 1)) fail(place, "expected a label_smoothing from 0 to 1, got ", smoothing);
}

/// One row of logits, and Σ_c −q[c] log p[c] for the classes c that are expected of it: p = softmax(x), log p = x − log_sum.
template <typename S>
struct CrossEntropyRow {
  const S* x;
  S* dx;  // p at first
  Index classes;
  double divisor;  // of the gradient
  double log_sum, loss = 0;

  /// Nothing is expected.
  void ignore() { std::fill_n(dx, classes, S(0)); }

  /// First: the gradient begins as p, as many times as Σ_c q[c] says.
  void begin(double q_sum) {
    const S share = static_cast<S>(q_sum / divisor);
    kernels::map_range(classes, dx, [share](auto p) { return p * share; }, static_cast<const S*>(dx));
  }

  /// Class c is expected, with the weight q.
  void expect(Index c, double q) {
    loss += q * (log_sum - static_cast<double>(x[c]));
    dx[c] -= static_cast<S>(q / divisor);
  }
};

/// The rows' losses, summed and divided. `target(n, row)` tells row n what is expected of it.
template <typename S, typename Target>
Loss<S> cross_entropy_of_rows(const Tensor<S>& logits, double divisor, Target&& target) {
  const Index rows = logits.rows(), classes = logits.features();
  Tensor<S> gradient(logits.shape(), uninitialized);
  const Scratch<double> loss(rows);
  const S* const x = logits.cdata();
  S* const dx = gradient.data();
  parallel_ranges(rows, std::clamp<Index>(32768 / classes, 64, 256), [&](Index first, Index last) {
    Tensor<S> scratch(Shape{2, last - first}, uninitialized);
    S *const top = scratch.data(), *const sum = top + (last - first);
    kernels::softmax_of_rows(x + first * classes, dx + first * classes, last - first, classes, top, sum);
    for (Index n = first; n < last; ++n) {
      const double log_sum = static_cast<double>(top[n - first]) + std::log(static_cast<double>(sum[n - first]));
      CrossEntropyRow<S> row{x + n * classes, dx + n * classes, classes, divisor, log_sum};
      target(n, row);
      loss[n] = row.loss;
    }
  });
  double total = 0;
  for (Index n = 0; n < rows; ++n) total += loss[n];
  return {total / divisor, std::move(gradient)};
}

}  // namespace detail

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
  detail::check_cross_entropy(place, logits, options);
  detail::check_labels(place, logits.shape(), labels);
  const Index classes = logits.features();
  const detail::LossWeight<S> w(options.weight);
  double divisor = 0, w_sum = 0;
  for (std::size_t n = 0; n < labels.size(); ++n) {
    if (labels[n] == options.ignore_index) continue;
    detail::check_label(place, classes, labels[n], n);
    divisor += w(labels[n]);
  }
  if (options.reduction == Reduction::sum) divisor = 1;
  for (Index c = 0; c < classes; ++c) w_sum += w(c);

  const double hard = 1 - options.label_smoothing, soft = options.label_smoothing / static_cast<double>(classes);
  return detail::cross_entropy_of_rows(logits, divisor, [&](Index n, detail::CrossEntropyRow<S>& row) {
    const Index label = labels[static_cast<std::size_t>(n)];
    if (label == options.ignore_index) return row.ignore();
    row.begin(hard * w(label) + soft * w_sum);
    row.expect(label, hard * w(label));
    if (soft == 0) return;
    for (Index c = 0; c < classes; ++c) row.expect(c, soft * w(c));
  });
}

/// The mean over rows of −Σ_c t[c] log softmax(logits)[c], as PyTorch's CrossEntropyLoss of class probabilities: what
/// mixtures of images have as targets.
///
///     loss_n = −Σ_c w[c] ((1 − ε) t_n[c] + ε/classes) log p_n[c],   p_n = softmax(logits_n)
///
/// summed, or with Reduction::mean divided by the number of rows. The loss is summed in double. The rows of the target
/// are taken as they are, whatever their sum.
///
/// Shapes: logits and target (…, classes). Throws Error for no rows, shapes that differ, a weight that is not
/// (classes), a smoothing outside of [0, 1], or an ignore_index that may be a class: there are no labels to ignore.
template <typename S>
Loss<S> cross_entropy(const Tensor<S>& logits, const Tensor<S>& target, CrossEntropyOptions<S> options = {}) {
  const char* const place = "cross_entropy";
  detail::check_cross_entropy(place, logits, options);
  if (target.shape() != logits.shape()) {
    fail(place, "expected class probabilities of shape ", logits.shape(), ", got ", target.shape());
  }
  if (options.ignore_index >= 0) {
    fail(place, "expected no ignore_index with class probabilities, got ", options.ignore_index);
  }
  const Index rows = logits.rows(), classes = logits.features();
  const detail::LossWeight<S> w(options.weight);
  const double hard = 1 - options.label_smoothing, soft = options.label_smoothing / static_cast<double>(classes);
  const double divisor = options.reduction == Reduction::mean ? static_cast<double>(rows) : 1;
  return detail::cross_entropy_of_rows(logits, divisor, [&](Index n, detail::CrossEntropyRow<S>& row) {
    const S* const t = target.cdata() + n * classes;
    const auto q = [&](Index c) { return w(c) * (hard * static_cast<double>(t[c]) + soft); };
    double q_sum = 0;
    for (Index c = 0; c < classes; ++c) q_sum += q(c);
    row.begin(q_sum);
    for (Index c = 0; c < classes; ++c) row.expect(c, q(c));
  });
}

}  // namespace residua::inline RESIDUA_ABI
