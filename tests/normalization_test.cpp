// The norms against loops that follow their formulas, and their gradients against difference quotients.
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/layers/adaptive_layer_norm.hpp>
#include <residua/layers/group_norm.hpp>
#include <residua/layers/init.hpp>
#include <residua/layers/instance_norm.hpp>
#include <residua/layers/layer_norm.hpp>
#include <residua/layers/rms_norm.hpp>
#include <residua/train/gradient_check.hpp>

#include "errors.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;

// --- what is expected ------------------------------------------------------------------------------------------------

/// Of element i of x: which group it is normalised with, and its weight and bias.
struct Naive {
  std::function<Index(Index)> group;
  std::function<double(Index)> weight = [](Index) { return 1.0; };
  std::function<double(Index)> bias = [](Index) { return 0.0; };
  double eps = 1e-5;
  bool centered = true;

  Tensor<double> operator()(const Tensor<double>& x) const {
    Tensor<double> y(x.shape());
    for (Index i = 0; i < x.size(); ++i) {
      double mean = 0, variance = 0, count = 0;
      for (Index j = 0; j < x.size(); ++j) {
        if (group(j) == group(i)) mean += centered ? x.cdata()[j] : 0, ++count;
      }
      mean /= count;
      for (Index j = 0; j < x.size(); ++j) {
        if (group(j) == group(i)) variance += (x.cdata()[j] - mean) * (x.cdata()[j] - mean) / count;
      }
      y.data()[i] = (x.cdata()[i] - mean) / std::sqrt(variance + eps) * weight(i) + bias(i);
    }
    return y;
  }
};

/// Values far from zero, so that variances computed in one pass would show.
template <typename S>
Tensor<S> values(const Shape& shape, std::uint64_t seed = 3, double mean = 2) {
  Random random(seed);
  return init::normal<S>(shape, mean, 1.5, random);
}

/// Gives every parameter random values, so that none is 1 or 0.
template <typename S, typename L>
void draw(L& layer, std::uint64_t seed = 11) {
  Random random(seed);
  for (auto& p : parameters<S>(layer)) p->value = init::normal<S>(p->value.shape(), 0.5, 0.7, random);
}

template <typename S>
std::function<double(Index)> repeating(const Tensor<S>& v) {
  return [v](Index i) { return static_cast<double>(v.cdata()[i % v.size()]); };
}

template <typename S>
void expect_near(const Tensor<S>& got, const Tensor<double>& expected) {
  ASSERT_EQ(got.shape(), expected.shape());
  const double tolerance = std::is_same_v<S, float> ? 1e-5 : 1e-12;
  for (Index i = 0; i < got.size(); ++i) {
    const double g = static_cast<double>(got.cdata()[i]), e = expected.cdata()[i];
    ASSERT_NEAR(g, e, tolerance * std::max(1.0, std::abs(e))) << "at " << i << " of " << got.shape();
  }
}

/// Backward against difference quotients; then with frozen parameters, and without the input's gradient, where what is
/// still wanted must come out the same and nothing else may be computed.
template <typename L>
void expect_gradients(L layer, const Tensor<double>& x, Mode mode = Mode::train) {
  const GradientReport report = gradient_check(layer, x, {.mode = mode});
  EXPECT_TRUE(report.passed()) << x.shape() << ' ' << report;

  const auto step = [&](bool trainable, bool input_gradient) {
    auto all = parameters<double>(layer);
    for (auto& p : all) {
      p->requires_grad = trainable;
      p->grad = Tensor<double>();
    }
    Random random(5);
    Tape<double> tape(random, {.mode = mode, .input_gradient = input_gradient});
    layer.forward(x, tape);
    Tensor<double> dx = layer.backward(values<double>(x.shape(), 8), tape);
    EXPECT_TRUE(tape.empty());
    std::vector<Tensor<double>> gradients;
    for (auto& p : all) gradients.push_back(p->grad);
    return std::pair(dx, gradients);
  };
  const auto [dx, gradients] = step(true, true);
  const auto frozen = step(false, true);
  EXPECT_EQ(frozen.first, dx);
  for (const auto& g : frozen.second) EXPECT_TRUE(g.empty());
  const auto first = step(true, false);
  EXPECT_TRUE(first.first.empty());
  EXPECT_EQ(first.second, gradients);
  EXPECT_TRUE(step(false, false).first.empty());
}

template <typename S>
class Normalization : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Normalization, Scalars);

const std::vector<Shape> images = {{2, 3, 5, 4}, {1, 7, 2, 12}, {3, 1, 1, 8}, {1, 1, 1, 4}};

