// evaluate: how good a network is on data it does not learn from.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <residua/train/history.hpp>
#include <residua/train/metrics.hpp>

namespace residua::inline RESIDUA_ABI {

/// What evaluate returns.
struct Evaluation {
  double loss = 0;                                ///< the mean over all samples
  std::optional<ClassificationMetrics> metrics;   ///< where the targets are labels

  /// loss, and with labels accuracy and, for more than five classes, top5.
  Measures measures() const {
    Measures all{{"loss", loss}};
    if (metrics) all.emplace_back("accuracy", metrics->accuracy());
    if (metrics && metrics->classes() > 5) all.emplace_back("top5", metrics->top_k_accuracy(5));
    return all;
  }
};

namespace detail {

/// Whether a batch's targets are the labels of classes.
template <typename Targets>
inline constexpr bool is_labels = std::is_same_v<std::remove_cvref_t<Targets>, std::vector<Index>>;

/// How many rows of logits are largest at their label.
template <typename S>
Index count_right(const Tensor<S>& logits, const std::vector<Index>& labels) {
  const std::vector<Index> predicted = argmax(logits);
  Index right = 0;
  for (std::size_t n = 0; n < labels.size(); ++n) right += predicted[n] == labels[n];
  return right;
}

}  // namespace detail

/// Predicts all batches of a loader and compares with their targets. `loss(outputs, targets)` is a mean over a batch's
/// samples.
///
///     auto loss = [](const auto& outputs, const auto& targets) { return cross_entropy(outputs, targets); };
///     Evaluation result = evaluate(net, test_loader, loss);
///     std::cout << result.loss << '\n' << *result.metrics;
template <typename Net, typename Loader, typename LossFunction>
Evaluation evaluate(const Net& net, const Loader& loader, LossFunction&& loss) {
  Evaluation result;
  Index samples = 0;
  for (auto&& batch : loader) {
    const Index count = batch.inputs.dim(0);
    const auto outputs = net(std::move(batch.inputs));
    result.loss += loss(outputs, batch.targets).value * static_cast<double>(count);
    samples += count;
    if constexpr (detail::is_labels<decltype(batch.targets)>) {
      if (!result.metrics) result.metrics.emplace(outputs.features());
      result.metrics->add(outputs, batch.targets);
    }
  }
  if (samples > 0) result.loss /= static_cast<double>(samples);
  return result;
}

}  // namespace residua::inline RESIDUA_ABI
