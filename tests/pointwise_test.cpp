// Activations, softmax, dropout and flatten: formulas in double, difference quotients, edges, memory, threads.
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/layers/dropout.hpp>
#include <residua/layers/drop_path.hpp>
#include <residua/layers/flatten.hpp>
#include <residua/layers/gelu.hpp>
#include <residua/layers/leaky_relu.hpp>
#include <residua/layers/relu.hpp>
#include <residua/layers/sigmoid.hpp>
#include <residua/layers/silu.hpp>
#include <residua/layers/softmax.hpp>
#include <residua/layers/tanh.hpp>
#include <residua/train/gradient_check.hpp>

#include "errors.hpp"
#include "layer_steps.hpp"

namespace {

using namespace residua;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <typename L>
void expect_right_gradient(L layer, const Tensor<double>& x, Mode mode = Mode::train) {
  const GradientReport report = gradient_check(layer, x, {.mode = mode});
  EXPECT_TRUE(report.passed()) << report << " for " << x.shape();
}

template <typename S> class Pointwise : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Pointwise, Scalars);

TYPED_TEST(Pointwise, ReLUPassesGradientsWhereItPassedNumbers) {
  using S = TypeParam;
  Random random(3);
  const S specials[] = {S(0), -S(0), static_cast<S>(nan), static_cast<S>(infinity), -static_cast<S>(infinity),
                        std::numeric_limits<S>::denorm_min(), -std::numeric_limits<S>::denorm_min()};
  for (const Index size : {0, 1, 3, 15, 16, 17, 127, 128, 129, 511, 512, 513, 1000, 32767, 32768, 32769, 100001}) {
    Tensor<S> x(Shape{size}, uninitialized), dy(Shape{size}, uninitialized);
    for (Index i = 0; i < size; ++i) {
      x.data()[i] = random.chance(0.2) ? specials[random.below(7)] : static_cast<S>(random.normal());
      dy.data()[i] = static_cast<S>(i + 1);
    }
    ReLU<S> relu;
    Tape<S> tape(random);
    const Tensor<S> y = relu.forward(x, tape), dx = relu.backward(dy, tape);
    for (Index i = 0; i < size; ++i) {
      const S v = x.cdata()[i], passed = y.cdata()[i];
      ASSERT_TRUE(v < 0 ? passed == 0 && !std::signbit(passed) : passed == v || std::isnan(v)) << i << " of " << size;
      ASSERT_EQ(dx.cdata()[i], v <= 0 ? S(0) : dy.cdata()[i]) << v << " at " << i << " of " << size;
    }
    Tape<S> prediction;
    const Tensor<S> predicted = relu.forward(x, prediction);
    const auto bytes = static_cast<std::size_t>(size) * sizeof(S);
    EXPECT_TRUE(size == 0 || std::memcmp(predicted.cdata(), y.cdata(), bytes) == 0);
  }
}

// --- functions of vectors --------------------------------------------------------------------------------------------

/// The largest |got − expected| / (absolute + relative · |expected|) of f over a grid; at most 1 is right.
template <typename S, typename F, typename Expected>
double worst(F f, Expected expected, double low, double high, double absolute, double relative) {
  double result = 0;
  const int count = 200001;
  for (int i = 0; i < count; ++i) {
    const S x = static_cast<S>(low + (high - low) * i / (count - 1));
    const double got = static_cast<double>(f(kernels::Pack<S, 16>(x)).raw[0]), right = expected(static_cast<double>(x));
    result = std::max(result, std::abs(got - right) / (absolute + relative * std::abs(right)));
  }
  return result;
}

TYPED_TEST(Pointwise, VectorFunctionsAreAccurate) {
  using S = TypeParam;
  const bool single = std::is_same_v<S, float>;
  const double eps = static_cast<double>(std::numeric_limits<S>::epsilon());
  const double tiny = static_cast<double>(std::numeric_limits<S>::min());
  EXPECT_LE(worst<S>([](auto x) { return kernels::exp(x); }, [](double x) { return std::exp(x); }, single ? -110 : -750,
                     0, tiny, 2 * eps), 1);
  EXPECT_LE(worst<S>([](auto x) { return kernels::tanh(x); }, [](double x) { return std::tanh(x); }, -30, 30, 0,
                     4 * eps), 1);
  EXPECT_LE(worst<S>([](auto x) { return kernels::tanh(x); }, [](double x) { return std::tanh(x); }, -1e-3, 1e-3, 0,
                     4 * eps), 1);
  EXPECT_LE(worst<S>([](auto x) { return kernels::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }, -80,
                     80, 0, 4 * eps), 1);
  EXPECT_LE(worst<S>([](auto x) { return kernels::Normal(x).cdf; },
                     [](double x) { return std::erfc(-x / std::numbers::sqrt2) / 2; }, -40, 40, single ? 1e-7 : eps,
                     0), 1);
  EXPECT_LE(worst<S>([](auto x) { return kernels::Normal(x).density; },
                     [](double x) { return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi); }, -40, 40, 2 * eps,
                     0), 1);
}

