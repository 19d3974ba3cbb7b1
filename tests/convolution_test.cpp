// Convolutions, by every algorithm, beside the plain loops.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/random.hpp>
#include <residua/kernels/convolution.hpp>

#include "every_instruction_set.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;
using namespace residua::kernels;

template <typename S>
class Convolutions : public testing::Test {
 protected:
  void SetUp() override { release_memory(); }  // little is left to poison, again and again
};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Convolutions, Scalars);

// --- every instruction set -----------------------------------------------------------------------------------------------

/// T · tile · Tᵀ in plain loops, and in double.
template <typename T, typename S>
Tensor<double> transformed(const Tensor<S>& tile, Index channels) {
  typedef double One __attribute__((vector_size(sizeof(double))));
  const Index n = T::from, m = T::to;
  Tensor<double> result(Shape{m * m, channels});
  for (Index c = 0; c < channels; ++c) {
    One half[6][6], row[6], column[6];
    for (Index j = 0; j < n; ++j) {
      for (Index i = 0; i < n; ++i) column[i] = One{static_cast<double>(tile.cdata()[(i * n + j) * channels + c])};
      One t[6];
      T::apply(column, t);
      for (Index i = 0; i < m; ++i) half[i][j] = t[i];
    }
    for (Index i = 0; i < m; ++i) {
      T::apply(half[i], row);
      for (Index j = 0; j < m; ++j) result.data()[(i * m + j) * channels + c] = row[j][0];
    }
  }
  return result;
}

/// The rows of a matrix as a transform wants to be told of them: by pointers, or by the first one and the step.
template <typename Place, typename S>
Place place_of(S* matrix, Index step, std::span<S*> pointers) {
  if constexpr (std::is_same_v<Place, winograd::Evenly<S>>) {
    return {matrix, step};
  } else {
    for (S*& row : pointers) row = std::exchange(matrix, matrix + step);
    return pointers.data();
  }
}

template <typename T, typename S>
void check_tile_transform(Random& random) {
  for (const Index channels : {1, 3, 4, 16, 21, 40}) {
    const Tensor<S> tile = normal_numbers<S>({T::from * T::from, channels}, random);
    const Tensor<double> wanted = transformed<T>(tile, channels);
    using Kernel = TileTransform<T, S>;
    for (const auto kernel : EVERY(Kernel, tile_transform, T, S)) {
      Tensor<S> got = unwritten<S>({T::to * T::to, channels});
      const S* from[T::from * T::from];
      S* to[T::to * T::to];
      kernel(place_of<typename T::template From<S>, const S>(tile.cdata(), channels, from),
             place_of<typename T::template To<S>, S>(got.data(), channels, to), channels, {}, {});
      const double error = largest(got.carray().template cast<double>() - wanted.carray());
      ASSERT_LE(error, 16 * static_cast<double>(std::numeric_limits<S>::epsilon()) * wanted.carray().abs().maxCoeff())
          << channels;
    }
  }
}

TYPED_TEST(Convolutions, WinogradTransformsOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(13);
  check_tile_transform<winograd::Input, S>(random);
  check_tile_transform<winograd::Output, S>(random);
  check_tile_transform<winograd::OutputGradient, S>(random);
  check_tile_transform<winograd::Taps, S>(random);
  check_tile_transform<winograd::TapsGradient, S>(random);
}

