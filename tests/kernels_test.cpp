// The kernels beside loops that say the same in the plainest way.
//
// Sums of whole numbers are exact in any order, so with such inputs the results must be equal to the last bit. With
// other inputs they must be as near as the rounding of one sum allows.
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/random.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/kernels/convolution.hpp>
#include <residua/kernels/vector_math.hpp>
#include <residua/kernels/matmul.hpp>

#include "tensors.hpp"

namespace {

using namespace residua;
using namespace residua::kernels;

template <typename S>
class Kernels : public testing::Test {
 protected:
  void SetUp() override { release_memory(); }  // little is left to poison, again and again
};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Kernels, Scalars);

template <typename S>
Tensor<S> whole_numbers(const Shape& shape, Random& random) {
  Tensor<S> t(shape);
  for (S& x : std::span(t.data(), static_cast<std::size_t>(t.size()))) x = static_cast<S>(random.below(9) - 4);
  return t;
}

template <typename S>
Tensor<S> normal_numbers(const Shape& shape, Random& random) {
  Tensor<S> t(shape);
  for (S& x : std::span(t.data(), static_cast<std::size_t>(t.size()))) x = static_cast<S>(random.normal());
  return t;
}

/// Whatever is not written will show.
template <typename S>
Tensor<S> unwritten(const Shape& shape) {
  detail::MemoryCache::instance().poison();
  return Tensor<S>(shape, std::numeric_limits<S>::quiet_NaN());
}

// --- the innermost loops, every instruction set --------------------------------------------------------------------------

template <typename S>
std::vector<std::pair<std::string, MicroKernels<S>>> instruction_sets() {
  std::vector<std::pair<std::string, MicroKernels<S>>> sets{{"baseline", micro_kernels_baseline<S>}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) sets.emplace_back("avx2", micro_kernels_avx2<S>);
  if (__builtin_cpu_supports("avx512f")) sets.emplace_back("avx512", micro_kernels_avx512<S>);
#endif
  return sets;
}

TYPED_TEST(Kernels, RowsOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(1);
  for (const auto& [name, set] : instruction_sets<S>()) {
    for (int trial = 0; trial < 300; ++trial) {
      const Index vectors = 1 + random.below(3), span = vectors * set.lanes, columns = span - random.below(set.lanes);
      const Index tap_count = random.below(4), depth = 1 + random.below(7), row = 40;
      SCOPED_TRACE(name + ", " + std::to_string(columns) + " of " + std::to_string(span) + " columns");
      const Tensor<S> a = whole_numbers<S>({set.tile_rows, row}, random);
      const Tensor<S> b = whole_numbers<S>({tap_count * depth, span}, random);
      const Tensor<S> bias = whole_numbers<S>({span}, random);
      const Epilogue<S> end{random.chance(0.5) ? bias.cdata() : nullptr, random.chance(0.5), random.chance(0.5)};
      std::vector<Index> taps;
      for (Index t = 0; t < tap_count; ++t) taps.push_back(random.below(row - depth + 1));

      Tensor<S> c = whole_numbers<S>({set.tile_rows, span + 1}, random);
      Tensor<S> wanted = c;
      for (Index i = 0; i < set.tile_rows; ++i) {
        for (Index v = 0; v < columns; ++v) {
          S sum = end.accumulate ? wanted(i, v) : S(0);
          if (end.bias != nullptr) sum += bias(v);
          for (Index t = 0; t < tap_count; ++t) {
            for (Index k = 0; k < depth; ++k) sum += a(i, taps[static_cast<std::size_t>(t)] + k) * b(t * depth + k, v);
          }
          wanted(i, v) = end.relu ? std::max(sum, S(0)) : sum;
        }
      }
      std::vector<const S*> a_rows;
      std::vector<S*> c_rows;
      for (Index i = 0; i < set.tile_rows; ++i) {
        a_rows.push_back(a.cdata() + i * row);
        c_rows.push_back(c.data() + i * (span + 1));
      }
      set.rows[vectors - 1](a_rows.data(), taps.data(), tap_count, depth, b.cdata(), c_rows.data(), columns, end);
      ASSERT_EQ(c, wanted);  // beyond the last column too
    }
  }
}

