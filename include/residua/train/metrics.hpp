// Metrics: what a classifier is judged by.
#pragma once

#include <algorithm>
#include <cmath>
#include <ostream>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <residua/core/tensor.hpp>
#include <residua/loss/labels.hpp>
#include <residua/train/table.hpp>

namespace residua::inline RESIDUA_ABI {

/// The class of the largest logit of each row, the first of several that are equal; −1 where a row holds a NaN: then
/// none is the largest.
///
/// Shape: logits (…, classes). Throws Error for no classes.
template <typename S>
std::vector<Index> argmax(const Tensor<S>& logits) {
  const Index classes = logits.features();
  if (classes == 0) fail("argmax", "expected at least one class, got logits ", logits.shape());
  std::vector<Index> result;
  result.reserve(static_cast<std::size_t>(logits.rows()));
  for (const S *x = logits.cdata(), *end = x + logits.size(); x != end; x += classes) {
    Index best = 0;
    bool ordered = true;
    for (Index c = 0; c < classes; ++c) {
      if (x[c] > x[best]) best = c;
      ordered = ordered && !std::isnan(x[c]);
    }
    result.push_back(ordered ? best : -1);
  }
  return result;
}

/// How well one class is told from the others, or the average over classes. What would be divided by 0 is 0.
struct ClassScores {
  double precision = 0;  ///< of the rows predicted to be of the class, the share that is
  double recall = 0;     ///< of the rows of the class, the share predicted to be
  double f1 = 0;         ///< the harmonic mean of both
  Index support = 0;     ///< the rows of the class
};

/// Counts what a classifier predicts for rows whose labels are known, batch by batch; how they are cut into batches
/// makes no difference.
///
///     ClassificationMetrics metrics(10);
///     for (auto [images, labels] : batches) metrics.add(net(images), labels);
///     std::cout << metrics.accuracy() << '\n' << metrics;
///
/// A row is predicted to be of the class of its largest logit, the first of equals. A row that holds a NaN is predicted
/// to be of no class and never right. Before anything is added all figures are 0.
class ClassificationMetrics {
 public:
  /// Throws Error for less than one class.
  explicit ClassificationMetrics(Index classes)
      : matrix_(checked(classes)), ranks_(Shape{classes}), support_(Shape{classes}) {}

  /// Shapes: logits (…, classes); one label for each row. Throws Error, with nothing counted, for another number of
  /// classes or labels, or a label that is not a class.
  template <typename S>
  void add(const Tensor<S>& logits, std::span<const Index> labels) {
    if (logits.features() != classes()) {
      fail(place, "expected logits of ", classes(), " classes, got ", logits.shape());
    }
    detail::check_labels(place, logits.shape(), labels);
    for (std::size_t n = 0; n < labels.size(); ++n) detail::check_label(place, classes(), labels[n], n);
    const std::vector<Index> predicted = argmax(logits);
    const S* x = logits.cdata();
    for (std::size_t n = 0; n < labels.size(); ++n, x += classes()) {
      ++support_(labels[n]);
      if (predicted[n] < 0) continue;
      ++matrix_(labels[n], predicted[n]);
      ++ranks_(rank(x, labels[n]));
    }
  }

  Index classes() const { return support_.size(); }

  /// How many rows were added.
  Index rows() const { return sum(support_, 0, classes()); }

  /// How many of them were predicted right.
  Index right() const { return sum(matrix_, 0, classes(), classes() + 1); }

  /// The share of the rows that were predicted right.
  double accuracy() const { return top_k_accuracy(1); }

  /// The share of the rows whose label has one of the k largest logits; of equal logits the first counts as larger.
  /// Where k is the number of classes or more, these are all rows without NaN. Throws Error for a k below 1.
  double top_k_accuracy(Index k) const {
    if (k < 1) fail(place, "expected k of at least 1, got ", k);
    return ratio(sum(ranks_, 0, std::min(k, classes())), rows());
  }

  /// How many rows of each class (the rows) were predicted to be of each class (the columns): (classes, classes).
  const Tensor<Index>& confusion_matrix() const { return matrix_; }

  /// The scores of one class. Throw Error where there is no such class.
  double precision(Index c) const { return scores(c).precision; }
  double recall(Index c) const { return scores(c).recall; }
  double f1(Index c) const { return scores(c).f1; }
  Index support(Index c) const { return scores(c).support; }
  ClassScores scores(Index c) const {
    if (c < 0 || c >= classes()) fail(place, "expected a class from 0 to ", classes() - 1, ", got ", c);
    return scores_of(matrix_(c, c), sum(matrix_, c, classes(), classes()), support_(c));
  }