TYPED_TEST(Convolutions, DepthwiseOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(14);
  const Index pixels = depthwise_pixels, length = pixels * 3 + 2 * 8 * 2;
  struct Case {
    Index channels, width, step, dilation, taps;
  };
  for (const auto& [channels, width, step, dilation, taps] :
       {Case{1, 1, 2, 2, 3}, {5, 1, 2, 2, 3}, {16, 1, 2, 2, 3}, {23, 1, 1, 1, 3}, {40, 1, 2, 2, 3}, {40, 4, 1, 1, 3},
        {12, 4, 2, 1, 3}, {40, 8, 1, 1, 3}, {23, 1, 1, 1, 5}, {40, 1, 1, 1, 7}, {23, 1, 2, 2, 5}, {23, 1, 2, 1, 3},
        {40, 1, 2, 1, 3}, {23, 1, 2, 1, 5}, {40, 8, 2, 1, 3}, {23, 1, 1, 2, 3}, {40, 1, 3, 1, 3}}) {
    SCOPED_TRACE(testing::Message() << channels << " channels, groups of " << width << ", " << taps << " taps, step " << step
                                    << ", dilation " << dilation);
    const Tensor<S> x = whole_numbers<S>({length, channels}, random), dy = whole_numbers<S>({pixels, channels}, random);
    const Tensor<S> weight = whole_numbers<S>({taps * width, channels}, random), bias = whole_numbers<S>({channels}, random);
    std::vector<const S*> columns;
    for (Index p = 0; p < length; ++p) columns.push_back(x.cdata() + p * channels);
    const S* const* const three_rows[] = {columns.data(), columns.data() + 1, columns.data() + 2};
    const S* const* const from_second[] = {columns.data() + 1};

    const Tensor<S> before = whole_numbers<S>({pixels, channels}, random);
    const Index lanes = 64 / Index(sizeof(S)), room = 24 * (channels + lanes);  // a multiple of 4 taps, or 3 of 8 channels
    const auto place = [=, channels = channels, width = width](Index t, Index i, Index c) {
      return width == 1 ? t * channels + c : (c / lanes * 3 * width + t * width + i) * lanes + c % lanes;
    };
    const Tensor<S> sums = whole_numbers<S>({3, room}, random);
    Tensor<S> wanted_y = before, wanted_sums = sums;
    for (Index c = 0; c < channels; ++c) {
      for (Index p = 0; p < pixels; ++p) {
        S sum = before(p, c) + bias(c);
        for (Index t = 0; t < taps; ++t) {
          for (Index i = 0; i < width; ++i) {
            sum += x(1 + p * step + t * dilation, c / width * width + (c + i) % width) * weight(t * width + i, c);
          }
        }
        wanted_y(p, c) = std::max(sum, S(0));
        for (Index r = 0; r < 3; ++r) {
          for (Index t = 0; t < taps; ++t) {
            for (Index i = 0; i < width; ++i) {
              wanted_sums(r, place(t, i, c)) +=
                  dy(p, c / width * width + (c + i) % width) * x(r + p * step + t * dilation, c);
            }
          }
        }
      }
    }
    const S* const weights[] = {weight.cdata()};
    const auto kernels = EVERY(DepthwiseKernel<S>, depthwise_pixels, S);
    const auto taps_kernels = EVERY(DepthwiseTapsKernel<S>, depthwise_taps, S);
    for (std::size_t k = 0; k < kernels.size(); ++k) {
      if (width > 1 && (vector_size() < 64 || k + 1 < kernels.size())) continue;  // shorter vectors know no such groups
      Tensor<S> y = before;
      S* to[depthwise_pixels];
      for (Index p = 0; p < pixels; ++p) to[p] = y.data() + p * channels;
      kernels[k]({from_second, 1, taps, step, dilation, width}, weights, channels, to,
                 {.bias = bias.cdata(), .accumulate = true, .relu = true});
      ASSERT_EQ(y, wanted_y);

      Tensor<S> got = sums;
      S* const rows[] = {got.data(), got.data() + room, got.data() + 2 * room};
      taps_kernels[k]({three_rows, 3, taps, step, dilation, width}, channels, dy.cdata(), pixels, rows);
      for (Index at = 0; at < 3 * channels; ++at) {
        const Index r = at / channels, c = at % channels;
        for (Index t = 0; t < taps; ++t) {
          for (Index i = 0; i < width; ++i) ASSERT_EQ(got(r, place(t, i, c)), wanted_sums(r, place(t, i, c)));
        }
      }
    }
  }
}

// --- whole convolutions ---------------------------------------------------------------------------------------------------