TYPED_TEST(Kernels, OuterOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(2);
  for (const auto& [name, set] : instruction_sets<S>()) {
    for (int trial = 0; trial < 300; ++trial) {
      const Index vectors = 1 + random.below(3), span = vectors * set.lanes, columns = span - random.below(set.lanes);
      const Index rows = 1 + random.below(set.tile_rows), segment_count = random.below(4), most = 5;
      const Index lda = rows + random.below(3), ldb = columns + random.below(3), ldc = columns + 1;
      SCOPED_TRACE(name + ", " + std::to_string(rows) + " rows, " + std::to_string(columns) + " columns");
      const Tensor<S> a = whole_numbers<S>({segment_count, most, lda}, random);
      const Tensor<S> b = whole_numbers<S>({segment_count, most, ldb}, random);
      const bool accumulate = random.chance(0.5);
      Tensor<S> c = whole_numbers<S>({rows, ldc}, random);
      Tensor<S> wanted = c;
      if (!accumulate) wanted.matrix().leftCols(columns).setZero();
      std::vector<Segment<S>> segments;
      for (Index s = 0; s < segment_count; ++s) {
        const Index count = random.below(most + 1);
        segments.push_back({a.cdata() + s * most * lda, b.cdata() + s * most * ldb, count});
        for (Index p = 0; p < count; ++p) {
          for (Index i = 0; i < rows; ++i) {
            for (Index v = 0; v < columns; ++v) wanted(i, v) += a(s, p, i) * b(s, p, v);
          }
        }
      }
      set.outer[vectors - 1](segments.data(), segment_count, lda, ldb, c.data(), ldc, rows, columns, accumulate);
      ASSERT_EQ(c, wanted);
    }
  }
}

TYPED_TEST(Kernels, NaNPassesThroughTheFusedReLU) {
  using S = TypeParam;
  for (const auto& [name, set] : instruction_sets<S>()) {
    const Tensor<S> a(Shape{set.tile_rows, 1}, std::numeric_limits<S>::quiet_NaN()), b(Shape{set.lanes}, S(1));
    Tensor<S> c(Shape{set.tile_rows, set.lanes});
    std::vector<const S*> a_rows(static_cast<std::size_t>(set.tile_rows), a.cdata());
    std::vector<S*> c_rows;
    for (Index i = 0; i < set.tile_rows; ++i) c_rows.push_back(c.data() + i * set.lanes);
    const Index tap = 0;
    set.rows[0](a_rows.data(), &tap, 1, 1, b.cdata(), c_rows.data(), set.lanes, {.relu = true});
    EXPECT_TRUE(c.carray().isNaN().all()) << name;
  }
}

TYPED_TEST(Kernels, PanelsCoverEveryColumnOnce) {
  for (Index columns = 1; columns < 300; ++columns) {
    const Panels<TypeParam> panels(columns);
    Index next = 0;
    for (Index p = 0; p < panels.count(); ++p) {
      ASSERT_EQ(panels.first_column(p), next);
      ASSERT_GE(panels.width_of(p), 1);
      ASSERT_LE(panels.width_of(p), 3);
      next += panels.columns_of(p);
    }
    ASSERT_EQ(next, columns);
  }
}

// --- matrix products -----------------------------------------------------------------------------------------------------

/// c = a · b, and for each element how far rounding may carry it away.
template <typename S>
std::pair<Tensor<S>, Tensor<S>> naive_matmul(const Tensor<S>& a, const Tensor<S>& b) {
  const Index M = a.dim(0), K = a.dim(1), N = b.dim(1);
  Tensor<S> c(Shape{M, N}), bound(Shape{M, N});
  for (Index i = 0; i < M; ++i) {
    for (Index j = 0; j < N; ++j) {
      double sum = 0, absolute = 0;
      for (Index k = 0; k < K; ++k) {
        const double product = static_cast<double>(a.cmatrix()(i, k)) * static_cast<double>(b.cmatrix()(k, j));
        sum += product;
        absolute += std::abs(product);
      }
      c.data()[i * N + j] = static_cast<S>(sum);
      bound.data()[i * N + j] = static_cast<S>(static_cast<double>(2 * K + 2) * absolute) * std::numeric_limits<S>::epsilon();
    }
  }
  return {c, bound};
}