TYPED_TEST(Pointwise, VectorFunctionsAtTheEdges) {
  using S = TypeParam;
  const auto at = [](auto f, double x) { return static_cast<double>(f(kernels::Pack<S, 16>(static_cast<S>(x))).raw[0]); };
  const auto exp = [](auto x) { return kernels::exp(x); };
  EXPECT_EQ(at(exp, 0), 1);
  EXPECT_EQ(at(exp, -infinity), 0);
  EXPECT_EQ(at(exp, -1e30), 0);
  EXPECT_TRUE(std::isnan(at(exp, nan)));
  const auto tanh = [](auto x) { return kernels::tanh(x); };
  EXPECT_EQ(at(tanh, 0), 0);
  EXPECT_EQ(at(tanh, infinity), 1);
  EXPECT_EQ(at(tanh, -infinity), -1);
  EXPECT_TRUE(std::isnan(at(tanh, nan)));
  const auto cdf = [](auto x) { return kernels::Normal(x).cdf; };
  EXPECT_EQ(at(cdf, infinity), 1);
  EXPECT_EQ(at(cdf, -infinity), 0);
  EXPECT_TRUE(std::isnan(at(cdf, nan)));
}

// --- activations -----------------------------------------------------------------------------------------------------

/// Calls f(layer, formula in double) for each activation.
template <typename S, typename F>
void for_each_activation(F&& f) {
  const auto sigmoid = [](double x) { return 1 / (1 + std::exp(-x)); };
  f(LeakyReLU<S>(), [](double x) { return x > 0 ? x : x * static_cast<double>(static_cast<S>(0.01)); });
  f(LeakyReLU<S>({.negative_slope = 0.25}), [](double x) { return x > 0 ? x : 0.25 * x; });
  f(LeakyReLU<S>({.negative_slope = -0.5}), [](double x) { return x > 0 ? x : -0.5 * x; });
  f(LeakyReLU<S>({.negative_slope = 0}), [](double x) { return x > 0 ? x : 0 * x; });
  f(GELU<S>(), [](double x) { return x * std::erfc(-x / std::numbers::sqrt2) / 2; });
  f(GELU<S>({.approximate = Approximate::tanh}), [](double x) {
    return x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x))) / 2;
  });
  f(SiLU<S>(), [sigmoid](double x) { return x * sigmoid(x); });
  f(Sigmoid<S>(), sigmoid);
  f(Tanh<S>(), [](double x) { return std::tanh(x); });
}

TYPED_TEST(Pointwise, ActivationsFollowTheirFormulas) {
  using S = TypeParam;
  const double absolute = std::is_same_v<S, float> ? 1e-6 : 1e-14, relative = std::is_same_v<S, float> ? 1.3e-6 : 1e-14;
  for_each_activation<S>([&](auto layer, auto formula) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1, 1, 1}, Shape{3, 5, 7, 11}, Shape{1, 33001}, {2, 0}}) {
      Tensor<S> x = normal<S>(shape, 7, 4);
      const Tensor<S> y = layer(x);
      ASSERT_EQ(y.shape(), shape);
      for (Index i = 0; i < x.size(); ++i) {
        const double expected = formula(static_cast<double>(x.cdata()[i]));
        ASSERT_NEAR(static_cast<double>(y.cdata()[i]), expected, absolute + relative * std::abs(expected))
            << layer.name << " of " << x.cdata()[i];
      }
    }
  });
}