// --- forward ---------------------------------------------------------------------------------------------------------

TYPED_TEST(Normalization, LayerNormOverTheLastAxes) {
  using S = TypeParam;
  for (const auto& [shape, rank] : std::vector<std::pair<Shape, Index>>{
           {{5, 7}, 1}, {{2, 3, 33}, 1}, {{2, 3, 5, 4}, 1}, {{2, 3, 5, 4}, 2}, {{2, 3, 5, 4}, 3}, {{1, 1}, 1},
           {{64}, 1}}) {
    LayerNorm<S> norm(shape.part(shape.rank() - rank, shape.rank()));
    draw<S>(norm);
    const auto x = values<S>(shape);
    const Index features = norm.options.normalized_shape.size();
    const Naive naive{.group = [=](Index i) { return i / features; }, .weight = repeating(norm.weight.value),
                      .bias = repeating(norm.bias.value)};
    expect_near(norm(x), naive(x.template cast<double>()));
  }
}

TYPED_TEST(Normalization, LayerNormOptions) {
  using S = TypeParam;
  const auto x = values<S>({4, 6});
  Naive naive{.group = [](Index i) { return i / 6; }, .eps = 0.5};
  expect_near(LayerNorm<S>({.normalized_shape = {6}, .eps = 0.5, .elementwise_affine = false})(x),
              naive(x.template cast<double>()));
  LayerNorm<S> no_bias({.normalized_shape = {6}, .eps = 0.5, .bias = false});
  draw<S>(no_bias);
  naive.weight = repeating(no_bias.weight.value);
  expect_near(no_bias(x), naive(x.template cast<double>()));
  EXPECT_EQ(no_bias.parameters().size(), 1u);
  EXPECT_EQ(LayerNorm<S>(Shape{2, 3, 4}).weight.layout, Layout::image);
  EXPECT_EQ(LayerNorm<S>(Shape{3, 4}).weight.layout, Layout::plain);
}

// Rows longer than are taken at once, and numbers whose squares would swallow their variance.
TYPED_TEST(Normalization, LongRowsFarFromZero) {
  using S = TypeParam;
  const Index n = 2 * kernels::row_piece + 77;
  const auto x = values<S>({3, n}, 1, 1000);
  const auto y = LayerNorm<S>(Shape{n})(x);
  for (Index row = 0; row < 3; ++row) {
    long double mean = 0, variance = 0;  // so that what differs is not the sums of this loop
    for (Index i = 0; i < n; ++i) mean += static_cast<long double>(x(row, i)) / n;
    for (Index i = 0; i < n; ++i) variance += (static_cast<long double>(x(row, i)) - mean) * (x(row, i) - mean) / n;
    double error = 0;
    for (Index i = 0; i < n; ++i) {
      const long double expected = (static_cast<long double>(x(row, i)) - mean) / std::sqrt(variance + 1e-5L);
      error = std::max(error, static_cast<double>(std::abs(static_cast<long double>(y(row, i)) - expected)));
    }
    EXPECT_LT(error, (std::is_same_v<S, float> ? 1e-4 : 1e-12)) << "in row " << row;
  }
}

TYPED_TEST(Normalization, RMSNorm) {
  using S = TypeParam;
  for (const auto& [shape, rank] :
       std::vector<std::pair<Shape, Index>>{{{5, 7}, 1}, {{2, 3, 5, 40}, 1}, {{2, 3, 5, 4}, 3}, {{1, 1}, 1}}) {
    RMSNorm<S> norm({.normalized_shape = shape.part(shape.rank() - rank, shape.rank())});
    draw<S>(norm);
    const auto x = values<S>(shape);
    const Index features = norm.options.normalized_shape.size();
    Naive naive{.group = [=](Index i) { return i / features; }, .weight = repeating(norm.weight.value),
                .eps = static_cast<double>(std::numeric_limits<S>::epsilon()), .centered = false};
    expect_near(norm(x), naive(x.template cast<double>()));
    RMSNorm<S> plain({.normalized_shape = norm.options.normalized_shape, .eps = 0.3, .elementwise_affine = false});
    naive.weight = [](Index) { return 1.0; };
    naive.eps = 0.3;
    expect_near(plain(x), naive(x.template cast<double>()));
    EXPECT_TRUE(plain.parameters().empty());
  }
}

