// Pooling: against loops over single elements in double, at odd sizes, ties, NaN and for any number of threads.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/layers/adaptive_avg_pool2d.hpp>
#include <residua/layers/avg_pool2d.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/max_pool2d.hpp>
#include <residua/train/gradient_check.hpp>

#include "errors.hpp"
#include "layer_steps.hpp"

namespace {

using namespace residua;

constexpr double infinity = std::numeric_limits<double>::infinity();

template <typename S>
void expect_near(const Tensor<S>& got, const Tensor<double>& expected) {
  ASSERT_EQ(got.shape(), expected.shape());
  const double tolerance = std::is_same_v<S, float> ? 1e-5 : 1e-13;
  for (Index i = 0; i < got.size(); ++i) {
    const double g = static_cast<double>(got.cdata()[i]), e = expected.cdata()[i];
    if (g == e || (std::isnan(g) && std::isnan(e))) continue;
    ASSERT_NEAR(g, e, tolerance) << "at " << i << " of " << got.shape();
  }
}

template <typename S> class Pooling : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Pooling, Scalars);

// --- what pooling is, one element at a time --------------------------------------------------------------------------

/// PyTorch's output size, by trying: as many windows as begin early enough.
Index outputs(Index in, Index kernel, Index stride, Index padding, Index dilation, bool ceil_mode) {
  const Index reach = dilation * (kernel - 1) + 1;
  Index out = 0;
  while (out * stride + reach <= in + 2 * padding) ++out;
  const bool covered = (out - 1) * stride + reach >= in + 2 * padding;
  if (ceil_mode && !covered && out * stride < in + padding) ++out;
  return out;
}

struct Naive {
  Tensor<double> y, dx;
};

Naive naive_max(const Tensor<double>& x, const MaxPool2dOptions& o) {
  const Pair k = o.kernel_size, s = o.stride.value_or(k), p = o.padding, d = o.dilation;
  const Index H = x.dim(1), W = x.dim(2);
  Naive result{Tensor<double>(Shape{x.dim(0), outputs(H, k.height, s.height, p.height, d.height, o.ceil_mode),
                                    outputs(W, k.width, s.width, p.width, d.width, o.ceil_mode), x.dim(3)}),
               Tensor<double>(x.shape())};
  const Tensor<double> dy = normal<double>(result.y.shape(), 8);
  for (Index n = 0; n < x.dim(0); ++n) {
    for (Index i = 0; i < result.y.dim(1); ++i) {
      for (Index j = 0; j < result.y.dim(2); ++j) {
        for (Index c = 0; c < x.dim(3); ++c) {
          double best = -infinity;
          Index h_best = -1, w_best = -1;
          for (Index r = 0; r < k.height; ++r) {
            for (Index t = 0; t < k.width; ++t) {
              const Index h = i * s.height - p.height + r * d.height, w = j * s.width - p.width + t * d.width;
              if (h < 0 || w < 0 || h >= H || w >= W) continue;
              const double v = x(n, h, w, c);
              if (h_best < 0 || v > best || std::isnan(v)) best = v, h_best = h, w_best = w;
            }
          }
          result.y(n, i, j, c) = best;
          if (h_best >= 0) result.dx(n, h_best, w_best, c) += dy(n, i, j, c);
        }
      }
    }
  }
  return result;
}

/// `row(i)` and `column(j)` bound window (i, j), `divisor(i, j)` is what its sum is divided by.
template <typename Window, typename Divisor>
Naive naive_average(const Tensor<double>& x, Index rows, Index columns, Window row, Window column, Divisor divisor) {
  Naive result{Tensor<double>(Shape{x.dim(0), rows, columns, x.dim(3)}), Tensor<double>(x.shape())};
  const Tensor<double> dy = normal<double>(result.y.shape(), 8);
  for (Index n = 0; n < x.dim(0); ++n) {
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < columns; ++j) {
        for (Index c = 0; c < x.dim(3); ++c) {
          for (Index h = std::max<Index>(0, row(i).first); h < std::min(x.dim(1), row(i).second); ++h) {
            for (Index w = std::max<Index>(0, column(j).first); w < std::min(x.dim(2), column(j).second); ++w) {
              result.y(n, i, j, c) += x(n, h, w, c) / divisor(i, j);
              result.dx(n, h, w, c) += dy(n, i, j, c) / divisor(i, j);
            }
          }
        }
      }
    }
  }
  return result;
}

using Bounds = std::function<std::pair<Index, Index>(Index)>;