template <typename S>
Tensor<S> transposed(const Tensor<S>& t) {
  return Tensor<S>::from(t.cmatrix().transpose());
}

template <typename S>
void check_products(Index M, Index K, Index N, bool exact, Random& random) {
  SCOPED_TRACE(std::to_string(M) + " x " + std::to_string(K) + " x " + std::to_string(N));
  const auto draw = [&](const Shape& shape) { return exact ? whole_numbers<S>(shape, random) : normal_numbers<S>(shape, random); };
  const Tensor<S> a = draw({M, K}), b = draw({K, N});
  const auto [wanted, bound] = naive_matmul(a, b);
  const auto check = [&, &w = wanted, &e = bound](const Tensor<S>& c, const char* name) {
    ASSERT_TRUE(exact ? c == w : bool(((c.carray() - w.carray()).abs() <= e.carray()).all())) << name;
  };
  Tensor<S> c = unwritten<S>({M, N});
  matmul<S>(a.cmatrix(), b.cmatrix(), c.matrix());
  check(c, "matmul");
  c = unwritten<S>({M, N});
  matmul_bt<S>(a.cmatrix(), transposed(b).cmatrix(), c.matrix());
  check(c, "matmul_bt");
  c = Tensor<S>(Shape{M, N});
  matmul_at<S>(transposed(a).cmatrix(), b.cmatrix(), c.matrix());
  check(c, "matmul_at");
}

TYPED_TEST(Kernels, ProductsOfManySizes) {
  Random random(3);
  for (int trial = 0; trial < 400; ++trial) {
    check_products<TypeParam>(1 + random.below(40), 1 + random.below(40), 1 + random.below(110), trial % 2 == 0, random);
  }
}

TYPED_TEST(Kernels, ProductsTakenInSeveralRounds) {
  Random random(4);
  for (bool exact : {true, false}) {
    check_products<TypeParam>(3, 5000, 70, exact, random);   // deeper than a slice of a panel
    check_products<TypeParam>(600, 300, 33, exact, random);  // several blocks of rows
    check_products<TypeParam>(1, 700, 1, exact, random);
    check_products<TypeParam>(700, 1, 700, exact, random);
  }
}

TYPED_TEST(Kernels, ProductOverNoTermsIsZero) {
  using S = TypeParam;
  const Tensor<S> a(Shape{3, 0}), b(Shape{0, 5}), bias(Shape{5}, S(2));
  Tensor<S> c = unwritten<S>({3, 5});
  matmul<S>(a.cmatrix(), b.cmatrix(), c.matrix(), {.bias = bias.cdata()});
  EXPECT_EQ(c, Tensor<S>(Shape{3, 5}, S(2)));
}

TYPED_TEST(Kernels, ProductsEndAsTheEpilogueSays) {
  using S = TypeParam;
  Random random(5);
  for (int trial = 0; trial < 60; ++trial) {
    const Index M = 1 + random.below(20), K = trial % 10 == 0 ? 3000 : 1 + random.below(20), N = 1 + random.below(90);
    const Tensor<S> a = whole_numbers<S>({M, K}, random), b = whole_numbers<S>({K, N}, random);
    const Tensor<S> bias = whole_numbers<S>({N}, random);
    Tensor<S> c = whole_numbers<S>({M, N}, random);
    Tensor<S> wanted = Tensor<S>::from(((naive_matmul(a, b).first.cmatrix() + c.cmatrix()).rowwise() +
                                        bias.carray().matrix().transpose()).cwiseMax(S(0)));
    matmul<S>(a.cmatrix(), b.cmatrix(), c.matrix(), {.bias = bias.cdata(), .accumulate = true, .relu = true});
    ASSERT_EQ(c, wanted);
  }
}

TYPED_TEST(Kernels, TransposedProductIsAdded) {
  using S = TypeParam;
  Random random(6);
  const Tensor<S> a = whole_numbers<S>({17, 9}, random), b = whole_numbers<S>({17, 21}, random);
  const Tensor<S> before = whole_numbers<S>({9, 21}, random);
  Tensor<S> c = before;
  matmul_at<S>(a.cmatrix(), b.cmatrix(), c.matrix());
  EXPECT_EQ(c, detail::sum(before, naive_matmul(transposed(a), b).first));
}

