// Cross-entropy beyond PyTorch's numbers: gradients by difference, extreme logits, bad input, the same bits.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/threads.hpp>
#include <residua/layers/init.hpp>
#include <residua/loss/cross_entropy.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor<double> random_logits(const Shape& shape) {
  Random random(3);
  return init::normal<double>(shape, 0, 2, random);
}

/// `target` is labels or class probabilities.
template <typename Target>
void expect_gradient_is_the_derivative(Tensor<double> logits, const Target& target,
                                       const CrossEntropyOptions<double>& options) {
  const Tensor<double> gradient = cross_entropy(logits, target, options).gradient;
  ASSERT_EQ(gradient.shape(), logits.shape());
  const double step = 1e-5;
  for (Index i = 0; i < logits.size(); ++i) {
    const double value = logits.cdata()[i];
    logits.data()[i] = value + step;
    const double above = cross_entropy(logits, target, options).value;
    logits.data()[i] = value - step;
    const double below = cross_entropy(logits, target, options).value;
    logits.data()[i] = value;
    EXPECT_NEAR(gradient.cdata()[i], (above - below) / (2 * step), 1e-8) << "at element " << i;
  }
}

TEST(CrossEntropy, GradientIsTheDerivative) {
  const Tensor<double> logits = random_logits({4, 5});
  const Tensor<double> weight(Shape{5}, std::vector<double>{0.5, 1, 2, 0, 3});
  const std::vector<Index> labels{0, 4, -100, 2};
  expect_gradient_is_the_derivative(logits, labels, {});
  expect_gradient_is_the_derivative(logits, labels, {.reduction = Reduction::sum});
  expect_gradient_is_the_derivative(logits, labels, {.label_smoothing = 0.3});
  expect_gradient_is_the_derivative(logits, labels, {.weight = weight, .label_smoothing = 0.3});
  expect_gradient_is_the_derivative(logits, std::vector<Index>{0, 4, 4, 2},
                                    {.weight = weight, .ignore_index = 4, .label_smoothing = 1});
}

/// Few classes and many, on both sides of how rows are done; more rows than a block has.
template <typename S>
void expect_formula(Index classes, double tolerance) {
  const Tensor<S> logits = random_logits({300, classes}).template cast<S>();
  std::vector<Index> labels(300);
  double divisor = 0, total = 0;
  for (std::size_t n = 0; n < labels.size(); ++n) {
    labels[n] = n % 7 == 3 ? -100 : static_cast<Index>(n * n) % classes;
    divisor += labels[n] >= 0;
  }
  const auto loss = cross_entropy(logits, labels);
  for (Index n = 0; n < 300; ++n) {
    const Index label = labels[static_cast<std::size_t>(n)];
    double sum = 0;
    for (Index c = 0; c < classes; ++c) sum += std::exp(static_cast<double>(logits(n, c)));
    if (label >= 0) total += std::log(sum) - static_cast<double>(logits(n, label));
    for (Index c = 0; c < classes; ++c) {
      const double p = std::exp(static_cast<double>(logits(n, c))) / sum;
      const double wanted = label < 0 ? 0 : (p - (c == label ? 1 : 0)) / divisor;
      ASSERT_NEAR(static_cast<double>(loss.gradient(n, c)), wanted, tolerance / divisor) << n << ", " << c;
    }
  }
  EXPECT_NEAR(loss.value, total / divisor, tolerance * std::max(1.0, total / divisor));
}

TEST(CrossEntropy, OfManyRowsIsTheFormula) {
  for (const Index classes : {1, 2, 10, 48, 49, 60, 1001}) {
    SCOPED_TRACE(classes);
    expect_formula<float>(classes, 1e-6);
    expect_formula<double>(classes, 1e-14);
  }
}

TEST(CrossEntropy, RowsAreAllAxesButTheLast) {
  const Tensor<double> logits = random_logits({2, 3, 4});
  const std::vector<Index> labels{0, 1, 2, 3, 0, 1};
  const auto loss = cross_entropy(logits, labels);
  const auto flat = cross_entropy(logits.reshaped({6, 4}), labels);
  EXPECT_EQ(loss.value, flat.value);
  EXPECT_EQ(loss.gradient, flat.gradient.reshaped({2, 3, 4}));
}