TYPED_TEST(Normalization, GroupNorm) {
  using S = TypeParam;
  std::vector<Shape> shapes = images;
  shapes.insert(shapes.end(), {{3, 8}, {2, 5, 12}});
  for (const Shape& shape : shapes) {
    for (Index groups : {1, 2, 4}) {
      const Index C = shape[-1], size = shape.size() / shape[0], width = C / groups;
      GroupNorm<S> norm({.num_groups = groups, .num_channels = C});
      draw<S>(norm);
      const auto x = values<S>(shape);
      Naive naive{.group = [=](Index i) { return i / size * groups + i % C / width; },
                  .weight = repeating(norm.weight.value), .bias = repeating(norm.bias.value)};
      expect_near(norm(x), naive(x.template cast<double>()));
      GroupNorm<S> plain({.num_groups = groups, .num_channels = C, .eps = 0.2, .affine = false});
      naive = {.group = naive.group, .eps = 0.2};
      expect_near(plain(x), naive(x.template cast<double>()));
    }
  }
}

TYPED_TEST(Normalization, InstanceNorm) {
  using S = TypeParam;
  for (const Shape& shape : {Shape{2, 3, 5, 4}, Shape{1, 7, 2, 3}, Shape{3, 1, 2, 1}, Shape{2, 9, 5}}) {
    const Index C = shape[-1], size = shape.size() / shape[0];
    InstanceNorm<S> norm({.num_features = C, .affine = true});
    draw<S>(norm);
    const auto x = values<S>(shape);
    Naive naive{.group = [=](Index i) { return i / size * C + i % C; }, .weight = repeating(norm.weight.value),
                .bias = repeating(norm.bias.value)};
    expect_near(norm(x), naive(x.template cast<double>()));
    naive = {.group = naive.group};
    expect_near(InstanceNorm<S>({.num_features = C})(x), naive(x.template cast<double>()));
  }
}

TYPED_TEST(Normalization, InstanceNormRunningStatistics) {
  using S = TypeParam;
  const Index N = 3, P = 10, C = 4;
  InstanceNorm<S> norm({.num_features = C, .momentum = 0.2, .affine = true, .track_running_stats = true});
  draw<S>(norm);
  const auto x = values<S>({N, 2, 5, C});
  Random random(1);
  Tape<S> tape(random);
  norm.backward(norm.forward(x, tape), tape);
  Tensor<double> mean(Shape{C}), var(Shape{C});
  for (Index c = 0; c < C; ++c) {
    double means = 0, variances = 0;
    for (Index n = 0; n < N; ++n) {
      const auto at = [&](Index p) { return static_cast<double>(x.cdata()[(n * P + p) * C + c]); };
      double own = 0;
      for (Index p = 0; p < P; ++p) own += at(p) / static_cast<double>(P);
      for (Index p = 0; p < P; ++p) variances += (at(p) - own) * (at(p) - own) / static_cast<double>(P - 1);
      means += own;
    }
    mean.data()[c] = 0.2 * means / static_cast<double>(N);
    var.data()[c] = 0.8 + 0.2 * variances / static_cast<double>(N);
  }
  expect_near(norm.running_mean.value, mean);
  expect_near(norm.running_var.value, var);
  EXPECT_EQ(norm.num_batches_tracked.value.carray()[0], S(0));  // as PyTorch's

  const auto y = norm(x);  // evaluation: the running statistics
  Tensor<double> expected(x.shape());
  for (Index i = 0; i < x.size(); ++i) {
    const Index c = i % C;
    expected.data()[i] = (static_cast<double>(x.cdata()[i]) - mean.cdata()[c]) / std::sqrt(var.cdata()[c] + 1e-5) *
                             static_cast<double>(norm.weight.value.cdata()[c]) +
                         static_cast<double>(norm.bias.value.cdata()[c]);
  }
  expect_near(y, expected);
  EXPECT_EQ(norm(values<S>({1, 1, 1, C})).shape(), (Shape{1, 1, 1, C}));  // one pixel is enough in evaluation
}

// --- adaptive layer norm ---------------------------------------------------------------------------------------------

TYPED_TEST(Normalization, AdaptiveIsLayerNormWithNeither) {
  using S = TypeParam;
  Random random(1);
  AdaptiveLayerNorm<S> adaptive({.num_features = 6, .eps = 1e-3}, random);
  LayerNorm<S> plain({.normalized_shape = {6}, .eps = 1e-3});
  draw<S>(adaptive);
  draw<S>(plain);
  const auto x = values<S>({2, 3, 2, 6});
  EXPECT_EQ(adaptive(x), plain(x));
  const auto named = adaptive.named_parameters();
  ASSERT_EQ(named.size(), 2u);
  EXPECT_EQ(named[0].first, "weight");
  EXPECT_EQ(named[1].first, "bias");
}