// --- convolutions --------------------------------------------------------------------------------------------------------

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
      ASSERT_LE(error.maxCoeff(), 168 * epsilon * wanted[i].carray().abs().maxCoeff()) << names[i];  // 2e-5 in float
      continue;
    }
    ASSERT_TRUE(exact ? (error == 0).all() : (error <= (2 * terms[i].carray() + 2) * size[i].carray() * epsilon).all())
        << names[i];
  }
}

TYPED_TEST(Kernels, ConvolutionsOfManyShapes) {
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

TYPED_TEST(Kernels, ConvolutionsAtTheEdges) {
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
      {3, 15, 16, 20, 20, {3, 5}, {2, 3}, {1, 4}, {2, 1}, 20},       // likewise, with all options
      {2, 6, 6, 4, 12, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 4},           // depthwise with a multiplier
      {1, 1, 40, 3, 4, {1, 5}, {1, 2}, {0, 2}, {1, 1}, 1},           // one row
      {1, 40, 1, 3, 4, {5, 1}, {2, 1}, {2, 0}, {1, 1}, 1},           // one column
      {3, 33, 31, 20, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},        // several units of work
      {2, 5, 5, 130, 70, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},         // taps in several rounds
      {40, 4, 4, 16, 16, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 2},         // several images a unit
      {1, 2, 2, 600, 40, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},         // a deep product
      {2, 3, 3, 300, 300, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},        // large weights
  };
  for (ConvolutionShape s : shapes) {
    s.algorithm = ConvAlgorithm::direct;
    for (bool exact : {true, false}) {
      check_convolution<TypeParam>(s, exact, random);
      if (this->HasFatalFailure()) return;
    }
  }
}

TYPED_TEST(Kernels, WinogradConvolutionsOfManyShapes) {
  Random random(12);
  const auto check = [&](Index N, Index H, Index W, Index C, Index K, Index padding_h, Index padding_w) {
    const ConvolutionShape s{N, H, W, C, K, {3, 3}, {1, 1}, {padding_h, padding_w}, {1, 1}, 1, ConvAlgorithm::winograd};
    check_convolution<TypeParam>(s, false, random);
  };
  for (int trial = 0; trial < 150 && !this->HasFatalFailure(); ++trial) {
    const Index padding_h = random.below(4), padding_w = random.below(4);
    const auto channels = [&] { return 1 + random.below(trial % 5 == 0 ? 70 : 20); };
    check(1 + random.below(3), std::max<Index>(1, 3 - 2 * padding_h) + random.below(10),
          std::max<Index>(1, 3 - 2 * padding_w) + random.below(10), channels(), channels(), padding_h, padding_w);
  }
  check(3, 33, 31, 20, 20, 1, 1);   // tiles in several blocks, and in several sums of the weight gradient
  check(2, 41, 40, 96, 100, 1, 0);  // one sum, in several rounds
}

TYPED_TEST(Kernels, WinogradIsChosenWhereItIsFaster) {
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
  EXPECT_TRUE(without([](auto& o) { o.groups = 2; }));
  EXPECT_TRUE(without([](auto& o) { o.C = 3; }));
  EXPECT_TRUE(without([](auto& o) { o.N = 1; }));
  EXPECT_TRUE(without([](auto& o) { o.algorithm = ConvAlgorithm::direct; }));
}