TEST(CrossEntropy, OfEqualLogitsIsTheLogarithmOfTheClasses) {
  const auto loss = cross_entropy(Tensor<float>(Shape{3, 8}, 5.0f), std::vector<Index>{0, 3, 7});
  EXPECT_NEAR(loss.value, std::log(8.0), 1e-6);
  EXPECT_FLOAT_EQ(loss.gradient(0, 0), (1.0f / 8 - 1) / 3);
  EXPECT_FLOAT_EQ(loss.gradient(0, 1), (1.0f / 8) / 3);
}

TEST(CrossEntropy, HugeLogitsStayFinite) {
  const std::vector<float> values{1e30f, -1e30f, 0, 1e4f, 0, -1e4f};
  const auto loss = cross_entropy(Tensor<float>(Shape{2, 3}, values), std::vector<Index>{0, 0});
  EXPECT_EQ(loss.value, 0);
  EXPECT_TRUE(loss.gradient.carray().isFinite().all());
}

TEST(CrossEntropy, ClassesAtMinusInfinityAreImpossible) {
  const std::vector<double> values{0, -infinity, 0};
  const auto loss = cross_entropy(Tensor<double>(Shape{1, 3}, values), std::vector<Index>{0});
  EXPECT_NEAR(loss.value, std::log(2.0), 1e-12);
  EXPECT_NEAR(loss.gradient(0, 1), 0, 1e-300);  // Eigen's exp ends at the smallest normal number
}

TEST(CrossEntropy, NaNShows) {
  const std::vector<double> values{0, std::nan(""), 0, 1, 2, 3};
  const auto loss = cross_entropy(Tensor<double>(Shape{2, 3}, values), std::vector<Index>{0, 0});
  EXPECT_TRUE(std::isnan(loss.value));
  EXPECT_TRUE(std::isnan(loss.gradient(0, 0)));
  EXPECT_FALSE(std::isnan(loss.gradient(1, 0)));
}

TEST(CrossEntropy, OfIgnoredRowsAloneIsNaNWithoutAGradient) {
  const std::vector<Index> labels{-100, -100};
  const auto mean = cross_entropy(random_logits({2, 3}), labels);
  EXPECT_TRUE(std::isnan(mean.value));
  EXPECT_EQ(mean.gradient, Tensor<double>(Shape{2, 3}));
  EXPECT_EQ(cross_entropy(random_logits({2, 3}), labels, {.reduction = Reduction::sum}).value, 0);
}

TEST(CrossEntropy, TellsWhatIsWrong) {
  const Tensor<double> logits = random_logits({2, 3});
  const std::vector<Index> good{0, 2};
  const auto fails = [&](const std::vector<Index>& labels, const CrossEntropyOptions<double>& options = {}) {
    return message([&] { cross_entropy(logits, labels, options); });
  };
  EXPECT_EQ(fails({0, 3}), "cross_entropy: expected labels from 0 to 2, got 3 at row 1");
  EXPECT_EQ(fails({-1, 0}), "cross_entropy: expected labels from 0 to 2, got -1 at row 0");
  EXPECT_EQ(fails({0}), "cross_entropy: expected 2 labels for logits [2, 3], got 1");
  EXPECT_EQ(fails(good, {.label_smoothing = 1.5}), "cross_entropy: expected a label_smoothing from 0 to 1, got 1.5");
  EXPECT_EQ(fails(good, {.label_smoothing = std::nan("")}),
            "cross_entropy: expected a label_smoothing from 0 to 1, got nan");
  EXPECT_EQ(fails(good, {.weight = Tensor<double>(Shape{2})}),
            "cross_entropy: expected a weight of shape [3], got [2]");
  EXPECT_EQ(message([] {
              cross_entropy(Tensor<float>(Shape{0, 3}), std::vector<Index>{});
            }),
            "cross_entropy: expected at least one row and one class, got logits [0, 3]");
}

// --- class probabilities as targets ----------------------------------------------------------------------------------

/// Rows of positive numbers whose sum is 1.
Tensor<double> probabilities(const Shape& shape) {
  Random random(4);
  Tensor<double> target = init::uniform<double>(shape, 0, 1, random);
  for (Index n = 0; n < target.rows(); ++n) target.matrix().row(n) /= target.cmatrix().row(n).sum();
  return target;
}

TEST(CrossEntropyOfProbabilities, GradientIsTheDerivative) {
  const Tensor<double> logits = random_logits({4, 5}), target = probabilities({4, 5});
  const Tensor<double> weight(Shape{5}, std::vector<double>{0.5, 1, 2, 0, 3});
  expect_gradient_is_the_derivative(logits, target, {});
  expect_gradient_is_the_derivative(logits, target, {.reduction = Reduction::sum});
  expect_gradient_is_the_derivative(logits, target, {.label_smoothing = 0.3});
  expect_gradient_is_the_derivative(logits, target, {.weight = weight, .label_smoothing = 0.3});
  expect_gradient_is_the_derivative(logits, random_logits({4, 5}), {.weight = weight});  // of any sum
}