TYPED_TEST(Normalization, AdaptiveWithACondition) {
  using S = TypeParam;
  for (bool gate : {false, true}) {
    for (const Shape& shape : {Shape{3, 4, 5}, Shape{2, 3, 2, 5}, Shape{1, 5}}) {
      const Index N = shape[0], C = 5, D = 3, rows = shape.size() / N / C;
      Random random(1);
      AdaptiveLayerNorm<S> norm({.num_features = C, .condition_features = D, .gate = gate}, random);
      draw<S>(norm);
      const auto x = values<S>(shape), condition = values<S>({N, D}, 9);
      Tape<S> tape;
      const auto [y, g] = norm.forward(x, condition, tape);
      Tensor<double> m(Shape{N, 3 * C});  // shift, scale, gate
      for (Index n = 0; n < N; ++n) {
        for (Index k = 0; k < (gate ? 3 : 2) * C; ++k) {
          double sum = static_cast<double>(norm.modulation->bias.value.cdata()[k]);
          for (Index d = 0; d < D; ++d) {
            sum += static_cast<double>(norm.modulation->weight.value.cdata()[k * D + d]) *
                   static_cast<double>(condition.cdata()[n * D + d]);
          }
          m(n, k) = sum;
        }
      }
      const auto of_sample = [&](Index i, Index part) { return std::as_const(m)(i / (rows * C), part * C + i % C); };
      const Naive naive{.group = [](Index i) { return i / C; }, .weight = [&](Index i) { return 1 + of_sample(i, 1); },
                        .bias = [&](Index i) { return of_sample(i, 0); }};
      expect_near(y, naive(x.template cast<double>()));
      if (gate) {
        Tensor<double> gates(Shape{N, C});
        for (Index i = 0; i < N * C; ++i) gates.data()[i] = std::as_const(m)(i / C, 2 * C + i % C);
        expect_near(g, gates);
      } else {
        EXPECT_TRUE(g.empty());
      }
    }
  }
}

TYPED_TEST(Normalization, AdaptiveWithASummary) {
  using S = TypeParam;
  const Index N = 2, P = 6, C = 5, F = 3;
  Random random(1);
  AdaptiveLayerNorm<S> norm({.num_features = C, .summary_features = F}, random);
  const auto x = values<S>({N, 2, 3, C}, 3, 0);
  const Naive plain{.group = [](Index i) { return i / C; }};
  expect_near(norm(x), plain(x.template cast<double>()));  // before it has learned

  draw<S>(norm);
  Tensor<double> gamma(Shape{N, C}), beta(Shape{N, C});
  for (Index n = 0; n < N; ++n) {
    std::vector<double> a(F, 0.0);
    for (Index p = 0; p < P; ++p) {
      for (Index f = 0; f < F; ++f) {
        double s = static_cast<double>(norm.summary->bias.value.cdata()[f]);
        for (Index c = 0; c < C; ++c) {
          s += static_cast<double>(norm.summary->weight.value.cdata()[f * C + c]) *
               static_cast<double>(x.cdata()[(n * P + p) * C + c]);
        }
        a[static_cast<std::size_t>(f)] += std::tanh(s) / static_cast<double>(P);
      }
    }
    const auto map = [&](const Linear<S>& linear, Index c) {
      double y = static_cast<double>(linear.bias.value.cdata()[c]);
      for (Index f = 0; f < F; ++f) {
        y += static_cast<double>(linear.weight.value.cdata()[c * F + f]) * a[static_cast<std::size_t>(f)];
      }
      return y;
    };
    for (Index c = 0; c < C; ++c) {
      gamma(n, c) = map(*norm.gamma, c);
      beta(n, c) = map(*norm.beta, c);
    }
  }
  const Naive naive{.group = [](Index i) { return i / C; },
                    .weight = [&](Index i) { return std::as_const(gamma)(i / (P * C), i % C); },
                    .bias = [&](Index i) { return std::as_const(beta)(i / (P * C), i % C); }};
  expect_near(norm(x), naive(x.template cast<double>()));
}

TEST(AdaptiveLayerNorm, ZeroInitialisedGate) {
  Random random(1);
  AdaptiveLayerNorm<double> norm({.num_features = 5, .condition_features = 3, .gate = true}, random);
  const auto x = values<double>({2, 4, 5});
  Tape<double> tape;
  const auto [y, gate] = norm.forward(x, values<double>({2, 3}), tape);
  EXPECT_EQ(y, LayerNorm<double>({.normalized_shape = {5}, .elementwise_affine = false})(x));
  EXPECT_EQ(gate, Tensor<double>(Shape{2, 5}));
}