Naive naive_avg(const Tensor<double>& x, const AvgPool2dOptions& o) {
  const Pair k = o.kernel_size, s = o.stride.value_or(k), p = o.padding;
  const auto window = [](Index kernel, Index stride, Index padding) -> Bounds {
    return [=](Index i) { return std::pair(i * stride - padding, i * stride - padding + kernel); };
  };
  const Bounds row = window(k.height, s.height, p.height), column = window(k.width, s.width, p.width);
  const auto length = [&](std::pair<Index, Index> bounds, Index size, Index padding) {
    const Index pad = o.count_include_pad ? padding : 0;
    return std::min(bounds.second, size + pad) - std::max(bounds.first, -pad);
  };
  return naive_average(x, outputs(x.dim(1), k.height, s.height, p.height, 1, o.ceil_mode),
                       outputs(x.dim(2), k.width, s.width, p.width, 1, o.ceil_mode), row, column,
                       [&](Index i, Index j) {
                         return static_cast<double>(o.divisor_override.value_or(
                             length(row(i), x.dim(1), p.height) * length(column(j), x.dim(2), p.width)));
                       });
}

Naive naive_adaptive(const Tensor<double>& x, Pair size) {
  const auto window = [](Index in, Index out) -> Bounds {
    return [=](Index i) {
      const double share = static_cast<double>(in) / static_cast<double>(out);
      return std::pair(static_cast<Index>(std::floor(static_cast<double>(i) * share + 1e-9)),
                       static_cast<Index>(std::ceil(static_cast<double>(i + 1) * share - 1e-9)));
    };
  };
  const Bounds row = window(x.dim(1), size.height), column = window(x.dim(2), size.width);
  return naive_average(x, size.height, size.width, row, column, [&](Index i, Index j) {
    return static_cast<double>((row(i).second - row(i).first) * (column(j).second - column(j).first));
  });
}

const std::vector<Shape> images = {{1, 1, 1, 1}, {1, 7, 5, 3}, {2, 6, 9, 4}, {3, 8, 8, 17}, {1, 5, 11, 33}};

/// Options of both pools: kernel, stride, padding.
struct Windows {
  Pair kernel, stride, padding;
};
const std::vector<Windows> windows = {{1, 1, 0},           {2, 2, 0},           {2, 2, 1},           {3, 2, 1},
                                      {3, 1, 1},           {3, 3, 1},           {{3, 2}, {1, 2}, {1, 0}},
                                      {{1, 4}, {3, 1}, {0, 2}}, {5, 3, 2},      {2, 3, 1}};

template <typename S, typename Layer, typename Expected>
void check(const Layer& pool, const Shape& shape, Expected&& expected) {
  Layer layer = pool;
  const Tensor<S> x = normal<S>(shape);
  const auto [y, dx] = step(layer, x);
  const Naive naive = expected(x.template cast<double>());
  expect_near(y, naive.y);
  expect_near(dx, naive.dx);
}

// --- the layers ------------------------------------------------------------------------------------------------------

TYPED_TEST(Pooling, MaxPool2dAgreesWithTheLoops) {
  using S = TypeParam;
  Index checked = 0;
  for (const Shape& shape : images) {
    for (const Windows& w : windows) {
      for (const Pair dilation : {Pair(1), Pair(2), Pair(1, 3)}) {
        for (bool ceil_mode : {false, true}) {
          const MaxPool2dOptions o{w.kernel, w.stride, w.padding, dilation, ceil_mode};
          const auto count = [&](Index in, Index k, Index s, Index p, Index d) {
            return outputs(in, k, s, p, d, ceil_mode);
          };
          if (count(shape[1], w.kernel.height, w.stride.height, w.padding.height, dilation.height) < 1) continue;
          if (count(shape[2], w.kernel.width, w.stride.width, w.padding.width, dilation.width) < 1) continue;
          SCOPED_TRACE(testing::Message() << shape << w.kernel << w.stride << w.padding << dilation << ceil_mode);
          check<S>(MaxPool2d<S>(o), shape, [&](const Tensor<double>& x) { return naive_max(x, o); });
          ++checked;
        }
      }
    }
  }
  EXPECT_GT(checked, 200);
}

TYPED_TEST(Pooling, AvgPool2dAgreesWithTheLoops) {
  using S = TypeParam;
  for (const Shape& shape : images) {
    for (const Windows& w : windows) {
      for (bool ceil_mode : {false, true}) {
        for (bool include : {false, true}) {
          for (std::optional<Index> divisor : {std::optional<Index>(), std::optional<Index>(7)}) {
            const AvgPool2dOptions o{w.kernel, w.stride, w.padding, ceil_mode, include, divisor};
            if (outputs(shape[1], w.kernel.height, w.stride.height, w.padding.height, 1, ceil_mode) < 1) continue;
            if (outputs(shape[2], w.kernel.width, w.stride.width, w.padding.width, 1, ceil_mode) < 1) continue;
            SCOPED_TRACE(testing::Message() << shape << w.kernel << w.stride << w.padding << ceil_mode << include);
            check<S>(AvgPool2d<S>(o), shape, [&](const Tensor<double>& x) { return naive_avg(x, o); });
          }
        }
      }
    }
  }
}