/// Calls f(output position, weight position, input position) for every product that is part of a convolution.
template <typename F>
void for_each_product(const ConvolutionShape& s, F&& f) {
  const Index cg = s.C / s.groups, kg = s.K / s.groups;
  for (Index n = 0; n < s.N; ++n)
    for (Index i = 0; i < s.out(0); ++i)
      for (Index j = 0; j < s.out(1); ++j)
        for (Index k = 0; k < s.K; ++k)
          for (Index r = 0; r < s.kernel[0]; ++r)
            for (Index q = 0; q < s.kernel[1]; ++q) {
              const Index h = i * s.stride[0] - s.padding[0] + r * s.dilation[0];
              const Index w = j * s.stride[1] - s.padding[1] + q * s.dilation[1];
              if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;
              for (Index c = 0; c < cg; ++c) {
                f(((n * s.out(0) + i) * s.out(1) + j) * s.K + k, ((k * s.kernel[0] + r) * s.kernel[1] + q) * cg + c,
                  ((n * s.H + h) * s.W + w) * s.C + k / kg * cg + c);
              }
            }
}

std::string description(const ConvolutionShape& s) {
  std::ostringstream text;
  text << "input " << s.input() << ", weight " << s.weight() << ", stride " << s.stride[0] << ' ' << s.stride[1]
       << ", padding " << s.padding[0] << ' ' << s.padding[1] << ", dilation " << s.dilation[0] << ' ' << s.dilation[1]
       << ", groups " << s.groups;
  return text.str();
}

/// The three passes beside the plain loops: the sum as it is with whole numbers, and so exactly, and with others within
/// rounding; Winograd's within what ConvAlgorithm promises.
template <typename S>
void check_convolution(const ConvolutionShape& s, bool exact, Random& random) {
  SCOPED_TRACE(description(s));
  const auto draw = [&](const Shape& shape) { return exact ? whole_numbers<S>(shape, random) : normal_numbers<S>(shape, random); };
  const Tensor<S> x = draw(s.input()), weight = draw(s.weight()), dy = draw(s.output());
  const Tensor<double> zero_y(s.output()), zero_x(s.input()), zero_w(s.weight());
  Tensor<double> wanted[3] = {zero_y, zero_x, zero_w}, size[3] = {zero_y, zero_x, zero_w}, terms[3] = {zero_y, zero_x, zero_w};
  double *sums[3], *sizes[3], *counts[3];
  for (int i = 0; i < 3; ++i) {
    sums[i] = wanted[i].data();
    sizes[i] = size[i].data();
    counts[i] = terms[i].data();
  }
  for_each_product(s, [&](Index y_at, Index w_at, Index x_at) {
    const double xv = static_cast<double>(x.cdata()[x_at]), wv = static_cast<double>(weight.cdata()[w_at]);
    const double dv = static_cast<double>(dy.cdata()[y_at]);
    const double products[3] = {xv * wv, dv * wv, dv * xv};
    const Index at[3] = {y_at, x_at, w_at};
    for (int i = 0; i < 3; ++i) {
      sums[i][at[i]] += products[i];
      sizes[i][at[i]] += std::abs(products[i]);
      counts[i][at[i]] += 1;
    }
  });

  Tensor<S> got[3] = {unwritten<S>(s.output()), unwritten<S>(s.input()), unwritten<S>(s.weight())};
  convolution<S>(x.cdata(), weight.cdata(), got[0].data(), s, {});
  convolution_input_gradient(dy.cdata(), weight.cdata(), got[1].data(), s);
  convolution_weight_gradient(x.cdata(), dy.cdata(), got[2].data(), s);
  const char* const names[3] = {"forward", "input gradient", "weight gradient"};
  for (int i = 0; i < 3; ++i) {
    const auto error = (got[i].carray().template cast<double>() - wanted[i].carray()).abs();
    const double epsilon = static_cast<double>(std::numeric_limits<S>::epsilon());
    if (s.algorithm == ConvAlgorithm::winograd) {
      ASSERT_TRUE((error <= 168 * epsilon * wanted[i].carray().abs().maxCoeff()).all()) << names[i];  // 2e-5 in float
      continue;
    }
    ASSERT_TRUE(exact ? (error == 0).all() : (error <= (2 * terms[i].carray() + 2) * size[i].carray() * epsilon).all())
        << names[i];
  }
}