TEST(AdaptiveLayerNorm, NamesItsParts) {
  Random random(1);
  AdaptiveLayerNorm<float> conditioned({.num_features = 5, .condition_features = 3}, random);
  EXPECT_EQ(conditioned.named_parameters()[0].first, "modulation.weight");
  EXPECT_EQ(conditioned.modulation->weight.value.shape(), (Shape{10, 3}));
  Layer<float> dynamic = AdaptiveLayerNorm<float>({.num_features = 5, .summary_features = 2}, random);
  std::string names;
  for (auto& [name, p] : dynamic.named_parameters()) names += name + ' ';
  EXPECT_EQ(names, "summary.weight summary.bias gamma.weight gamma.bias beta.weight beta.bias ");
}

// --- gradients -------------------------------------------------------------------------------------------------------

TEST(NormalizationGradients, LayerNorm) {
  for (const auto& [shape, rank] : std::vector<std::pair<Shape, Index>>{
           {{5, 7}, 1}, {{2, 3, 5, 4}, 1}, {{2, 3, 2, 4}, 3}, {{1, 1, 1, 3}, 2}, {{1, 1}, 1}, {{70, 34}, 1}}) {
    for (bool affine : {true, false}) {
      LayerNorm<double> norm({.normalized_shape = shape.part(shape.rank() - rank, shape.rank()),
                              .elementwise_affine = affine});
      draw<double>(norm);
      expect_gradients(norm, values<double>(shape));
    }
  }
  expect_gradients(LayerNorm<double>({.normalized_shape = {3}, .eps = 0.1, .bias = false}), values<double>({4, 3}));
}

// Rows so long that parameter gradients are summed strip by strip: as sums of rows that were not.
TEST(NormalizationGradients, LongRows) {
  const Index n = kernels::row_piece + 5, rows = 3;
  LayerNorm<double> norm(Shape{n});
  draw<double>(norm);
  const auto x = values<double>({rows, n}), dy = values<double>({rows, n}, 4);
  Random random(1);
  Tape<double> tape(random);
  norm.forward(x, tape);
  const auto dx = norm.backward(dy, tape);
  for (Index row = 0; row < rows; ++row) {
    const ConstArrayMap<double> in(x.cdata() + row * n, n), d(dy.cdata() + row * n, n);
    const double mean = in.mean(), rstd = 1 / std::sqrt((in - mean).square().mean() + 1e-5);
    const Array<double> z = (in - mean) * rstd, g = d * norm.weight.value.carray();
    const Array<double> expected = rstd * (g - g.mean() - z * (g * z).mean());
    EXPECT_LT(largest(ConstArrayMap<double>(dx.cdata() + row * n, n) - expected), 1e-11);
    norm.weight.add_gradient(-d * z);
    norm.bias.add_gradient(-d);
  }
  EXPECT_LT(largest(norm.weight.grad.carray()), 1e-11);
  EXPECT_LT(largest(norm.bias.grad.carray()), 1e-11);
}

TEST(NormalizationGradients, RMSNorm) {
  for (const Shape& shape : {Shape{5, 7}, Shape{2, 3, 5, 4}, Shape{1, 1, 1, 3}, Shape{3, 1}}) {
    RMSNorm<double> norm({.normalized_shape = {shape[-1]}, .eps = 1e-3});
    draw<double>(norm);
    expect_gradients(norm, values<double>(shape));
  }
  expect_gradients(RMSNorm<double>({.normalized_shape = {3, 4}, .elementwise_affine = false}),
                   values<double>({2, 3, 4}));
}

TEST(NormalizationGradients, GroupNorm) {
  for (const Shape& shape : images) {
    for (Index groups : {1, 2, 4}) {
      // Of two values in a group little but eps is left in the gradient: a large one.
      GroupNorm<double> norm({.num_groups = groups, .num_channels = shape[-1], .eps = 0.1});
      draw<double>(norm);
      expect_gradients(norm, values<double>(shape));
    }
  }
  expect_gradients(GroupNorm<double>({.num_groups = 2, .num_channels = 6, .affine = false}), values<double>({3, 6}));
}

