// What a classifier is judged by, in cases small enough to count by hand.
#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/train/metrics.hpp>

#include "errors.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;
using Labels = std::vector<Index>;

/// Logits whose largest is that of the class given for each row.
Tensor<float> predicting(Index classes, const Labels& predicted) {
  Tensor<float> logits(Shape{static_cast<Index>(predicted.size()), classes});
  for (std::size_t n = 0; n < predicted.size(); ++n) logits(n, predicted[n]) = 1;
  return logits;
}

/// Ten rows of three classes:
///
///               predicted 0  1  2   support
///     class 0             3  1  0   4
///     class 1             0  2  2   4
///     class 2             1  0  1   2
ClassificationMetrics example() {
  ClassificationMetrics metrics(3);
  metrics.add(predicting(3, {0, 0, 0, 1, 1, 1, 2, 2, 0, 2}), Labels{0, 0, 0, 0, 1, 1, 1, 1, 2, 2});
  return metrics;
}

std::string text_of(const ClassificationMetrics& metrics) {
  std::ostringstream text;
  text << metrics;
  return text.str();
}

void expect_scores(const ClassScores& got, double precision, double recall, double f1, Index support) {
  EXPECT_DOUBLE_EQ(got.precision, precision);
  EXPECT_DOUBLE_EQ(got.recall, recall);
  EXPECT_DOUBLE_EQ(got.f1, f1);
  EXPECT_EQ(got.support, support);
}

// --- argmax ----------------------------------------------------------------------------------------------------------

TEST(Argmax, IsTheFirstOfTheLargest) {
  const Tensor<double> logits(Shape{4, 3}, std::vector<double>{1, 3, 2, 5, 5, 0, -3, -2, -2, 0, 0, 0});
  EXPECT_EQ(argmax(logits), (Labels{1, 0, 1, 0}));
  EXPECT_EQ(argmax(logits.reshaped({2, 2, 3})), argmax(logits)) << "rows are all axes but the last";
  EXPECT_EQ(argmax(Tensor<float>(Shape{0, 3})), Labels{});
}

TEST(Argmax, OfARowWithNaNIsNone) {
  const double nan = std::nan(""), infinity = HUGE_VAL;
  const Tensor<double> logits(Shape{4, 2}, std::vector<double>{nan, 1, 1, nan, nan, nan, -infinity, infinity});
  EXPECT_EQ(argmax(logits), (Labels{-1, -1, -1, 1}));
}

TEST(Argmax, NeedsAClass) {
  EXPECT_EQ(message([] { argmax(Tensor<float>(Shape{2, 0})); }),
            "argmax: expected at least one class, got logits [2, 0]");
}

// --- counts and scores -----------------------------------------------------------------------------------------------

TEST(ClassificationMetrics, CountsWhatWasPredictedForEachClass) {
  const ClassificationMetrics metrics = example();
  EXPECT_EQ(metrics.classes(), 3);
  EXPECT_EQ(metrics.rows(), 10);
  EXPECT_EQ(metrics.confusion_matrix(), Tensor<Index>(Shape{3, 3}, Labels{3, 1, 0, 0, 2, 2, 1, 0, 1}));
  EXPECT_DOUBLE_EQ(metrics.accuracy(), 0.6);
}

TEST(ClassificationMetrics, ScoresEachClass) {
  const ClassificationMetrics metrics = example();
  expect_scores(metrics.scores(0), 3. / 4, 3. / 4, 3. / 4, 4);
  expect_scores(metrics.scores(1), 2. / 3, 2. / 4, 4. / 7, 4);
  expect_scores(metrics.scores(2), 1. / 3, 1. / 2, 2. / 5, 2);
  for (Index c = 0; c < 3; ++c) {
    expect_scores(metrics.scores(c), metrics.precision(c), metrics.recall(c), metrics.f1(c), metrics.support(c));
    const double p = metrics.precision(c), r = metrics.recall(c);
    EXPECT_DOUBLE_EQ(metrics.f1(c), 2 * p * r / (p + r));
  }
}

TEST(ClassificationMetrics, AveragesTheScores) {
  const ClassificationMetrics metrics = example();
  expect_scores(metrics.macro_average(), (3. / 4 + 2. / 3 + 1. / 3) / 3, (3. / 4 + 2. / 4 + 1. / 2) / 3,
                (3. / 4 + 4. / 7 + 2. / 5) / 3, 10);
  expect_scores(metrics.weighted_average(), (4 * 3. / 4 + 4 * 2. / 3 + 2 * 1. / 3) / 10, 0.6,
                (4 * 3. / 4 + 4 * 4. / 7 + 2 * 2. / 5) / 10, 10);
  expect_scores(metrics.micro_average(), 0.6, 0.6, 0.6, 10);
}