TYPED_TEST(Convolutions, OfManyShapes) {
  Random random(7);
  int checked = 0;
  for (int trial = 0; trial < 900; ++trial) {
    ConvolutionShape s{.N = 1 + random.below(3), .H = 1 + random.below(10), .W = 1 + random.below(10), .C = 1, .K = 1,
                       .kernel = {1 + random.below(4), 1 + random.below(4)},
                       .stride = {1 + random.below(3), 1 + random.below(3)},
                       .padding = {random.below(6), random.below(6)},
                       .dilation = {1 + random.below(3), 1 + random.below(3)}, .groups = 1,
                       .algorithm = ConvAlgorithm::direct};
    if (random.chance(0.5)) s.dilation[0] = s.dilation[1] = 1;
    if (random.chance(0.4)) s.groups = 1 + random.below(trial % 3 == 0 ? 40 : 4);
    const bool depthwise = random.chance(0.2);
    s.C = s.groups * (depthwise ? 1 : 1 + random.below(6));
    s.K = s.groups * (1 + random.below(random.chance(0.1) ? 70 : 6));
    if (depthwise && random.chance(0.7)) s.K = s.C;
    const auto fits = [&](int axis, Index in) { return in + 2 * s.padding[axis] > s.dilation[axis] * (s.kernel[axis] - 1); };
    if (!fits(0, s.H) || !fits(1, s.W)) continue;
    ++checked;
    check_convolution<TypeParam>(s, trial % 4 != 0, random);
    if (this->HasFatalFailure()) return;
  }
  EXPECT_GT(checked, 600);
}

TYPED_TEST(Convolutions, AtTheEdges) {
  Random random(8);
  const ConvolutionShape shapes[] = {
      {1, 1, 1, 1, 1, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},            // a single product
      {2, 5, 7, 3, 4, {5, 7}, {1, 1}, {0, 0}, {1, 1}, 1},            // the kernel is the image
      {2, 3, 3, 2, 3, {3, 3}, {1, 1}, {7, 5}, {1, 1}, 1},            // more padding than kernel and image
      {2, 9, 8, 3, 5, {1, 1}, {3, 3}, {0, 0}, {1, 1}, 1},            // pixels that no tap reaches
      {1, 9, 9, 2, 2, {2, 2}, {3, 3}, {1, 1}, {1, 1}, 1},            // likewise
      {1, 12, 11, 2, 3, {3, 2}, {2, 3}, {3, 2}, {3, 4}, 1},          // stride and dilation share no factor, or do
      {2, 6, 6, 8, 8, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 8},            // depthwise
      {2, 29, 23, 40, 40, {7, 7}, {1, 1}, {3, 3}, {1, 1}, 40},       // likewise, larger
      {2, 9, 21, 37, 37, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 37},        // likewise, of parts of vectors
      {2, 9, 21, 37, 37, {5, 5}, {1, 1}, {2, 2}, {1, 1}, 37},        // likewise, with five taps in a row
      {2, 9, 37, 37, 37, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 37},        // likewise, with stride
      {3, 15, 16, 20, 20, {3, 5}, {2, 3}, {1, 4}, {2, 1}, 20},       // likewise, with all options
      {2, 9, 21, 40, 40, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 10},        // groups of 4 channels
      {2, 9, 37, 40, 40, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 10},        // likewise, with stride
      {3, 15, 16, 32, 32, {3, 5}, {2, 3}, {1, 4}, {2, 1}, 8},        // likewise, with all options
      {2, 21, 9, 56, 56, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 7},         // groups of 8
      {3, 9, 37, 40, 40, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 5},         // likewise, with stride
      {2, 15, 16, 24, 24, {4, 3}, {3, 2}, {2, 4}, {2, 1}, 3},        // likewise, with all options
      {9, 25, 16, 32, 32, {4, 3}, {2, 2}, {1, 2}, {2, 1}, 8},        // groups of 4, many parts of the weight gradient
      {2, 9, 9, 24, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 2},          // groups of parts of vectors, with a border
      {2, 6, 6, 4, 12, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 4},           // depthwise with a multiplier
      {1, 4, 4, 3, 3, {1, 1}, {1, 1}, {0, 0}, {1 << 30, 1 << 30}, 3},  // the dilation of a single tap means nothing
      {1, 1, 40, 3, 4, {1, 5}, {1, 2}, {0, 2}, {1, 1}, 1},           // one row
      {1, 40, 1, 3, 4, {5, 1}, {2, 1}, {2, 0}, {1, 1}, 1},           // one column
      {3, 33, 31, 20, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},        // several units of work
      {2, 20, 31, 24, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 2},        // strips at the edges are copied, of groups
      {1, 2, 60, 12, 5, {5, 3}, {1, 3}, {4, 2}, {1, 2}, 1},          // likewise, and the kernel is higher than the image
      {2, 9, 30, 70, 3, {3, 3}, {1, 2}, {1, 1}, {1, 1}, 1},          // likewise, with few outputs
      {1, 9, 40, 20, 20, {1, 1}, {1, 1}, {1, 2}, {1, 1}, 1},         // a border that only zeros are read from
      {2, 5, 5, 130, 70, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},         // taps in several rounds
      {2, 5, 5, 800, 40, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 2},         // likewise, of groups
      {2, 38, 42, 3, 33, {7, 7}, {2, 2}, {3, 3}, {1, 1}, 1},         // a network's first layer
      {2, 70, 66, 3, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},         // likewise, in larger units of work
      {2, 12, 10, 12, 20, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1},        // gradients of two columns at once, in two vectors
      {3, 9, 8, 16, 80, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 2},          // groups of many channels
      {3, 60, 60, 2, 3, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},          // several units of work a partial sum
      {3, 60, 60, 2, 33, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},         // likewise, of many tiles
      {40, 4, 4, 16, 16, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 2},         // several images a unit
      {1, 2, 2, 600, 40, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},         // a deep product
      {2, 3, 3, 300, 300, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},        // large weights
      {3, 12, 12, 90, 90, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},        // likewise, and several units of work
      {2, 9, 8, 64, 3, {3, 3}, {2, 1}, {1, 1}, {1, 1}, 1},           // results of few channels
      {2, 9, 8, 70, 4, {3, 3}, {1, 1}, {1, 1}, {1, 2}, 1},           // likewise, taps apart
      {2, 12, 11, 3, 64, {5, 5}, {2, 2}, {2, 2}, {1, 1}, 1},         // images of few channels
      {1, 9, 9, 2, 64, {1, 1}, {3, 3}, {0, 0}, {1, 1}, 1},           // likewise, pixels that no tap reaches
  };
  for (ConvolutionShape s : shapes) {
    s.algorithm = ConvAlgorithm::direct;
    for (bool exact : {true, false}) {
      check_convolution<TypeParam>(s, exact, random);
      if (this->HasFatalFailure()) return;
    }
  }
}