TEST(NormalizationGradients, InstanceNorm) {
  for (const Shape& shape : {Shape{2, 3, 5, 4}, Shape{1, 7, 2, 3}, Shape{3, 1, 2, 1}, Shape{2, 3, 5}}) {
    for (bool affine : {true, false}) {
      InstanceNorm<double> norm({.num_features = shape[-1], .affine = affine, .track_running_stats = affine});
      draw<double>(norm);
      norm.running_mean.value.array() += affine ? 0.3 : 0;
      expect_gradients(norm, values<double>(shape));
      expect_gradients(norm, values<double>(shape), Mode::evaluate);
    }
  }
}

TEST(NormalizationGradients, Adaptive) {
  Random random(1);
  for (const Shape& shape : {Shape{3, 4, 5}, Shape{2, 3, 2, 5}, Shape{1, 1, 5}}) {
    AdaptiveLayerNorm<double> plain({.num_features = 5}, random);
    AdaptiveLayerNorm<double> dynamic({.num_features = 5, .summary_features = 3}, random);
    draw<double>(plain);
    draw<double>(dynamic);
    expect_gradients(plain, values<double>(shape));
    expect_gradients(dynamic, values<double>(shape, 3, 0));
    for (bool gate : {false, true}) {
      AdaptiveLayerNorm<double> norm({.num_features = 5, .condition_features = 3, .gate = gate}, random);
      draw<double>(norm);
      const auto report = gradient_check(norm, std::tuple(values<double>(shape), values<double>({shape[0], 3}, 9)));
      EXPECT_TRUE(report.passed()) << shape << ' ' << report;
    }
  }
}

// What of two sources is frozen or not wanted is not computed, and the rest comes out the same.
TEST(NormalizationGradients, AdaptiveComputesWhatIsWanted) {
  Random random(1);
  const auto x = values<double>({2, 3, 5}), condition = values<double>({2, 3}, 9), dy = values<double>({2, 3, 5}, 6);
  const auto dgate = values<double>({2, 5}, 7);
  AdaptiveLayerNorm<double> norm({.num_features = 5, .condition_features = 3, .gate = true}, random);
  draw<double>(norm);
  const auto step = [&](bool trainable, bool input_gradient) {
    norm.modulation->weight.requires_grad = norm.modulation->bias.requires_grad = trainable;
    norm.modulation->weight.grad = norm.modulation->bias.grad = Tensor<double>();
    Tape<double> tape(random, {.input_gradient = input_gradient});
    norm.forward(x, condition, tape);
    EXPECT_EQ(tape.input_gradient(), trainable || input_gradient);
    auto result = norm.backward(dy, dgate, tape);
    EXPECT_TRUE(tape.empty());
    return result;
  };
  const auto [dx, dcondition] = step(true, true);
  const auto dweight = norm.modulation->weight.grad;
  const auto frozen = step(false, true);
  EXPECT_EQ(frozen.first, dx);
  EXPECT_EQ(frozen.second, dcondition);
  const auto first = step(true, false);
  EXPECT_TRUE(first.first.empty());
  EXPECT_TRUE(first.second.empty());
  EXPECT_EQ(norm.modulation->weight.grad, dweight);
  const auto nothing = step(false, false);
  EXPECT_TRUE(nothing.first.empty());
  EXPECT_TRUE(nothing.second.empty());
}

// --- laws ------------------------------------------------------------------------------------------------------------

/// The kinds of norm, each for 12 channels.
template <typename S>
std::vector<Layer<S>> all_norms() {
  Random random(1);
  std::vector<Layer<S>> norms = {LayerNorm<S>(Shape{12}), RMSNorm<S>({.normalized_shape = {12}}),
                                 GroupNorm<S>({.num_groups = 3, .num_channels = 12}),
                                 InstanceNorm<S>({.num_features = 12, .affine = true, .track_running_stats = true}),
                                 AdaptiveLayerNorm<S>({.num_features = 12, .summary_features = 5}, random)};
  for (auto& norm : norms) draw<S>(norm);
  return norms;
}

TYPED_TEST(Normalization, SameBitsForAnyNumberOfThreads) {
  using S = TypeParam;
  const int threads = num_threads();
  for (const Shape& shape : {Shape{3, 37, 41, 12}, Shape{1, 97, 61, 12}}) {
    const auto x = values<S>(shape), dy = values<S>(shape, 5);
    for (const auto& norm : all_norms<S>()) {
      std::vector<Tensor<S>> expected;
      for (int count : {1, 2, 3}) {
        set_num_threads(count);
        Layer<S> copy = norm;
        Random random(1);
        Tape<S> tape(random);
        std::vector<Tensor<S>> results = {copy.forward(x, tape), copy.backward(dy, tape)};
        for (auto& p : copy.parameters()) results.push_back(p->grad);
        if (count == 1) expected = results;
        EXPECT_EQ(results, expected) << count << " threads, " << shape;
      }
    }
  }
  set_num_threads(threads);
}