TEST(CrossEntropyOfProbabilities, OfCertaintyIsThatOfLabels) {
  const Tensor<double> logits = random_logits({3, 4});
  const std::vector<Index> labels{2, 0, 3};
  Tensor<double> certain(Shape{3, 4});
  for (Index n = 0; n < 3; ++n) certain(n, labels[static_cast<std::size_t>(n)]) = 1;
  for (double smoothing : {0.0, 0.1, 1.0}) {
    const auto soft = cross_entropy(logits, certain, {.label_smoothing = smoothing});
    const auto hard = cross_entropy(logits, labels, {.label_smoothing = smoothing});
    EXPECT_NEAR(soft.value, hard.value, 1e-14);
    EXPECT_TRUE(soft.gradient.carray().isApprox(hard.gradient.carray(), 1e-14));
  }
}

TEST(CrossEntropyOfProbabilities, OfAMixtureIsTheMixtureOfLosses) {
  const Tensor<double> logits = random_logits({1, 3});
  const Tensor<double> mixed(Shape{1, 3}, std::vector<double>{0.25, 0, 0.75});
  const double first = cross_entropy(logits, std::vector<Index>{0}).value;
  const double second = cross_entropy(logits, std::vector<Index>{2}).value;
  EXPECT_NEAR(cross_entropy(logits, mixed).value, 0.25 * first + 0.75 * second, 1e-14);
}

TEST(CrossEntropyOfProbabilities, RowsAreAllAxesButTheLast) {
  const Tensor<double> logits = random_logits({2, 3, 4}), target = probabilities({2, 3, 4});
  const auto loss = cross_entropy(logits, target);
  const auto flat = cross_entropy(logits.reshaped({6, 4}), target.reshaped({6, 4}));
  EXPECT_EQ(loss.value, flat.value);
  EXPECT_EQ(loss.gradient, flat.gradient.reshaped({2, 3, 4}));
}

TEST(CrossEntropyOfProbabilities, TellsWhatIsWrong) {
  const Tensor<double> logits = random_logits({2, 3});
  const auto fails = [&](const Shape& target, const CrossEntropyOptions<double>& options = {}) {
    return message([&] { cross_entropy(logits, Tensor<double>(target), options); });
  };
  EXPECT_EQ(fails({3, 2}), "cross_entropy: expected class probabilities of shape [2, 3], got [3, 2]");
  EXPECT_EQ(fails({2, 3}, {.ignore_index = 1}),
            "cross_entropy: expected no ignore_index with class probabilities, got 1");
  const auto negative = fails({2, 3}, {.label_smoothing = -0.5});
  EXPECT_EQ(negative, "cross_entropy: expected a label_smoothing from 0 to 1, got -0.5");
  EXPECT_EQ(fails({2, 3}, {.weight = Tensor<double>(Shape{2})}),
            "cross_entropy: expected a weight of shape [3], got [2]");
  EXPECT_EQ(message([] { cross_entropy(Tensor<float>(Shape{3, 0}), Tensor<float>(Shape{3, 0})); }),
            "cross_entropy: expected at least one row and one class, got logits [3, 0]");
}

// --- threads ---------------------------------------------------------------------------------------------------------

TEST(CrossEntropy, SameBitsForAnyNumberOfThreads) {
  const Tensor<float> logits = random_logits({1000, 17}).cast<float>(), soft = probabilities({1000, 17}).cast<float>();
  std::vector<Index> labels(1000);
  for (std::size_t n = 0; n < labels.size(); ++n) labels[n] = static_cast<Index>(n % 17);
  const int threads = num_threads();
  const auto expect_same_bits = [&](const auto& target) {
    set_num_threads(1);
    const auto one = cross_entropy(logits, target, {.label_smoothing = 0.1});
    for (int many : {2, 3}) {
      set_num_threads(many);
      const auto loss = cross_entropy(logits, target, {.label_smoothing = 0.1});
      EXPECT_EQ(loss.value, one.value);
      EXPECT_EQ(loss.gradient, one.gradient);
    }
  };
  expect_same_bits(labels);
  expect_same_bits(soft);
  set_num_threads(threads);
}

}  // namespace
