// The losses that compare element with element, beyond PyTorch's numbers: gradients by difference, edges, bad input,
// the same bits.
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/threads.hpp>
#include <residua/loss/bce_with_logits.hpp>
#include <residua/loss/mse_loss.hpp>
#include <residua/loss/smooth_l1_loss.hpp>

#include "errors.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;

constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor<double> row(const std::vector<double>& values) {
  return Tensor<double>(Shape{static_cast<Index>(values.size())}, values);
}

/// `loss(input)` is one of the losses with its target and its options.
void expect_gradient_is_the_derivative(Tensor<double> input, auto&& loss) {
  const Tensor<double> gradient = loss(input).gradient;
  ASSERT_EQ(gradient.shape(), input.shape());
  const double step = 1e-5;
  for (Index i = 0; i < input.size(); ++i) {
    const double value = input.cdata()[i];
    input.data()[i] = value + step;
    const double above = loss(input).value;
    input.data()[i] = value - step;
    const double below = loss(input).value;
    input.data()[i] = value;
    EXPECT_NEAR(gradient.cdata()[i], (above - below) / (2 * step), 1e-8) << "at element " << i;
  }
}

/// 20000 elements: several blocks, the last not full.
void expect_same_bits_for_any_number_of_threads(auto&& loss) {
  const auto input = normal<float>(Shape{100, 200}, 1), target = normal<float>(Shape{100, 200}, 2);
  const int threads = num_threads();
  set_num_threads(1);
  const Loss<float> one = loss(input, target);
  for (int many : {2, 3}) {
    set_num_threads(many);
    const Loss<float> other = loss(input, target);
    EXPECT_EQ(other.value, one.value);
    EXPECT_TRUE(same_bits(other.gradient, one.gradient));
  }
  set_num_threads(threads);
}

// --- mean squared error ----------------------------------------------------------------------------------------------

TEST(MSELoss, GradientIsTheDerivative) {
  const auto input = normal<double>({3, 4}, 1), target = normal<double>({3, 4}, 2);
  for (const MSELossOptions& options : {MSELossOptions{}, MSELossOptions{.reduction = Reduction::sum}}) {
    expect_gradient_is_the_derivative(input, [&](const auto& x) { return mse_loss(x, target, options); });
  }
}

TEST(MSELoss, OfManyElementsIsTheirMean) {
  const Index size = 10000;
  const Loss<float> loss = mse_loss(Tensor<float>(Shape{size}, 3.0f), Tensor<float>(Shape{size}, 1.0f));
  EXPECT_EQ(loss.value, 4);
  EXPECT_EQ(loss.gradient, Tensor<float>(Shape{size}, 4.0f / size));
}

TEST(MSELoss, IsSummedInDouble) {
  const Loss<float> loss = mse_loss(Tensor<float>(Shape{3}, std::vector<float>{1e6f, 1, 1}), Tensor<float>(Shape{3}),
                                    {.reduction = Reduction::sum});
  EXPECT_EQ(loss.value, 1e12 + 2);
}

TEST(MSELoss, SameBitsForAnyNumberOfThreads) {
  expect_same_bits_for_any_number_of_threads([](const auto& x, const auto& t) { return mse_loss(x, t); });
}

TEST(MSELoss, TellsWhatIsWrong) {
  EXPECT_EQ(message([] { mse_loss(Tensor<float>(Shape{2, 3}), Tensor<float>(Shape{3, 2})); }),
            "mse_loss: expected a target of shape [2, 3], got [3, 2]");
  EXPECT_EQ(message([] { mse_loss(Tensor<float>(Shape{0, 3}), Tensor<float>(Shape{0, 3})); }),
            "mse_loss: expected at least one element, got input [0, 3]");
}

// --- smooth L1 -------------------------------------------------------------------------------------------------------

TEST(SmoothL1Loss, GradientIsTheDerivative) {
  const auto input = normal<double>({6, 4}, 1), target = normal<double>({6, 4}, 2);
  for (double beta : {0.0, 0.3, 1.0, 5.0}) {
    for (Reduction reduction : {Reduction::mean, Reduction::sum}) {
      expect_gradient_is_the_derivative(input, [&](const auto& x) {
        return smooth_l1_loss(x, target, {.reduction = reduction, .beta = beta});
      });
    }
  }
}