TYPED_TEST(Pointwise, ActivationsFarOut) {
  using S = TypeParam;
  const double far = 1e4;
  for_each_activation<S>([&](auto layer, auto formula) {
    const Tensor<S> x(Shape{5}, std::vector<S>{S(far), S(-far), S(infinity), S(nan), S(0)});
    const auto [y, dx] = step(layer, x);
    EXPECT_EQ(static_cast<double>(y(0)), formula(far)) << layer.name;
    EXPECT_NEAR(static_cast<double>(y(1)), formula(-far), 1e-5) << layer.name;
    EXPECT_EQ(static_cast<double>(y(2)), formula(infinity)) << layer.name;
    EXPECT_TRUE(std::isnan(y(3))) << layer.name;
    EXPECT_NEAR(static_cast<double>(y(4)), formula(0), 1e-7) << layer.name;
    EXPECT_TRUE(std::isfinite(dx(0)) && std::isfinite(dx(1))) << layer.name;
  });
}

TEST(Activations, Gradients) {
  for_each_activation<double>([](auto layer, auto) {
    for (const Shape& shape : {Shape{1, 1}, Shape{3, 5}, Shape{2, 3, 5, 3}}) {
      expect_right_gradient(layer, normal<double>(shape, 7, 2));
    }
  });
}

TYPED_TEST(Pointwise, ActivationsHaveTheSameBitsForAnyThreads) {
  using S = TypeParam;
  for_each_activation<S>([](auto layer, auto) { expect_same_bits_for_any_threads(layer, normal<S>(Shape{7, 14303})); });
}

TYPED_TEST(Pointwise, ActivationsDoNotDependOnThePlaceInMemory) {
  using S = TypeParam;
  for_each_activation<S>([](auto layer, auto) {
    const Tensor<S> x = normal<S>(Shape{37});
    const Tensor<S> y = layer(x);
    for (Index i = 0; i < x.size(); ++i) EXPECT_EQ(layer(Tensor<S>(Shape{1}, x.cdata()[i]))(0), y.cdata()[i]);
  });
}

TYPED_TEST(Pointwise, ActivationsWriteInPlaceWhereTheyMay) {
  using S = TypeParam;
  for_each_activation<S>([](auto layer, auto) {
    Tensor<S> x = normal<S>(Shape{4, 9});
    const Tensor<S> before = normal<S>(Shape{4, 9});
    const Tensor<S> y = layer(x);
    EXPECT_EQ(x, before) << layer.name << " changes an input that is shared";
    const S* const memory = x.cdata();
    EXPECT_EQ(layer(std::move(x)).cdata(), memory) << layer.name;

    const auto copies = memory_statistics().copies;
    const auto [out, dx] = step(layer, before);
    EXPECT_EQ(before, normal<S>(Shape{4, 9}));
    EXPECT_EQ(memory_statistics().copies, copies);
  });
}

TYPED_TEST(Pointwise, NothingIsKeptOrComputedThatNobodyWants) {
  using S = TypeParam;
  for_each_activation<S>([](auto layer, auto) {
    Random random(1);
    Tape<S> tape(random, {.input_gradient = false});
    Tensor<S> x = normal<S>(Shape{4, 9});
    const S* const memory = x.cdata();
    Tensor<S> y = layer.forward(std::move(x), tape);
    EXPECT_EQ(y.cdata(), memory);
    EXPECT_TRUE(y.unique()) << layer.name << " keeps its output";
    EXPECT_TRUE(layer.backward(y, tape).empty());
  });
}

TYPED_TEST(Pointwise, BackwardRefusesAGradientOfAnotherShape) {
  using S = TypeParam;
  const auto check = [](auto layer, const std::string& name) {
    Random random(1);
    Tape<S> tape(random);
    layer.forward(normal<S>(Shape{4, 9}), tape);
    expect_error([&] { layer.backward(normal<S>(Shape{4, 8}), tape); }, name + ": expected an output gradient");
  };
  for_each_activation<S>([&](auto layer, auto) { check(layer, layer.name); });
  check(Softmax<S>(), "Softmax");
  check(Dropout<S>(), "Dropout");
  check(DropPath<S>({.p = 0.5}), "DropPath");
  check(Flatten<S>({.start_dim = 0}), "Flatten");
}

TEST(Activations, RefuseBadOptions) {
  EXPECT_EQ(message([] { LeakyReLU<float>({.negative_slope = nan}); }),
            "LeakyReLU: expected a number as negative_slope, got nan");
}

// --- softmax ---------------------------------------------------------------------------------------------------------

