// Every loss, with every option, against what PyTorch computes.
#include <string>
#include <vector>

#include <residua/loss/bce_with_logits.hpp>
#include <residua/loss/cross_entropy.hpp>
#include <residua/loss/mse_loss.hpp>
#include <residua/loss/smooth_l1_loss.hpp>

#include "golden.hpp"

namespace {

using namespace residua;
using golden::Cases;

template <typename S> class GoldenLoss : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(GoldenLoss, Scalars);

template <typename S>
void compare(const Cases<S>& cases, const Loss<S>& loss) {
  cases.compare("value", Tensor<S>(Shape{}, static_cast<S>(loss.value)), golden::for_outputs<S>);
  cases.compare("dx", loss.gradient, golden::for_gradients<S>);
}

TYPED_TEST(GoldenLoss, CrossEntropy) {
  using S = TypeParam;
  Cases<S> cases("loss", "cross_entropy/");
  const auto check = [&](const std::string& name, CrossEntropyOptions<S> options = {}) {
    cases.begin(name);
    std::vector<Index> labels;
    for (double label : cases.at("labels").carray()) labels.push_back(static_cast<Index>(label));
    if (cases.has("weight")) options.weight = cases.at("weight").template cast<S>();
    compare(cases, cross_entropy<S>(cases.at("x").template cast<S>(), labels, options));
  };
  check("mean");
  check("sum", {.reduction = Reduction::sum});
  check("smoothing", {.label_smoothing = 0.1});
  check("smoothing_sum", {.reduction = Reduction::sum, .label_smoothing = 0.3});
  check("ignored");
  check("ignored_sum", {.reduction = Reduction::sum});
  check("ignored_1", {.ignore_index = 1});
  check("weight");
  check("weight_sum", {.reduction = Reduction::sum});
  check("all", {.label_smoothing = 0.2});
  check("all_sum", {.reduction = Reduction::sum, .label_smoothing = 0.2});
  check("all_ignored");
  check("all_ignored_sum", {.reduction = Reduction::sum});
  check("large");
  check("one_row");
  check("one_class");
}

TYPED_TEST(GoldenLoss, CrossEntropyOfClassProbabilities) {
  using S = TypeParam;
  Cases<S> cases("loss", "probabilities/");
  const auto check = [&](const std::string& name, CrossEntropyOptions<S> options = {}) {
    cases.begin(name);
    if (cases.has("weight")) options.weight = cases.at("weight").template cast<S>();
    const Tensor<S> x = cases.at("x").template cast<S>(), target = cases.at("target").template cast<S>();
    compare(cases, cross_entropy(x, target, options));
  };
  check("mean");
  check("sum", {.reduction = Reduction::sum});
  check("smoothing", {.label_smoothing = 0.1});
  check("weight");
  check("all", {.label_smoothing = 0.3});
  check("all_sum", {.reduction = Reduction::sum, .label_smoothing = 0.3});
  check("any_sum");
  check("large");
  check("nan");
}

TYPED_TEST(GoldenLoss, MSELoss) {
  using S = TypeParam;
  Cases<S> cases("loss", "mse_loss/");
  const auto check = [&](const std::string& name, MSELossOptions options = {}) {
    cases.begin(name);
    compare(cases, mse_loss(cases.at("x").template cast<S>(), cases.at("target").template cast<S>(), options));
  };
  check("mean");
  check("sum", {.reduction = Reduction::sum});
  check("nan");
}

TYPED_TEST(GoldenLoss, SmoothL1Loss) {
  using S = TypeParam;
  Cases<S> cases("loss", "smooth_l1_loss/");
  const auto check = [&](const std::string& name, SmoothL1LossOptions options = {}) {
    cases.begin(name);
    compare(cases, smooth_l1_loss(cases.at("x").template cast<S>(), cases.at("target").template cast<S>(), options));
  };
  check("mean");
  check("sum", {.reduction = Reduction::sum});
  check("beta", {.beta = 0.25});
  check("beta_sum", {.reduction = Reduction::sum, .beta = 2});
  check("l1", {.beta = 0});
  check("l1_sum", {.reduction = Reduction::sum, .beta = 0});
  check("nan");
  check("at_beta");
}

TYPED_TEST(GoldenLoss, BCEWithLogits) {
  using S = TypeParam;
  Cases<S> cases("loss", "bce_with_logits/");
  const auto check = [&](const std::string& name, BCEWithLogitsOptions<S> options = {}) {
    cases.begin(name);
    if (cases.has("weight")) options.weight = cases.at("weight").template cast<S>();
    if (cases.has("pos_weight")) options.pos_weight = cases.at("pos_weight").template cast<S>();
    compare(cases, bce_with_logits(cases.at("x").template cast<S>(), cases.at("target").template cast<S>(), options));
  };
  check("mean");
  check("sum", {.reduction = Reduction::sum});
  check("weight");
  check("feature_weight");
  check("pos_weight");
  check("all");
  check("all_sum", {.reduction = Reduction::sum});
  check("image");
  check("large");
  check("nan");
}

}  // namespace