TEST(ClassificationMetrics, AClassThatNeverOccursScoresNothing) {
  ClassificationMetrics metrics(3);
  metrics.add(predicting(3, {0, 1, 1}), Labels{0, 0, 1});
  expect_scores(metrics.scores(2), 0, 0, 0, 0);
  expect_scores(metrics.macro_average(), (1 + 0.5) / 3, (0.5 + 1) / 3, (2. / 3 + 2. / 3) / 3, 3);
  expect_scores(metrics.weighted_average(), (2 * 1 + 0.5) / 3, (2 * 0.5 + 1) / 3, 2. / 3, 3);
}

TEST(ClassificationMetrics, OfNothingAreZero) {
  const ClassificationMetrics metrics(2);
  EXPECT_EQ(metrics.rows(), 0);
  EXPECT_EQ(metrics.accuracy(), 0);
  EXPECT_EQ(metrics.top_k_accuracy(5), 0);
  EXPECT_EQ(metrics.confusion_matrix(), Tensor<Index>(Shape{2, 2}));
  for (const ClassScores& scores :
       {metrics.scores(0), metrics.macro_average(), metrics.weighted_average(), metrics.micro_average()}) {
    expect_scores(scores, 0, 0, 0, 0);
  }
}

TEST(ClassificationMetrics, AreTheSameWhateverTheBatches) {
  const Tensor<double> logits = normal<double>({30, 8});
  Labels labels(30);
  for (std::size_t n = 0; n < labels.size(); ++n) labels[n] = static_cast<Index>(n * n % 8);
  ClassificationMetrics whole(8), parts(8);
  whole.add(logits, labels);
  std::size_t first = 0;
  for (std::size_t size : {0u, 1u, 7u, 22u}) {
    const std::span<const double> values(logits.cdata() + 8 * first, 8 * size);
    parts.add(Tensor<double>(Shape{static_cast<Index>(size), 8}, values), std::span(labels).subspan(first, size));
    first += size;
  }
  EXPECT_EQ(parts.confusion_matrix(), whole.confusion_matrix());
  for (Index k = 1; k <= 8; ++k) EXPECT_EQ(parts.top_k_accuracy(k), whole.top_k_accuracy(k));
  EXPECT_EQ(text_of(parts), text_of(whole));
}

TEST(ClassificationMetrics, AreAValue) {
  const ClassificationMetrics before = example();
  ClassificationMetrics after = before;
  after.add(predicting(3, {2}), Labels{2});
  EXPECT_EQ(before.rows(), 10);
  EXPECT_EQ(after.rows(), 11);
  EXPECT_EQ(after.confusion_matrix()(2, 2), 2);
  EXPECT_EQ(before.confusion_matrix()(2, 2), 1);
}

// --- the k largest ---------------------------------------------------------------------------------------------------

TEST(ClassificationMetrics, TopKCountsLabelsAmongTheKLargestLogits) {
  ClassificationMetrics metrics(4);
  const Tensor<double> logits(Shape{4, 4}, std::vector<double>{9, 7, 5, 3, 3, 5, 7, 9, 1, 4, 2, 3, 8, 2, 6, 4});
  metrics.add(logits, Labels{0, 2, 2, 1});  // the largest, the second, the third, the fourth
  EXPECT_EQ(metrics.accuracy(), 0.25);
  for (Index k = 1; k <= 4; ++k) EXPECT_EQ(metrics.top_k_accuracy(k), 0.25 * static_cast<double>(k));
  EXPECT_EQ(metrics.top_k_accuracy(5), 1) << "more than there are classes";
}

TEST(ClassificationMetrics, OfEqualLogitsTheFirstIsLarger) {
  ClassificationMetrics metrics(3);
  metrics.add(Tensor<float>(Shape{3, 3}, 1.0f), Labels{0, 1, 2});  // a dead network is no better than chance
  EXPECT_DOUBLE_EQ(metrics.accuracy(), 1. / 3);
  EXPECT_DOUBLE_EQ(metrics.top_k_accuracy(2), 2. / 3);
  EXPECT_EQ(metrics.confusion_matrix(), Tensor<Index>(Shape{3, 3}, Labels{1, 0, 0, 1, 0, 0, 1, 0, 0}));
}