TEST(SmoothL1Loss, IsAParabolaBetweenTwoLines) {
  const Tensor<double> input = row({-3, -2, -1, 0, 1, 2, 3});
  const auto loss = smooth_l1_loss(input, Tensor<double>(Shape{7}), {.reduction = Reduction::sum, .beta = 2});
  EXPECT_DOUBLE_EQ(loss.value, 2 * (2 + 1 + 0.25));
  EXPECT_EQ(loss.gradient, row({-1, -1, -0.5, 0, 0.5, 1, 1}));
}

TEST(SmoothL1Loss, WithoutBetaIsTheAbsoluteErrorFlatAtZero) {
  const auto loss = smooth_l1_loss(row({-3, 0, 0.5}), Tensor<double>(Shape{3}),
                                   {.reduction = Reduction::sum, .beta = 0});
  EXPECT_EQ(loss.value, 3.5);
  EXPECT_EQ(loss.gradient, row({-1, 0, 1}));
}

TEST(SmoothL1Loss, NaNAndInfinityShow) {
  for (double beta : {0.0, 1.0}) {
    const SmoothL1LossOptions options{.beta = beta};
    const auto nan = smooth_l1_loss(row({std::nan(""), 1}), row({0, 0}), options);
    EXPECT_TRUE(std::isnan(nan.value));
    EXPECT_TRUE(std::isnan(nan.gradient(0)));
    EXPECT_EQ(nan.gradient(1), 0.5);
    const auto far = smooth_l1_loss(row({-infinity, 1}), row({0, 0}), options);
    EXPECT_EQ(far.value, infinity);
    EXPECT_EQ(far.gradient, row({-0.5, 0.5}));
  }
}

TEST(SmoothL1Loss, SameBitsForAnyNumberOfThreads) {
  expect_same_bits_for_any_number_of_threads([](const auto& x, const auto& t) { return smooth_l1_loss(x, t); });
}

TEST(SmoothL1Loss, TellsWhatIsWrong) {
  const Tensor<float> x(Shape{2});
  const auto fails = [&](double beta) { return message([&] { smooth_l1_loss(x, x, {.beta = beta}); }); };
  EXPECT_EQ(fails(-1), "smooth_l1_loss: expected a finite beta of at least 0, got -1");
  EXPECT_EQ(fails(infinity), "smooth_l1_loss: expected a finite beta of at least 0, got inf");
  EXPECT_EQ(fails(std::nan("")), "smooth_l1_loss: expected a finite beta of at least 0, got nan");
  EXPECT_EQ(message([&] { smooth_l1_loss(x, Tensor<float>(Shape{1, 2})); }),
            "smooth_l1_loss: expected a target of shape [2], got [1, 2]");
  EXPECT_EQ(message([] { smooth_l1_loss(Tensor<float>(), Tensor<float>()); }),
            "smooth_l1_loss: expected at least one element, got input [0]");
}

// --- binary cross-entropy --------------------------------------------------------------------------------------------

/// Numbers from 0 to 1.
Tensor<double> shares(const Shape& shape, std::uint64_t seed) {
  Tensor<double> x(shape);
  Random random(seed);
  for (double& value : x.array()) value = random.uniform(0, 1);
  return x;
}

TEST(BCEWithLogits, GradientIsTheDerivative) {
  const auto logits = normal<double>({2, 3, 4}, 1, 3), target = shares({2, 3, 4}, 2);
  const auto elements = shares({2, 3, 4}, 3), features = shares({4}, 4), yes = shares({4}, 5);
  for (const auto& options : {
           BCEWithLogitsOptions<double>{},
           BCEWithLogitsOptions<double>{.reduction = Reduction::sum},
           BCEWithLogitsOptions<double>{.weight = elements},
           BCEWithLogitsOptions<double>{.weight = features},
           BCEWithLogitsOptions<double>{.pos_weight = yes},
           BCEWithLogitsOptions<double>{.weight = elements, .reduction = Reduction::sum, .pos_weight = yes},
           BCEWithLogitsOptions<double>{.weight = features, .pos_weight = yes},
       }) {
    expect_gradient_is_the_derivative(logits, [&](const auto& x) { return bce_with_logits(x, target, options); });
  }
}