TYPED_TEST(Pooling, AdaptiveAvgPool2dAgreesWithTheLoops) {
  using S = TypeParam;
  for (const Shape& shape : images) {
    for (const Pair size : {Pair(1), Pair(2, 3), Pair(5, 4), Pair(7), Pair(13, 1)}) {
      SCOPED_TRACE(testing::Message() << shape << size);
      check<S>(AdaptiveAvgPool2d<S>({.output_size = size}), shape,
               [&](const Tensor<double>& x) { return naive_adaptive(x, size); });
    }
  }
}

TYPED_TEST(Pooling, GlobalAvgPool2dIsAdaptivePoolingToOne) {
  using S = TypeParam;
  for (const Shape& shape : images) {
    check<S>(GlobalAvgPool2d<S>(), shape, [&](const Tensor<double>& x) {
      Naive naive = naive_adaptive(x, 1);
      return Naive{naive.y.reshaped(Shape{shape[0], shape[3]}), naive.dx};
    });
  }
}

TEST(MaxPool2d, GradientGoesToTheFirstOfEqualValues) {
  MaxPool2d<float> pool({.kernel_size = 3, .stride = 2, .padding = 1});
  const auto [y, dx] = step(pool, Tensor<float>(Shape{1, 5, 5, 5}, 2.f));
  const Naive naive = naive_max(Tensor<double>(Shape{1, 5, 5, 5}, 2.), pool.options);
  expect_near(y, naive.y);
  expect_near(dx, naive.dx);
}

TYPED_TEST(Pooling, NaNAndInfinityPassThrough) {
  using S = TypeParam;
  Tensor<S> x(Shape{1, 5, 5, 3}, static_cast<S>(-infinity));
  x(0, 2, 2, 0) = std::numeric_limits<S>::quiet_NaN();
  x(0, 2, 1, 0) = S(4);
  x(0, 1, 1, 1) = static_cast<S>(infinity);
  const Tensor<double> in = x.template cast<double>();
  MaxPool2d<S> max({.kernel_size = 3, .stride = 1, .padding = 1});
  const auto [y, dx] = step(max, x);
  EXPECT_TRUE(std::isnan(y(0, 2, 1, 0)) && std::isnan(y(0, 3, 3, 0)));
  EXPECT_EQ(y(0, 2, 2, 2), static_cast<S>(-infinity));
  expect_near(y, naive_max(in, max.options).y);
  expect_near(dx, naive_max(in, max.options).dx);

  AvgPool2d<S> avg({.kernel_size = 3, .stride = 1, .padding = 1});
  expect_near(step(avg, x).first, naive_avg(in, avg.options).y);
}

TEST(MaxPool2d, AWindowWithoutInputIsMinusInfinityAndHasNoGradient) {
  MaxPool2d<float> pool({.kernel_size = 2, .stride = 1, .padding = 1, .dilation = 3});
  const auto [y, dx] = step(pool, Tensor<float>(Shape{1, 2, 2, 1}, 1.f));
  EXPECT_EQ(y, Tensor<float>(Shape{1, 1, 1, 1}, static_cast<float>(-infinity)));
  EXPECT_EQ(dx, Tensor<float>(Shape{1, 2, 2, 1}));
}

TEST(Pooling, Gradients) {
  const auto check = [](auto layer, const Shape& shape) {
    const GradientReport report = gradient_check(layer, normal<double>(shape));
    EXPECT_TRUE(report.passed()) << report << " for " << shape;
  };
  for (const Shape& shape : {Shape{2, 5, 7, 3}, Shape{1, 4, 3, 1}, Shape{1, 1, 1, 2}}) {
    check(MaxPool2d<double>({.kernel_size = 3, .stride = 2, .padding = 1}), shape);
    check(MaxPool2d<double>({.kernel_size = 1}), shape);
    check(AvgPool2d<double>({.kernel_size = 3, .stride = 2, .padding = 1, .ceil_mode = true}), shape);
    check(AvgPool2d<double>({.kernel_size = 3, .stride = 1, .padding = 1, .count_include_pad = false}), shape);
    check(AdaptiveAvgPool2d<double>({.output_size = {2, 3}}), shape);
    check(GlobalAvgPool2d<double>(), shape);
  }
}

TYPED_TEST(Pooling, SameBitsForAnyThreads) {
  using S = TypeParam;
  for (const Shape& shape : {Shape{5, 23, 31, 19}, Shape{1, 91, 33, 5}}) {
    const Tensor<S> x = normal<S>(shape);
    expect_same_bits_for_any_threads(MaxPool2d<S>({.kernel_size = 3, .stride = 2, .padding = 1}), x);
    expect_same_bits_for_any_threads(AvgPool2d<S>({.kernel_size = 3, .stride = 1, .padding = 1}), x);
    expect_same_bits_for_any_threads(AdaptiveAvgPool2d<S>({.output_size = {7, 5}}), x);
    expect_same_bits_for_any_threads(GlobalAvgPool2d<S>(), x);
  }
}