  /// The mean of the scores of all classes, those that never occur included.
  ClassScores macro_average() const {
    return average([](const ClassScores&) { return 1.0; });
  }

  /// The mean of the scores of all classes, each as often as it occurs.
  ClassScores weighted_average() const {
    return average([](const ClassScores& s) { return static_cast<double>(s.support); });
  }

  /// The scores of all decisions taken together. Without NaN they all are the accuracy.
  ClassScores micro_average() const { return scores_of(right(), sum(matrix_, 0, matrix_.size()), rows()); }

  /// The scores of each class, their averages and the accuracy, one a line. Throws Error for another number of names
  /// than classes.
  std::string table(std::span<const std::string> names) const;

  /// The table, with classes by their numbers.
  friend std::ostream& operator<<(std::ostream& out, const ClassificationMetrics& metrics);

 private:
  static constexpr const char* place = "ClassificationMetrics";

  static Shape checked(Index classes) {
    if (classes < 1) fail(place, "expected at least one class, got ", classes);
    return {classes, classes};
  }

  /// The sum of `count` numbers, each `step` after the one before. Eigen's would cost every user's compiler more.
  static Index sum(const Tensor<Index>& numbers, Index first, Index count, Index step = 1) {
    Index result = 0;
    for (Index i = 0; i < count; ++i) result += numbers.cdata()[first + i * step];
    return result;
  }

  static double ratio(Index part, Index whole) {
    return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
  }

  static ClassScores scores_of(Index right, Index predicted, Index support) {
    return {ratio(right, predicted), ratio(right, support), ratio(2 * right, predicted + support), support};
  }

  /// How many classes come before that of the label when they are ordered by their logits.
  template <typename S>
  Index rank(const S* x, Index label) const {
    Index before = 0;
    for (Index c = 0; c < classes(); ++c) before += x[c] > x[label] || (x[c] == x[label] && c < label);
    return before;
  }

  template <typename Weight>
  ClassScores average(Weight&& weight) const {
    ClassScores sum;
    double weights = 0;
    for (Index c = 0; c < classes(); ++c) {
      const ClassScores of_class = scores(c);
      const double w = weight(of_class);
      sum.precision += w * of_class.precision;
      sum.recall += w * of_class.recall;
      sum.f1 += w * of_class.f1;
      sum.support += of_class.support;
      weights += w;
    }
    if (weights == 0) return {};
    return {sum.precision / weights, sum.recall / weights, sum.f1 / weights, sum.support};
  }

  Tensor<Index> matrix_;   // (classes, classes)
  Tensor<Index> ranks_;    // (classes): rows by the rank of their label
  Tensor<Index> support_;  // (classes): rows by their label
};

inline std::string ClassificationMetrics::table(std::span<const std::string> names) const {
  if (static_cast<Index>(names.size()) != classes()) {
    fail(place, "expected ", classes(), " names, got ", names.size());
  }
  const auto number = [](double value) {
    std::ostringstream text;
    text.precision(4);
    text << std::fixed << value;
    return text.str();
  };
  detail::Table table({"class", "precision", "recall", "F1", "support"});
  const auto add = [&](const std::string& name, const ClassScores& s) {
    table.add({name, number(s.precision), number(s.recall), number(s.f1), std::to_string(s.support)});
  };
  for (Index c = 0; c < classes(); ++c) add(names[static_cast<std::size_t>(c)], scores(c));
  add("macro average", macro_average());
  add("weighted average", weighted_average());
  table.add({"accuracy", "", "", number(accuracy()), std::to_string(rows())});
  if (classes() > 5) table.add({"top-5 accuracy", "", "", number(top_k_accuracy(5)), std::to_string(rows())});
  std::ostringstream text;
  table.write(text, 1, classes() > 5 ? 4 : 3);
  return text.str();
}

inline std::ostream& operator<<(std::ostream& out, const ClassificationMetrics& metrics) {
  std::vector<std::string> numbers;
  for (Index c = 0; c < metrics.classes(); ++c) numbers.push_back(std::to_string(c));
  return out << metrics.table(numbers);
}

}  // namespace residua::inline RESIDUA_ABI