TYPED_TEST(Pointwise, SoftmaxOfEveryAxis) {
  using S = TypeParam;
  const double tolerance = std::is_same_v<S, float> ? 1e-6 : 1e-14;
  for (const Shape& shape : {Shape{1, 1}, Shape{7}, Shape{3, 5}, Shape{2, 3, 301}, Shape{3, 4, 5, 2}, Shape{257, 9},
                             Shape{5, kernels::narrow_row}, Shape{5, kernels::narrow_row + 1}}) {
    for (Index dim = -shape.rank(); dim < shape.rank(); ++dim) {
      const Tensor<S> x = normal<S>(shape, 7, 5);
      const Tensor<S> y = Softmax<S>({.dim = dim})(x);
      const Index axis = dim < 0 ? dim + shape.rank() : dim;
      const Index size = shape[axis], inner = shape.part(axis + 1, shape.rank()).size();
      for (Index i = 0; i < x.size(); ++i) {
        const Index start = i - i / inner % size * inner;
        double sum = 0;
        for (Index j = 0; j < size; ++j) sum += std::exp(static_cast<double>(x.cdata()[start + j * inner]));
        const double expected = std::exp(static_cast<double>(x.cdata()[i])) / sum;
        ASSERT_NEAR(static_cast<double>(y.cdata()[i]), expected, tolerance) << shape << dim;
      }
    }
  }
}

TYPED_TEST(Pointwise, SoftmaxAtTheEdges) {
  using S = TypeParam;
  const S inf = static_cast<S>(infinity);
  const std::vector<S> values{1000, 1001, 999, -inf, 0, -inf, -inf, -inf, -inf, 1, S(nan), 2, inf, 0, 0};
  const Tensor<S> narrow(Shape{5, 3}, values), masked(Shape{5, kernels::narrow_row}, -inf);
  const Tensor<S> wide = concat<S>({narrow, masked}, 1);
  for (const Tensor<S>& x : {narrow, wide}) {
    for (const bool columns : {false, true}) {
      const Tensor<S> y = columns ? permute(Softmax<S>({.dim = 0})(permute(x, {1, 0})), {1, 0}) : Softmax<S>()(x);
      EXPECT_NEAR(static_cast<double>(y(0, 1)), 1 / (1 + std::exp(-1.) + std::exp(-2.)), 1e-6);
      EXPECT_EQ(y(1, 0), S(0));
      EXPECT_EQ(y(1, 1), S(1));
      for (Index row : {2, 3, 4}) {
        for (Index c = 0; c < x.features(); ++c) EXPECT_TRUE(std::isnan(y(row, c))) << row << c;
      }
    }
  }
}

TEST(Softmax, Gradients) {
  const Tensor<double> x = normal<double>(Shape{2, 3, 5, 3});
  for (Index dim : {0, 1, 2, 3, -1}) expect_right_gradient(Softmax<double>({.dim = dim}), x);
  for (const Shape& rows : {Shape{1, 9}, Shape{300, 2}, Shape{3, kernels::narrow_row + 1}}) {
    expect_right_gradient(Softmax<double>(), normal<double>(rows));
  }
}

TYPED_TEST(Pointwise, SoftmaxHasTheSameBitsForAnyThreads) {
  using S = TypeParam;
  for (Index dim : {0, 1, 2}) expect_same_bits_for_any_threads(Softmax<S>({.dim = dim}), normal<S>(Shape{33, 45, 67}));
  expect_same_bits_for_any_threads(Softmax<S>(), normal<S>(Shape{777, 10}));
}

TEST(Softmax, RefusesBadInput) {
  expect_error([] { Softmax<float>({.dim = 2})(Tensor<float>(Shape{2, 3})); },
               "Softmax: expected an input with an axis 2, got [2, 3]");
  expect_error([] { Softmax<float>({.dim = -3})(Tensor<float>(Shape{2, 3})); }, "axis -3");
  expect_error([] { Softmax<float>()(Tensor<float>(Shape{2, 0})); }, "not empty");
}

// --- dropout ---------------------------------------------------------------------------------------------------------

TYPED_TEST(Pointwise, DropoutDropsItsShareAndScalesTheRest) {
  using S = TypeParam;
  for (double p : {0.1, 0.5, 0.9}) {
    Dropout<S> dropout({.p = p});
    const Tensor<S> x(Shape{101, 331}, S(3));
    const auto [y, dx] = step(dropout, x);
    const Tensor<S> dy = normal<S>(x.shape(), 8);
    Index dropped = 0;
    for (Index i = 0; i < y.size(); ++i) {
      const S factor = y.cdata()[i] == S(0) ? S(0) : static_cast<S>(1 / (1 - p));
      dropped += y.cdata()[i] == S(0);
      ASSERT_EQ(y.cdata()[i], S(3) * factor);
      ASSERT_EQ(dx.cdata()[i], dy.cdata()[i] * factor) << "the mask of backward is not that of forward";
    }
    const double count = static_cast<double>(y.size());
    EXPECT_NEAR(static_cast<double>(dropped) / count, p, 4 * std::sqrt(p * (1 - p) / count));
  }
}