TYPED_TEST(Kernels, ConvolutionsEndAsTheEpilogueSays) {
  using S = TypeParam;
  Random random(9);
  for (const Index groups : {1, 3}) {
    const ConvolutionShape s{2, 6, 5, 6, 9, {3, 3}, {1, 1}, {1, 1}, {1, 1}, groups};
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
  EXPECT_LE((y.carray() - wanted.carray()).abs().maxCoeff(), S(168) * std::numeric_limits<S>::epsilon() * wanted.carray().maxCoeff());
}

TYPED_TEST(Kernels, ConvolutionsGiveTheSameBitsForAnyNumberOfThreads) {
  using S = TypeParam;
  Random random(10);
  const int before = num_threads();
  const ConvolutionShape shapes[] = {{3, 33, 31, 20, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {40, 8, 8, 16, 24, {3, 3}, {2, 2}, {1, 1}, {1, 1}, 4},
                                     {4, 14, 14, 64, 64, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},
                                     {9, 30, 31, 20, 20, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
                                     {4, 14, 14, 96, 128, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1}};
  for (const ConvolutionShape& s : shapes) {
    const Tensor<S> x = normal_numbers<S>(s.input(), random), weight = normal_numbers<S>(s.weight(), random);
    const Tensor<S> dy = normal_numbers<S>(s.output(), random);
    Tensor<S> y[3], dx[3], dweight[3];
    for (int threads = 1; threads <= 3; ++threads) {
      set_num_threads(threads);
      const int i = threads - 1;
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

// --- columns and elements ------------------------------------------------------------------------------------------------

TYPED_TEST(Kernels, ColumnSumsAndGradientsOfManySizes) {
  using S = TypeParam;
  Random random(11);
  for (int trial = 0; trial < 150; ++trial) {
    const Index rows = trial % 10 == 0 ? 20000 : 1 + random.below(600), C = 1 + random.below(trial % 3 == 0 ? 400 : 12);
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(C));
    const Tensor<S> x = whole_numbers<S>({rows, C}, random), dy = whole_numbers<S>({rows, C}, random);
    const Tensor<S> mean = whole_numbers<S>({C}, random);
    const Tensor<S> sums = column_sums(x.cdata(), rows, C);
    ASSERT_TRUE((sums.cmatrix().row(0) - x.cmatrix().colwise().sum()).isZero(0));
    const Tensor<S> gradients = column_gradients(dy.cdata(), x.cdata(), mean.cdata(), rows, C);
    ASSERT_TRUE((gradients.cmatrix().row(0) - dy.cmatrix().colwise().sum()).isZero(0));
    const Matrix<S> centred = x.cmatrix().rowwise() - mean.carray().matrix().transpose();
    ASSERT_TRUE((gradients.cmatrix().row(1) - dy.cmatrix().cwiseProduct(centred).colwise().sum()).isZero(0));
  }
}

TYPED_TEST(Kernels, ColumnMomentsHoldUnderALargeMean) {
  using S = TypeParam;
  Random random(12);
  for (const auto& [rows, C] : {std::pair<Index, Index>{1, 3}, {2, 1}, {7, 5}, {999, 3}, {3000, 300}, {70000, 7}}) {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(C));
    Tensor<S> x = normal_numbers<S>({rows, C}, random);
    x.array() += S(1000);
    const Tensor<S> moments = column_moments(x.cdata(), rows, C);
    const auto exact = x.cmatrix().template cast<long double>();
    for (Index c = 0; c < C; ++c) {
      const long double mean = exact.col(c).mean(), squares = (exact.col(c).array() - mean).square().sum();
      const double epsilon = static_cast<double>(std::numeric_limits<S>::epsilon());
      // A chain of at most 128 additions in a block, and each sees a value of about 1000.
      EXPECT_NEAR(static_cast<double>(moments(0, c)), static_cast<double>(mean), 128 * epsilon * 1000);
      EXPECT_NEAR(static_cast<double>(moments(1, c)), static_cast<double>(squares), 500 * epsilon * static_cast<double>(squares));
    }
  }
}

TYPED_TEST(Kernels, MapReachesEveryElementOnce) {
  using S = TypeParam;
  for (const Index size : {Index{0}, Index{1}, Index{32767}, Index{32768}, Index{32769}, Index{100001}}) {
    Tensor<S> x(Shape{size}, S(1));
    kernels::map(size, x.data(), [](auto v) { return v + S(1); }, x.cdata());
    EXPECT_TRUE((x.carray() == S(2)).all());
    kernels::map(size, x.data(), [](auto a, auto b) { return a * b; }, x.cdata(), x.cdata());
    EXPECT_TRUE((x.carray() == S(4)).all());
  }
}

}  // namespace