/// Calls f(layer, its name) for each pooling layer.
template <typename S, typename F>
void for_each_pool(F&& f) {
  f(MaxPool2d<S>({.kernel_size = 2}), "MaxPool2d");
  f(AvgPool2d<S>({.kernel_size = 2}), "AvgPool2d");
  f(AdaptiveAvgPool2d<S>({.output_size = 2}), "AdaptiveAvgPool2d");
  f(GlobalAvgPool2d<S>(), "GlobalAvgPool2d");
}

TYPED_TEST(Pooling, InputAndGradientStayAsTheyWereAndNoMemoryIsAskedFor) {
  using S = TypeParam;
  for_each_pool<S>([](auto layer, const std::string& name) {
    const Tensor<S> x = normal<S>(Shape{2, 7, 5, 3});
    Random random(1);
    Tape<S> tape(random);
    const Tensor<S> y = layer.forward(x, tape), dy = normal<S>(y.shape(), 8);
    layer.backward(dy, tape);
    EXPECT_EQ(x, normal<S>(x.shape())) << name;
    EXPECT_EQ(dy, normal<S>(y.shape(), 8)) << name;
    step(layer, x);
    const auto before = memory_statistics();
    for (int i = 0; i < 3; ++i) step(layer, x);
    EXPECT_EQ(memory_statistics().system_requests, before.system_requests) << name;
    EXPECT_EQ(memory_statistics().copies, before.copies) << name;
  });
}

TEST(Pooling, NothingIsComputedThatNobodyWants) {
  for_each_pool<float>([](auto layer, const std::string& name) {
    Random random(1);
    Tape<float> tape(random, {.input_gradient = false});
    const Tensor<float> y = layer.forward(normal<float>(Shape{2, 7, 5, 3}), tape);
    EXPECT_TRUE(layer.backward(Tensor<float>(), tape).empty()) << name;
    EXPECT_TRUE(tape.empty()) << name;
  });
}

TEST(Pooling, RefusesBadInput) {
  for_each_pool<float>([](auto layer, const std::string& name) {
    expect_error([&] { layer(Tensor<float>(Shape{4, 4, 3})); }, name + ": expected an input [N, H, W, C]");
    expect_error([&] { layer(Tensor<float>(Shape{0, 4, 4, 3})); }, name + ": expected an input [N, H, W, C]");
    expect_error([&] { layer(Tensor<float>(Shape{2, 4, 4, 0})); }, "got [2, 4, 4, 0]");
    Random random(1);
    Tape<float> tape(random);
    layer.forward(Tensor<float>(Shape{2, 4, 4, 3}), tape);
    const Tensor<float> wrong(Shape{2, 4, 4, 3});
    expect_error([&] { layer.backward(wrong, tape); }, name + ": expected an output gradient of shape");
  });
  expect_error([] { MaxPool2d<float>({.kernel_size = 3})(Tensor<float>(Shape{1, 2, 4, 1})); },
               "MaxPool2d: expected a padded input no smaller than the kernel, got (2, 4) for kernel_size (3, 3)");
  const AvgPool2d<float> large({.kernel_size = 4, .stride = 2, .ceil_mode = true});
  expect_error([&] { large(Tensor<float>(Shape{1, 1, 4, 1})); },
               "AvgPool2d: expected a padded input no smaller than the kernel");
}

TEST(Pooling, RefusesBadOptions) {
  expect_error([] { MaxPool2d<float>({}); }, "MaxPool2d: expected kernel_size of at least 1, got (0, 0)");
  expect_error([] { MaxPool2d<float>({.kernel_size = 2, .stride = 0}); }, "MaxPool2d: expected stride of at least 1");
  expect_error([] { MaxPool2d<float>({.kernel_size = 2, .padding = -1}); }, "MaxPool2d: expected padding of at least");
  expect_error([] { MaxPool2d<float>({.kernel_size = 2, .dilation = 0}); }, "MaxPool2d: expected dilation of at least");
  expect_error([] { MaxPool2d<float>({.kernel_size = {4, 3}, .padding = 2}); },
               "MaxPool2d: expected padding of at most half the kernel, (4, 3), got (2, 2)");
  expect_error([] { AvgPool2d<float>({.kernel_size = 1, .padding = 1}); }, "AvgPool2d: expected padding of at most");
  expect_error([] { AvgPool2d<float>({.kernel_size = 1, .divisor_override = 0}); },
               "AvgPool2d: expected divisor_override");
  expect_error([] { AdaptiveAvgPool2d<float>({}); }, "AdaptiveAvgPool2d: expected output_size of at least 1");
}

}  // namespace