TEST(BCEWithLogits, IsMinusTheLogarithmOfTheProbabilityOfTheTarget) {
  const auto loss = bce_with_logits(row({std::log(3.0), std::log(3.0), 0}), row({1, 0, 0.5}));  // σ: 3/4, 3/4, 1/2
  EXPECT_NEAR(loss.value, -(std::log(0.75) + std::log(0.25) + std::log(0.5)) / 3, 1e-15);
  EXPECT_NEAR(loss.gradient(0), -0.25 / 3, 1e-15);
  EXPECT_NEAR(loss.gradient(1), 0.75 / 3, 1e-15);
  EXPECT_EQ(loss.gradient(2), 0);
}

TEST(BCEWithLogits, AWeightIsOfAnElementOrOfAFeature) {
  const Tensor<double> logits(Shape{2, 2}), target(Shape{2, 2}, std::vector<double>{1, 0, 0, 1});
  const Tensor<double> elements(Shape{2, 2}, std::vector<double>{2, 5, 2, 5}), features = row({2, 5});
  for (const auto& weight : {features, elements}) {
    const auto loss = bce_with_logits(
        logits, target, {.weight = weight, .reduction = Reduction::sum, .pos_weight = row({3, 7})});
    EXPECT_DOUBLE_EQ(loss.value, (2 * 3 + 5 + 2 + 5 * 7) * std::log(2));
    EXPECT_EQ(loss.gradient, Tensor<double>(Shape{2, 2}, std::vector<double>{-3, 2.5, 1, -17.5}));
  }
}

TEST(BCEWithLogits, HugeLogitsStayFinite) {
  const auto loss = bce_with_logits(row({1e300, -1e300, 1e4, -1e4}), row({1, 0, 0, 1}), {.reduction = Reduction::sum});
  EXPECT_EQ(loss.value, 2e4);
  EXPECT_EQ(loss.gradient, row({0, 0, 1, -1}));
}

TEST(BCEWithLogits, WhatIsAlmostCertainKeepsItsDigits) {
  const auto loss = bce_with_logits(row({50, -50}), row({1, 0}), {.reduction = Reduction::sum});
  const double e = std::exp(-50);
  EXPECT_DOUBLE_EQ(loss.value, 2 * e);
  EXPECT_DOUBLE_EQ(loss.gradient(0), -e);
  EXPECT_DOUBLE_EQ(loss.gradient(1), e);
}

TEST(BCEWithLogits, NaNShows) {
  const auto loss = bce_with_logits(row({std::nan(""), 0, 1}), row({1, std::nan(""), 1}));
  EXPECT_TRUE(std::isnan(loss.value));
  EXPECT_TRUE(std::isnan(loss.gradient(0)));
  EXPECT_TRUE(std::isnan(loss.gradient(1)));
  EXPECT_FALSE(std::isnan(loss.gradient(2)));
}

TEST(BCEWithLogits, SameBitsForAnyNumberOfThreads) {
  const Tensor<float> weight = shares({200}, 3).cast<float>(), pos_weight = shares({200}, 4).cast<float>();
  expect_same_bits_for_any_number_of_threads([&](const auto& x, const auto& t) {
    return bce_with_logits(x, t, {.weight = weight, .pos_weight = pos_weight});
  });
}

TEST(BCEWithLogits, TellsWhatIsWrong) {
  const Tensor<double> x(Shape{2, 3});
  const auto fails = [&](const Shape& target, const BCEWithLogitsOptions<double>& options = {}) {
    return message([&] { bce_with_logits(x, Tensor<double>(target), options); });
  };
  const auto of = [](const Shape& shape) { return Tensor<double>(shape); };
  EXPECT_EQ(fails({2}), "bce_with_logits: expected a target of shape [2, 3], got [2]");
  EXPECT_EQ(fails({2, 3}, {.weight = of({2})}),
            "bce_with_logits: expected a weight of shape [2, 3] or [3], got [2]");
  EXPECT_EQ(fails({2, 3}, {.weight = of({3, 2})}),
            "bce_with_logits: expected a weight of shape [2, 3] or [3], got [3, 2]");
  EXPECT_EQ(fails({2, 3}, {.pos_weight = of({2, 3})}),
            "bce_with_logits: expected a pos_weight of shape [3], got [2, 3]");
  EXPECT_EQ(message([] { bce_with_logits(Tensor<float>(), Tensor<float>()); }),
            "bce_with_logits: expected at least one element, got input [0]");
}

}  // namespace