TYPED_TEST(Convolutions, OfManyShapesByWinograd) {
  Random random(12);
  const auto check = [&](Index N, Index H, Index W, Index C, Index K, Index padding_h, Index padding_w, Index groups = 1) {
    const ConvolutionShape s{N, H, W, groups * C, groups * K, {3, 3}, {1, 1}, {padding_h, padding_w}, {1, 1}, groups,
                             ConvAlgorithm::winograd};
    check_convolution<TypeParam>(s, false, random);
  };
  for (int trial = 0; trial < 150 && !this->HasFatalFailure(); ++trial) {
    const Index padding_h = random.below(4), padding_w = random.below(4);
    const auto channels = [&] { return 1 + random.below(trial % 5 == 0 ? 70 : 20); };
    check(1 + random.below(3), std::max<Index>(1, 3 - 2 * padding_h) + random.below(10),
          std::max<Index>(1, 3 - 2 * padding_w) + random.below(10), channels(), channels(), padding_h, padding_w);
  }
  check(9, 33, 31, 20, 20, 1, 1);   // several sums of the weight gradient
  check(3, 33, 31, 20, 20, 1, 1);   // tiles in several blocks and rounds of the weight gradient
  check(27, 31, 32, 3, 2, 1, 0);    // in blocks of several rounds, and each round asks for the next one's memory
  check(2, 41, 40, 96, 100, 1, 0);  // one sum, in several rounds
  check(1, 9, 10, 200, 180, 1, 1);  // all tiles at once, some of the sums at a time
  check(2, 21, 20, 40, 36, 1, 1, 2);
  check(1, 33, 20, 17, 20, 0, 1, 3);
  check(3, 9, 10, 4, 4, 1, 1, 32);  // groups are taken together
  check(2, 9, 10, 1, 2, 1, 1, 12);
  check(1, 9, 10, 1, 1, 1, 1, 5);
}