TEST(ClassificationMetrics, ARowWithNaNIsNeverRight) {
  const double nan = std::nan("");
  ClassificationMetrics metrics(2);
  metrics.add(Tensor<double>(Shape{4, 2}, std::vector<double>{nan, nan, nan, 1, 1, nan, 0, 1}), Labels{0, 0, 0, 1});
  EXPECT_EQ(metrics.rows(), 4);
  EXPECT_EQ(metrics.accuracy(), 0.25);
  EXPECT_EQ(metrics.top_k_accuracy(2), 0.25);
  EXPECT_EQ(metrics.confusion_matrix(), Tensor<Index>(Shape{2, 2}, Labels{0, 0, 0, 1}));
  expect_scores(metrics.scores(0), 0, 0, 0, 3);
  expect_scores(metrics.micro_average(), 1, 0.25, 2. / 5, 4);
}

// --- the table -------------------------------------------------------------------------------------------------------

TEST(ClassificationMetrics, PrintATable) {
  const std::vector<std::string> names{"cat", "dog", "a long name of a bird"};
  EXPECT_EQ(example().table(names),
            "class                  precision  recall      F1  support  \n"
            "---------------------  ---------  ------  ------  -------  \n"
            "cat                       0.7500  0.7500  0.7500        4  \n"
            "dog                       0.6667  0.5000  0.5714        4  \n"
            "a long name of a bird     0.3333  0.5000  0.4000        2  \n"
            "---------------------  ---------  ------  ------  -------  \n"
            "macro average             0.5833  0.5833  0.5738       10  \n"
            "weighted average          0.6333  0.6000  0.6086       10  \n"
            "accuracy                                  0.6000       10  \n");
}

TEST(ClassificationMetrics, PrintTopFiveWhereItSaysSomething) {
  ClassificationMetrics metrics(6);
  const Tensor<float> logits(Shape{1, 6}, std::vector<float>{6, 5, 4, 3, 2, 1});
  metrics.add(logits, Labels{4});
  metrics.add(logits, Labels{5});
  EXPECT_EQ(text_of(metrics),
            "class             precision  recall      F1  support  \n"
            "----------------  ---------  ------  ------  -------  \n"
            "0                    0.0000  0.0000  0.0000        0  \n"
            "1                    0.0000  0.0000  0.0000        0  \n"
            "2                    0.0000  0.0000  0.0000        0  \n"
            "3                    0.0000  0.0000  0.0000        0  \n"
            "4                    0.0000  0.0000  0.0000        1  \n"
            "5                    0.0000  0.0000  0.0000        1  \n"
            "----------------  ---------  ------  ------  -------  \n"
            "macro average        0.0000  0.0000  0.0000        2  \n"
            "weighted average     0.0000  0.0000  0.0000        2  \n"
            "accuracy                             0.0000        2  \n"
            "top-5 accuracy                       0.5000        2  \n");
}

// --- what is wrong ---------------------------------------------------------------------------------------------------

TEST(ClassificationMetrics, TellWhatIsWrongAndCountNothing) {
  ClassificationMetrics metrics(3);
  const auto fails = [&](const Shape& logits, const Labels& labels) {
    return message([&] { metrics.add(Tensor<float>(logits), labels); });
  };
  EXPECT_EQ(fails({2, 4}, {0, 1}), "ClassificationMetrics: expected logits of 3 classes, got [2, 4]");
  EXPECT_EQ(fails({2, 3}, {0}), "ClassificationMetrics: expected 2 labels for logits [2, 3], got 1");
  EXPECT_EQ(fails({2, 3}, {0, 3}), "ClassificationMetrics: expected labels from 0 to 2, got 3 at row 1");
  EXPECT_EQ(fails({2, 3}, {-1, 0}), "ClassificationMetrics: expected labels from 0 to 2, got -1 at row 0");
  EXPECT_EQ(metrics.rows(), 0);

  EXPECT_EQ(message([] { ClassificationMetrics(0); }), "ClassificationMetrics: expected at least one class, got 0");
  EXPECT_EQ(message([&] { metrics.recall(3); }), "ClassificationMetrics: expected a class from 0 to 2, got 3");
  EXPECT_EQ(message([&] { metrics.support(-1); }), "ClassificationMetrics: expected a class from 0 to 2, got -1");
  EXPECT_EQ(message([&] { metrics.top_k_accuracy(0); }), "ClassificationMetrics: expected k of at least 1, got 0");
  EXPECT_EQ(message([&] { metrics.table(std::vector<std::string>{"a", "b"}); }),
            "ClassificationMetrics: expected 3 names, got 2");
}

}  // namespace