// An image gives the same bits alone and in a batch.
TYPED_TEST(Normalization, BatchDoesNotMatter) {
  using S = TypeParam;
  const auto x = values<S>({3, 7, 5, 12});
  const Index size = 7 * 5 * 12;
  for (const auto& norm : all_norms<S>()) {
    const auto y = norm(x);
    for (Index n = 0; n < 3; ++n) {
      const auto of_image = [&](const Tensor<S>& t) {
        return Tensor<S>(Shape{1, 7, 5, 12}, {t.cdata() + n * size, static_cast<std::size_t>(size)});
      };
      EXPECT_EQ(norm(of_image(x)), of_image(y)) << norm.type().name();
    }
  }
}

TYPED_TEST(Normalization, SteadyStateAsksForNoMemoryAndCopiesNothing) {
  using S = TypeParam;
  const auto x = values<S>({2, 9, 5, 12});
  for (auto& norm : all_norms<S>()) {
    MemoryStatistics before;
    for (int step = 0; step < 4; ++step) {
      if (step == 2) before = memory_statistics();
      Random random(1);
      Tape<S> tape(random);
      norm.backward(norm.forward(x, tape), tape);
    }
    EXPECT_EQ(memory_statistics().system_requests, before.system_requests) << norm.type().name();
    EXPECT_EQ(memory_statistics().copies, before.copies) << norm.type().name();
  }
}

TYPED_TEST(Normalization, PredictsInPlace) {
  using S = TypeParam;
  for (const auto& norm : all_norms<S>()) {
    auto x = values<S>({2, 9, 5, 12});
    const S* const memory = x.cdata();
    const auto expected = norm(x);
    const auto y = norm(std::move(x));
    EXPECT_EQ(y.cdata(), memory) << norm.type().name();
    EXPECT_EQ(y, expected);
  }
}

// Results of many megabytes are stored past the caches, unless they replace what they are made from.
TYPED_TEST(Normalization, LargeResultsAreTheSameInPlace) {
  using S = TypeParam;
  for (const auto& [channels, groups] : {std::pair<Index, Index>{64, 8}, {33, 3}}) {  // whole vectors, and parts of them
    const auto x = values<S>({2, 190, 97, channels}), dy = values<S>({2, 190, 97, channels}, 5);
    const auto copied = [](Tensor<S> t) {  // so that nobody else holds it
      t.data();
      return t;
    };
    for (Layer<S> norm : {Layer<S>(GroupNorm<S>({.num_groups = groups, .num_channels = channels})),
                          Layer<S>(InstanceNorm<S>({.num_features = channels}))}) {
      const auto gradient = [&](Tensor<S> of_output) {
        Random random(1);
        Tape<S> tape(random);
        norm.forward(x, tape);
        return norm.backward(std::move(of_output), tape);
      };
      EXPECT_EQ(gradient(dy), gradient(copied(dy))) << norm.type().name();
      EXPECT_EQ(norm(x), norm(copied(x))) << norm.type().name();
    }
  }
}

// --- errors ----------------------------------------------------------------------------------------------------------