TYPED_TEST(Convolutions, WinogradIsChosenWhereItIsFaster) {
  ConvolutionShape s{8, 14, 14, 32, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1};
  EXPECT_TRUE(winograd_suits(s, forward_tiles(s)));
  const auto without = [&](auto&& change) {
    ConvolutionShape other = s;
    change(other);
    return !winograd_suits(other, forward_tiles(other));
  };
  EXPECT_TRUE(without([](auto& o) { o.stride[0] = 2; }));
  EXPECT_TRUE(without([](auto& o) { o.kernel[1] = 1; }));
  EXPECT_TRUE(without([](auto& o) { o.dilation[1] = 2; }));
  EXPECT_TRUE(without([](auto& o) { o.groups = 4; }));
  EXPECT_TRUE(without([](auto& o) { o.C = 3; }));
  EXPECT_TRUE(without([](auto& o) { o.N = 1; }));
  EXPECT_TRUE(without([](auto& o) { o.algorithm = ConvAlgorithm::direct; }));
}

TYPED_TEST(Convolutions, EndAsTheEpilogueSays) {
  using S = TypeParam;
  Random random(9);
  const ConvolutionShape shapes[] = {{2, 6, 5, 6, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {2, 6, 5, 6, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 3},
                                     {2, 6, 5, 24, 24, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 3},
                                     {2, 6, 5, 19, 19, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 19},
                                     {2, 6, 5, 70, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {2, 6, 5, 96, 90, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};  // tiles too few for Winograd
  for (const ConvolutionShape& s : shapes) {
    const Tensor<S> x = whole_numbers<S>(s.input(), random), weight = whole_numbers<S>(s.weight(), random);
    const Tensor<S> bias = whole_numbers<S>({s.K}, random), before = whole_numbers<S>(s.output(), random);
    Tensor<S> plain(s.output(), uninitialized), y = before;
    const ConvolutionWeights<S> packed(weight.cdata(), s);
    packed.convolve(x.cdata(), plain.data(), s, {});
    packed.convolve(x.cdata(), y.data(), s, {.bias = bias.cdata(), .accumulate = true, .relu = true});
    EXPECT_EQ(y, Tensor<S>::from(((plain.cmatrix() + before.cmatrix()).rowwise() + bias.carray().matrix().transpose())
                                     .cwiseMax(S(0))).reshaped(s.output()));
  }

  ConvolutionShape s{2, 6, 5, 6, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, ConvAlgorithm::winograd};
  const Tensor<S> x = normal_numbers<S>(s.input(), random), weight = normal_numbers<S>(s.weight(), random);
  const Tensor<S> bias = normal_numbers<S>({s.K}, random), before = normal_numbers<S>(s.output(), random);
  Tensor<S> wanted = before, y = before;
  const ConvolutionWeights<S> transformed(weight.cdata(), s);
  transformed.convolve(x.cdata(), y.data(), s, {.bias = bias.cdata(), .accumulate = true, .relu = true});
  s.algorithm = ConvAlgorithm::direct;
  convolution<S>(x.cdata(), weight.cdata(), wanted.data(), s, {.bias = bias.cdata(), .accumulate = true, .relu = true});
  const S most = wanted.carray().maxCoeff();
  EXPECT_LE(largest(y.carray() - wanted.carray()), 168 * std::numeric_limits<S>::epsilon() * most);
}

TYPED_TEST(Convolutions, WeightsAreScaledByOutputChannel) {
  using S = TypeParam;
  Random random(15);
  const ConvolutionShape shapes[] = {{1, 6, 5, 17, 18, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, ConvAlgorithm::winograd},
                                     {1, 16, 15, 40, 60, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 2},
                                     {1, 6, 5, 96, 90, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {1, 6, 5, 64, 4, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},
                                     {1, 20, 20, 96, 90, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {1, 6, 5, 18, 18, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 18},
                                     {1, 6, 5, 12, 12, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 3},
                                     {1, 6, 5, 6, 18, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 3}};
  for (const ConvolutionShape& s : shapes) {
    const Tensor<S> x = normal_numbers<S>(s.input(), random), weight = normal_numbers<S>(s.weight(), random);
    Tensor<S> factor(Shape{s.K}), plain(s.output()), scaled(s.output());
    for (Index k = 0; k < s.K; ++k) factor(k) = std::ldexp(S(1), static_cast<int>(k % 5) - 2);  // exact
    ConvolutionWeights<S> weights(weight.cdata(), s);
    weights.convolve(x.cdata(), plain.data(), s, {});
    weights.scale(factor.cdata());
    weights.convolve(x.cdata(), scaled.data(), s, {});
    plain.matrix() = plain.cmatrix() * factor.carray().matrix().asDiagonal();
    EXPECT_EQ(scaled, plain) << description(s);
  }
}

TYPED_TEST(Convolutions, GiveTheSameBitsForAnyNumberOfThreads) {
  using S = TypeParam;
  Random random(10);
  const int before = num_threads();
  const ConvolutionShape shapes[] = {{3, 33, 31, 20, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {40, 8, 8, 16, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 4},
                                     {4, 14, 14, 64, 64, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},
                                     {9, 30, 31, 20, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {4, 14, 14, 96, 128, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {4, 14, 14, 96, 128, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 1},
                                     {2, 14, 14, 256, 288, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 2},
                                     {4, 13, 14, 64, 1100, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},
                                     {2, 20, 20, 1500, 8, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},
                                     {4, 15, 16, 32, 32, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 4},
                                     {1, 9, 10, 200, 180, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, ConvAlgorithm::winograd},
                                     {2, 17, 18, 128, 128, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 4}};
  const int counts[] = {1, 2, 3, 4, 5, 6, 12, 16};
  for (const ConvolutionShape& s : shapes) {
    const Tensor<S> x = normal_numbers<S>(s.input(), random), weight = normal_numbers<S>(s.weight(), random);
    const Tensor<S> dy = normal_numbers<S>(s.output(), random);
    Tensor<S> y[8], dx[8], dweight[8];
    for (std::size_t i = 0; i < std::size(counts); ++i) {
      const int threads = counts[i];
      set_num_threads(threads);
      y[i] = unwritten<S>(s.output());
      dx[i] = unwritten<S>(s.input());
      dweight[i] = unwritten<S>(s.weight());
      convolution<S>(x.cdata(), weight.cdata(), y[i].data(), s, {});
      convolution_input_gradient(dy.cdata(), weight.cdata(), dx[i].data(), s);
      convolution_weight_gradient(x.cdata(), dy.cdata(), dweight[i].data(), s);
      EXPECT_TRUE(same_bits(y[i], y[0])) << threads;
      EXPECT_TRUE(same_bits(dx[i], dx[0])) << threads;
      EXPECT_TRUE(same_bits(dweight[i], dweight[0])) << threads;
    }
  }
  set_num_threads(before);
}

TYPED_TEST(Convolutions, WeightGradientOfNoImagesIsZero) {
  using S = TypeParam;
  for (const Index groups : {1, 3, 6, 24}) {
    for (const ConvAlgorithm algorithm : {ConvAlgorithm::direct, ConvAlgorithm::winograd}) {
      const ConvolutionShape s{0, 9, 10, 24, 24, {3, 3}, {1, 1}, {1, 1}, {1, 1}, groups, algorithm};
      const Tensor<S> x(s.input()), dy(s.output());
      Tensor<S> dweight = unwritten<S>(s.weight());
      convolution_weight_gradient(x.cdata(), dy.cdata(), dweight.data(), s);
      EXPECT_TRUE(same_bits(dweight, Tensor<S>(s.weight()))) << groups;
    }
  }
}

// They have been made for as many threads as there were.
TYPED_TEST(Convolutions, ThreadsThatJoinLaterHaveNoTransformedTaps) {
  using S = TypeParam;
  Random random(13);
  const int before = num_threads();
  const ConvolutionShape s{9, 30, 31, 20, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1};
  const Tensor<S> weight = normal_numbers<S>(s.weight(), random);
  set_num_threads(2);
  WinogradWeights<S> weights(winograd_taps(weight.cdata(), s, false), 1, 100);
  set_num_threads(4);
  parallel_for(40, [&](Index) {
    EXPECT_EQ(weights.mine() != nullptr, detail::parallel_place().number < 2);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // for others to join in
  });
  set_num_threads(before);
}

}  // namespace