TYPED_TEST(Pointwise, DropoutOfNothingAndOfAll) {
  using S = TypeParam;
  const Tensor<S> x = normal<S>(Shape{5, 7});
  Dropout<S> none({.p = 0}), all({.p = 1});
  EXPECT_EQ(step(none, x).first, x);
  EXPECT_EQ(step(all, x).first, Tensor<S>(x.shape()));
  EXPECT_EQ(step(all, x).second, Tensor<S>(x.shape()));
  EXPECT_EQ(step(all, x, {.mode = Mode::evaluate}).first, x);
  EXPECT_EQ(step(all, x, {.mode = Mode::evaluate}).second, normal<S>(x.shape(), 8));
  EXPECT_EQ(all(x).cdata(), x.cdata()) << "prediction copies";
}

TEST(Dropout, DrawsAnewEachTimeAndTheSameFromTheSameSeed) {
  const Dropout<float> dropout;
  const Tensor<float> x(Shape{64}, 1.f);
  Random random(3), again(3);
  Tape<float> tape(random, {.record = false}), tape_again(again, {.record = false});
  const Tensor<float> first = dropout.forward(x, tape), second = dropout.forward(x, tape);
  EXPECT_FALSE(first == second);
  EXPECT_EQ(dropout.forward(x, tape_again), first);
  EXPECT_EQ(dropout.forward(x, tape_again), second);
}

TEST(Dropout, Gradients) {
  expect_right_gradient(Dropout<double>({.p = 0.3}), normal<double>(Shape{3, 5, 3}));
  expect_right_gradient(Dropout<double>(), normal<double>(Shape{3, 5}), Mode::evaluate);
  expect_right_gradient(DropPath<double>({.p = 0.3}), normal<double>(Shape{9, 5, 3}));
  expect_right_gradient(DropPath<double>({.p = 0.3, .mode = DropPathMode::batch}), normal<double>(Shape{9, 5}));
}

TYPED_TEST(Pointwise, DropoutHasTheSameBitsForAnyThreads) {
  using S = TypeParam;
  expect_same_bits_for_any_threads(Dropout<S>(), normal<S>(Shape{7, 14303}));
  expect_same_bits_for_any_threads(DropPath<S>({.p = 0.5}), normal<S>(Shape{61, 143}));
}

TYPED_TEST(Pointwise, DropPathDropsWholeSamples) {
  using S = TypeParam;
  for (DropPathMode mode : {DropPathMode::row, DropPathMode::batch}) {
    DropPath<S> drop({.p = 0.25, .mode = mode});
    Random random(11);
    Index dropped = 0, batches_all_alike = 0;
    const Index batches = 100, samples = 40;
    for (Index batch = 0; batch < batches; ++batch) {
      Tape<S> tape(random, {.record = false});
      const Tensor<S> y = drop.forward(Tensor<S>(Shape{samples, 3, 5}, S(3)), tape);
      Index here = 0;
      for (Index n = 0; n < samples; ++n) {
        const auto sample = y.carray().segment(n * 15, 15);
        ASSERT_TRUE((sample == S(0)).all() || (sample == S(4)).all());
        here += sample[0] == S(0);
      }
      dropped += here;
      batches_all_alike += here == 0 || here == samples;
    }
    EXPECT_EQ(batches_all_alike, mode == DropPathMode::row ? 0 : batches);
    const double draws = static_cast<double>(mode == DropPathMode::row ? batches * samples : batches);
    const double share = static_cast<double>(dropped) / static_cast<double>(batches * samples);
    EXPECT_NEAR(share, 0.25, 4 * std::sqrt(0.1875 / draws));
  }
}

TYPED_TEST(Pointwise, DropPathOfNothingAndOfAll) {
  using S = TypeParam;
  const Tensor<S> x = normal<S>(Shape{5, 7});
  DropPath<S> none, all({.p = 1});
  EXPECT_EQ(step(none, x).first, x);
  EXPECT_EQ(step(all, x).first, Tensor<S>(x.shape()));
  EXPECT_EQ(step(all, x, {.mode = Mode::evaluate}).first, x);
}