TEST(NormalizationErrors, Options) {
  const double nan = std::nan("");
  expect_error([] { LayerNorm<float>({.normalized_shape = {}}); },
               "LayerNorm: expected normalized_shape of at least one axis");
  expect_error([] { LayerNorm<float>({.normalized_shape = {3, 0}}); }, "normalized_shape of at least 1, got 0");
  expect_error([=] { LayerNorm<float>({.normalized_shape = {3}, .eps = nan}); },
               "LayerNorm: expected eps of at least 0, got nan");
  expect_error([] { RMSNorm<float>({.normalized_shape = {3}, .eps = -1e-5}); }, "RMSNorm: expected eps of at least 0");
  expect_error([] { RMSNorm<float>({}); }, "RMSNorm: expected normalized_shape");
  expect_error([] { GroupNorm<float>({.num_groups = 4, .num_channels = 6}); },
               "GroupNorm: expected num_groups that divides num_channels, got 4 for 6");
  expect_error([] { GroupNorm<float>({.num_groups = 0, .num_channels = 6}); }, "num_groups of at least 1, got 0");
  expect_error([] { GroupNorm<float>({.num_groups = 1}); }, "num_channels of at least 1, got 0");
  expect_error([=] { GroupNorm<float>({.num_groups = 1, .num_channels = 6, .eps = nan}); }, "GroupNorm: expected eps");
  expect_error([] { InstanceNorm<float>({}); }, "InstanceNorm: expected num_features of at least 1, got 0");
  expect_error([=] { InstanceNorm<float>({.num_features = 1, .momentum = nan}); }, "momentum between 0 and 1, got nan");
  Random random(1);
  expect_error([&] { AdaptiveLayerNorm<float>({}, random); }, "AdaptiveLayerNorm: expected num_features");
  expect_error([&] { AdaptiveLayerNorm<float>({.num_features = 3, .gate = true}, random); }, "condition_features");
  expect_error([&] { AdaptiveLayerNorm<float>({.num_features = 3, .eps = nan}, random); }, "expected eps");
  const AdaptiveLayerNormOptions both{.num_features = 3, .condition_features = 2, .summary_features = 1};
  expect_error([&] { AdaptiveLayerNorm<float>(both, random); },
               "expected condition_features or summary_features, got both, 2 and 1");
}

TEST(NormalizationErrors, Inputs) {
  const auto tensor = [](const Shape& shape) { return Tensor<float>(shape); };
  const LayerNorm<float> layer(Shape{4, 5});
  expect_error([&] { layer(tensor({2, 5, 4})); },
               "LayerNorm: expected an input whose last axes are [4, 5], got [2, 5, 4]");
  expect_error([&] { layer(tensor({5})); }, "got [5]");
  expect_error([&] { layer(tensor({0, 4, 5})); }, "not empty, got [0, 4, 5]");
  const RMSNorm<float> rms({.normalized_shape = {5}});
  expect_error([&] { rms(tensor({2, 4})); }, "RMSNorm: expected an input whose last axes are [5]");
  const GroupNorm<float> group({.num_groups = 2, .num_channels = 6});
  expect_error([&] { group(tensor({2, 3, 5})); }, "GroupNorm: expected 6 input features, got 5 (input is [2, 3, 5])");
  expect_error([&] { group(tensor({6})); }, "GroupNorm: expected an input of at least 2 axes, got [6]");
  expect_error([&] { group(tensor({0, 6})); }, "not empty");
  const InstanceNorm<float> instance({.num_features = 6});
  expect_error([&] { instance(tensor({2, 6})); }, "InstanceNorm: expected an input of at least 3 axes");
  expect_error([&] { instance(tensor({2, 1, 1, 6})); }, "expected more than 1 position per channel");
  expect_error([&] { instance(tensor({2, 3, 3, 5})); }, "expected 6 input features, got 5");

  Random random(1);
  const AdaptiveLayerNorm<float> conditioned({.num_features = 6, .condition_features = 3}, random);
  const AdaptiveLayerNorm<float> dynamic({.num_features = 6, .summary_features = 3}, random);
  Tape<float> tape;
  expect_error([&] { conditioned(tensor({2, 6})); },
               "AdaptiveLayerNorm: expected a condition of 3 features, as in forward(x, condition, tape)");
  expect_error([&] { conditioned.forward(tensor({2, 6}), tensor({1, 3}), tape); },
               "expected a condition [2, 3], got [1, 3]");
  expect_error([&] { conditioned.forward(tensor({2, 5}), tensor({2, 3}), tape); }, "expected 6 input features, got 5");
  expect_error([&] { dynamic.forward(tensor({2, 6}), tensor({2, 3}), tape); }, "expected no condition");
  expect_error([&] { dynamic(tensor({2, 5})); }, "expected 6 input features, got 5");
  expect_error([&] { dynamic(tensor({0, 3, 6})); }, "not empty");
}

TEST(NormalizationErrors, OutputGradients) {
  for (auto& norm : all_norms<float>()) {
    Random random(1);
    Tape<float> tape(random);
    norm.forward(values<float>({2, 3, 3, 12}), tape);
    expect_error([&] { norm.backward(Tensor<float>(Shape{2, 3, 12}), tape); },
                 "expected an output gradient of shape [2, 3, 3, 12], got [2, 3, 12]");
    for (auto& p : norm.parameters()) EXPECT_TRUE(p->grad.empty());
    for (auto& [name, b] : norm.named_buffers()) {
      EXPECT_EQ(b->value, Tensor<float>(b->value.shape(), name == "running_var" ? 1.f : 0.f)) << name;
    }
  }
}

}  // namespace