TEST(Dropout, RefusesBadInput) {
  for (double p : {-0.1, 1.1, nan}) {
    expect_error([&] { Dropout<float>({.p = p}); }, "Dropout: expected p between 0 and 1");
    expect_error([&] { DropPath<float>({.p = p}); }, "DropPath: expected p between 0 and 1");
  }
  expect_error([] { DropPath<float>()(Tensor<float>(Shape{})); }, "DropPath: expected an input with a batch axis");
}

// --- flatten ---------------------------------------------------------------------------------------------------------

TYPED_TEST(Pointwise, FlattenGivesImagesInTheOrderOfPyTorch) {
  using S = TypeParam;
  const Tensor<S> x = normal<S>(Shape{2, 3, 5, 7});
  const Tensor<S> y = Flatten<S>()(x);
  ASSERT_EQ(y.shape(), (Shape{2, 105}));
  for (Index n = 0; n < 2; ++n) {
    for (Index h = 0; h < 3; ++h) {
      for (Index w = 0; w < 5; ++w) {
        for (Index c = 0; c < 7; ++c) ASSERT_EQ(y(n, (c * 3 + h) * 5 + w), x(n, h, w, c));
      }
    }
  }
  EXPECT_EQ(Flatten<S>({.start_dim = -3, .end_dim = 3})(x), y);
}

TYPED_TEST(Pointwise, FlattenOnlyReshapesEverythingElse) {
  using S = TypeParam;
  const auto shape_of = [](const Shape& shape, const FlattenOptions& options) {
    const Tensor<S> x = normal<S>(shape);
    const Tensor<S> y = Flatten<S>(options)(x);
    EXPECT_EQ(y.cdata(), x.cdata());
    return y.shape();
  };
  EXPECT_EQ(shape_of({2, 3, 5}, {}), (Shape{2, 15}));
  EXPECT_EQ(shape_of({2, 3}, {}), (Shape{2, 3}));
  EXPECT_EQ(shape_of({2, 3, 5, 7}, {.start_dim = 0}), (Shape{210}));
  EXPECT_EQ(shape_of({2, 3, 5, 7}, {.start_dim = 1, .end_dim = 2}), (Shape{2, 15, 7}));
  EXPECT_EQ(shape_of({2, 3, 5}, {.start_dim = 0, .end_dim = -2}), (Shape{6, 5}));
  EXPECT_EQ(shape_of({2, 1, 1, 7}, {}), (Shape{2, 7})) << "one pixel has one order";
}

TEST(Flatten, Gradients) {
  expect_right_gradient(Flatten<double>(), normal<double>(Shape{2, 3, 5, 3}));
  expect_right_gradient(Flatten<double>(), normal<double>(Shape{1, 1, 1, 3}));
  expect_right_gradient(Flatten<double>(), normal<double>(Shape{2, 3, 5}));
  expect_right_gradient(Flatten<double>({.start_dim = 0, .end_dim = 1}), normal<double>(Shape{2, 3, 2, 3}));
}

TEST(Flatten, RefusesBadInput) {
  expect_error([] { Flatten<float>()(Tensor<float>(Shape{3})); },
               "Flatten: expected an input with axes 1 to -1, got [3]");
  expect_error([] { Flatten<float>({.start_dim = 2, .end_dim = 1})(Tensor<float>(Shape{3, 4, 5})); }, "axes 2 to 1");
  expect_error([] { Flatten<float>({.end_dim = 3})(Tensor<float>(Shape{3, 4, 5})); }, "axes 1 to 3");
}

// --- memory ----------------------------------------------------------------------------------------------------------

TYPED_TEST(Pointwise, AskTheSystemForNoMemoryInTheSteadyState) {
  using S = TypeParam;
  const auto check = [](auto layer) {
    const Tensor<S> x = normal<S>(Shape{3, 9, 7, 5});
    step(layer, x);
    const auto before = memory_statistics();
    for (int i = 0; i < 3; ++i) step(layer, x);
    EXPECT_EQ(memory_statistics().system_requests, before.system_requests);
    EXPECT_EQ(memory_statistics().copies, before.copies);
  };
  for_each_activation<S>([&](auto layer, auto) { check(layer); });
  check(Softmax<S>());
  check(Softmax<S>({.dim = 1}));
  check(Dropout<S>());
  check(DropPath<S>({.p = 0.5}));
  check(Flatten<S>());
}

}  // namespace
