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
#include <residua/kernels/direct_weight_gradient.hpp>
#include <residua/kernels/vector_math.hpp>

#include "every_instruction_set.hpp"
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

// --- the innermost loops, every instruction set --------------------------------------------------------------------------

TYPED_TEST(Kernels, RowsOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(1);
  for (const MicroKernels<S>& set : EVERY(MicroKernels<S>, micro_kernels, S)) {
    for (int trial = 0; trial < 300; ++trial) {
      const Index vectors = 1 + random.below(set.widest), span = vectors * set.lanes, columns = span - random.below(set.lanes);
      const Index tile = set.tile_rows[vectors - 1], first = random.below(3);
      const Index tap_count = random.below(4), depth = 1 + random.below(7), row = 40;
      SCOPED_TRACE(std::to_string(set.lanes) + " lanes, " + std::to_string(columns) + " of " + std::to_string(span) + " columns");
      const Tensor<S> a = whole_numbers<S>({tile, row}, random);
      const Tensor<S> b = whole_numbers<S>({tap_count * depth, span}, random);
      const Tensor<S> bias = whole_numbers<S>({span}, random);
      const Epilogue<S> end{random.chance(0.5) ? bias.cdata() : nullptr, random.chance(0.5), random.chance(0.5)};
      std::vector<Index> taps;
      for (Index t = 0; t < tap_count; ++t) taps.push_back(random.below(row - depth + 1));

      Tensor<S> c = whole_numbers<S>({tile, first + span + 1}, random);
      Tensor<S> wanted = c;
      for (Index i = 0; i < tile; ++i) {
        for (Index v = 0; v < columns; ++v) {
          S sum = end.accumulate ? wanted(i, first + v) : S(0);
          if (end.bias != nullptr) sum += bias(v);
          for (Index t = 0; t < tap_count; ++t) {
            for (Index k = 0; k < depth; ++k) sum += a(i, taps[static_cast<std::size_t>(t)] + k) * b(t * depth + k, v);
          }
          wanted(i, first + v) = end.relu ? std::max(sum, S(0)) : sum;
        }
      }
      std::vector<const S*> a_rows;
      std::vector<S*> c_rows;
      for (Index i = 0; i < tile; ++i) {
        a_rows.push_back(a.cdata() + i * row);
        c_rows.push_back(c.data() + i * (first + span + 1));
      }
      set.rows[vectors - 1](a_rows.data(), taps.data(), tap_count, depth, b.cdata(), c_rows.data(), first, columns, end,
                            Ahead(b.cdata(), b.size()).runs(1, tap_count * (depth / products_an_ask)).next());
      ASSERT_EQ(c, wanted);  // beyond the last column too
    }
  }
}

TYPED_TEST(Kernels, OuterOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(2);
  for (const MicroKernels<S>& set : EVERY(MicroKernels<S>, micro_kernels, S)) {
    for (int trial = 0; trial < 300; ++trial) {
      const Index width = 1 + random.below(set.widest_outer), vectors = 1 + random.below(width);
      const Index span = vectors * set.lanes, columns = span - random.below(set.lanes);
      const Index rows = 1 + random.below(set.outer_rows[width - 1]), count = random.below(10);
      const Index lda = rows + random.below(3), ldb = columns + random.below(3), ldc = columns + 1;
      SCOPED_TRACE(std::to_string(set.lanes) + " lanes, " + std::to_string(rows) + " rows, " + std::to_string(columns) + " columns");
      const Tensor<S> a = whole_numbers<S>({count, lda}, random), b = whole_numbers<S>({count, ldb}, random);
      const bool accumulate = random.chance(0.5);
      Tensor<S> c = whole_numbers<S>({rows, ldc}, random);
      Tensor<S> wanted = c;
      if (!accumulate) wanted.matrix().leftCols(columns).setZero();
      for (Index p = 0; p < count; ++p) {
        for (Index i = 0; i < rows; ++i) {
          for (Index v = 0; v < columns; ++v) wanted(i, v) += a(p, i) * b(p, v);
        }
      }
      set.outer[width - 1][vectors - 1](a.cdata(), lda, b.cdata(), ldb, count, c.data(), ldc, rows, columns, accumulate,
                                        Ahead().runs(1, 1).next());
      ASSERT_EQ(c, wanted);
    }
  }
}

TYPED_TEST(Kernels, DotsOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(12);
  for (const MicroKernels<S>& set : EVERY(MicroKernels<S>, micro_kernels, S)) {
    for (int trial = 0; trial < 300; ++trial) {
      const Index rows = 1 + random.below(set.dots_rows), columns = 1 + random.below(few_columns), step = 1 + random.below(3);
      const Index tap_count = random.below(4), depth = 1 + random.below(3 * set.lanes), row = depth + 5, wide = columns * step;
      SCOPED_TRACE(testing::Message() << set.lanes << " lanes, " << rows << " rows, " << columns << " columns, depth " << depth);
      const Tensor<S> a = whole_numbers<S>({rows, row}, random), b = whole_numbers<S>({columns, tap_count * depth}, random);
      const Tensor<S> bias = whole_numbers<S>({columns}, random);
      const Epilogue<S> end{random.chance(0.5) ? bias.cdata() : nullptr, random.chance(0.5), random.chance(0.5)};
      std::vector<Index> taps;
      for (Index t = 0; t < tap_count; ++t) taps.push_back(random.below(row - depth + 1));

      Tensor<S> c = whole_numbers<S>({rows, wide}, random);
      Tensor<S> wanted = c;
      for (Index i = 0; i < rows; ++i) {
        for (Index j = 0; j < columns; ++j) {
          S sum = end.accumulate ? wanted(i, j * step) : S(0);
          if (end.bias != nullptr) sum += bias(j);
          for (Index t = 0; t < tap_count; ++t) {
            for (Index k = 0; k < depth; ++k) sum += a(i, taps[static_cast<std::size_t>(t)] + k) * b(j, t * depth + k);
          }
          wanted(i, j * step) = end.relu ? std::max(sum, S(0)) : sum;
        }
      }
      std::vector<const S*> a_rows, b_rows;
      std::vector<S*> c_rows;
      for (Index i = 0; i < set.dots_rows; ++i) a_rows.push_back(a.cdata() + std::min(i, rows - 1) * row);
      for (Index j = 0; j < few_columns; ++j) b_rows.push_back(b.cdata() + std::min(j, columns - 1) * tap_count * depth);
      for (Index i = 0; i < rows; ++i) c_rows.push_back(c.data() + i * wide);
      set.dots(a_rows.data(), taps.data(), tap_count, depth, b_rows.data(), c_rows.data(), rows, step, columns, end);
      ASSERT_EQ(c, wanted);
    }
  }
}

TYPED_TEST(Kernels, NaNPassesThroughTheFusedReLU) {
  using S = TypeParam;
  for (const MicroKernels<S>& set : EVERY(MicroKernels<S>, micro_kernels, S)) {
    const Index tile = set.tile_rows[0];
    const Tensor<S> a(Shape{tile, 1}, std::numeric_limits<S>::quiet_NaN()), b(Shape{set.lanes}, S(1));
    Tensor<S> c(Shape{tile, set.lanes});
    std::vector<const S*> a_rows(static_cast<std::size_t>(tile), a.cdata());
    std::vector<S*> c_rows;
    for (Index i = 0; i < tile; ++i) c_rows.push_back(c.data() + i * set.lanes);
    const Index tap = 0;
    set.rows[0](a_rows.data(), &tap, 1, 1, b.cdata(), c_rows.data(), 0, set.lanes, {.relu = true},
                Ahead().runs(1, 1).next());
    EXPECT_TRUE(c.carray().isNaN().all()) << set.lanes;
  }
}

TYPED_TEST(Kernels, WhatIsAskedForAheadIsAllThereIsAndNoMore) {
  using S = TypeParam;
  const Tensor<S> x(Shape{5000});
  const Ahead all(x.cdata(), x.size());
  const auto distance = [&](const AheadSteps& steps) { return steps.at - reinterpret_cast<const char*>(x.cdata()); };
  Index bytes = 0;
  for (Index part = 0; part < 7; ++part) {
    EXPECT_EQ(distance(all.part(part, 7).runs(1, 1).steps), bytes);
    bytes += all.part(part, 7).bytes();
  }
  EXPECT_EQ(bytes, all.bytes());
  for (const Index runs : {1, 3, 40}) {
    AheadRuns asked = all.runs(runs, 16);
    for (Index run = 0; run < runs; ++run) {
      AheadSteps steps = asked.next();
      EXPECT_EQ(distance(steps), run * (all.bytes() / runs));
      for (int i = 0; i < 16; ++i) steps.ask();
      EXPECT_LE(distance(steps), (run + 1) * (all.bytes() / runs));
      EXPECT_GT(distance(steps), std::min(Index{16 * 128}, all.bytes() / runs) - 16 + run * (all.bytes() / runs));
    }
  }
  const Ahead nothing;
  EXPECT_EQ(nothing.runs(3, 0).steps.step, 0);
  EXPECT_EQ(nothing.runs(3, 0).each, 0);
}

TYPED_TEST(Kernels, PanelsCoverEveryColumnOnce) {
  for (const Index widest : {2, 3, 4}) {
    for (Index columns = 1; columns < 300; ++columns) {
      const Panels<TypeParam> panels(columns, widest);
      Index next = 0;
      for (Index p = 0; p < panels.count(); ++p) {
        ASSERT_EQ(panels.first_column(p), next);
        ASSERT_GE(panels.width_of(p), 1);
        ASSERT_LE(panels.width_of(p), widest);
        next += panels.columns_of(p);
      }
      ASSERT_EQ(next, columns);
    }
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
  c = unwritten<S>({M, N});
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
    check_products<TypeParam>(500, 1200, 30, exact, random);  // both
    check_products<TypeParam>(800, 20, 530, exact, random);  // enough columns to be shared out
    check_products<TypeParam>(1, 700, 1, exact, random);
    check_products<TypeParam>(1, 702, 1001, exact, random);  // a row with several sums
    check_products<TypeParam>(1, 9, 70'000, exact, random);
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

TYPED_TEST(Kernels, ProductOfNoRows) {
  using S = TypeParam;
  Tensor<S> c(Shape{0, 5});
  for (Index depth : {1, 3, 2000}) {
    const Tensor<S> a(Shape{0, depth}), b(Shape{depth, 5}, S(1));
    matmul<S>(a.cmatrix(), b.cmatrix(), c.matrix());
    matmul_bt<S>(a.cmatrix(), transposed(b).cmatrix(), c.matrix());
    Tensor<S> gradient = unwritten<S>({depth, 5});
    matmul_at<S>(a.cmatrix(), c.cmatrix(), gradient.matrix());
    EXPECT_EQ(gradient, Tensor<S>(Shape{depth, 5}));
  }
}

TYPED_TEST(Kernels, ProductsEndAsTheEpilogueSays) {
  using S = TypeParam;
  Random random(5);
  for (int trial = 0; trial < 120; ++trial) {
    const bool deep = trial % 20 == 0;
    const Index M = deep && trial % 40 == 0 ? 1 : 1 + random.below(20), K = deep ? 3000 : 1 + random.below(100);
    const Index N = 1 + random.below(deep ? 200 : 90);
    const Tensor<S> a = whole_numbers<S>({M, K}, random), b = whole_numbers<S>({K, N}, random);
    const Tensor<S> bias = whole_numbers<S>({N}, random), before = whole_numbers<S>({M, N}, random);
    const Epilogue<S> end{random.chance(0.5) ? bias.cdata() : nullptr, random.chance(0.5), random.chance(0.5)};
    Tensor<S> wanted = naive_matmul(a, b).first;
    if (end.accumulate) wanted.matrix() += before.cmatrix();
    if (end.bias != nullptr) wanted.matrix().rowwise() += bias.carray().matrix().transpose();
    if (end.relu) wanted.matrix() = wanted.cmatrix().cwiseMax(S(0));
    Tensor<S> c = end.accumulate ? before : unwritten<S>({M, N});
    matmul<S>(a.cmatrix(), b.cmatrix(), c.matrix(), end);
    ASSERT_EQ(c, wanted);
    c = end.accumulate ? before : unwritten<S>({M, N});
    matmul_bt<S>(a.cmatrix(), transposed(b).cmatrix(), c.matrix(), end);
    ASSERT_EQ(c, wanted);
  }
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

/// y = e^x where x is negative, else x · √x, for all vectors and the part of one at the end.
template <typename S>
struct Formula {
  Index size;
  const S* x;
  S* y;

  void operator()(auto bytes) const {
    using V = Pack<S, bytes>;
    for (Index i = 0; i < size; i += V::lanes) {
      const V v = load<V>(x + i, size - i);
      store<V>(y + i, where(v < S(0), exp(v), v * sqrt(where(v < S(0), S(0), v))), size - i);
    }
  }
};

TYPED_TEST(Kernels, FormulasOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(14);
  for (const auto with_vectors : EVERY(void (*)(Formula<S>), with_vectors, Formula<S>)) {
    for (Index size = 1; size < 40; ++size) {
      const Tensor<S> x = normal_numbers<S>({size}, random);
      Tensor<S> y(Shape{size + 1}, S(7));
      with_vectors({size, x.cdata(), y.data()});
      for (Index i = 0; i < size; ++i) {
        const S wanted = x(i) < 0 ? std::exp(x(i)) : x(i) * std::sqrt(x(i));
        ASSERT_NEAR(y(i), wanted, 4 * std::numeric_limits<S>::epsilon() * wanted) << i << " of " << size;
      }
      ASSERT_EQ(y(size), S(7));
    }
  }
}

/// The sum and the largest of a row.
template <typename S>
struct Reduction {
  Index size;
  const S* x;
  S *sum, *most;

  void operator()(auto bytes) const {
    using V = Pack<S, bytes>;
    *sum = sum_row<V>(size, [](const V& v) { return v; }, x);
    *most = reduce_row<V>(size, V(std::numeric_limits<S>::lowest()),
                          [](const auto& a, const auto& b) { return where(a > b, a, b); }, [](const V& v) { return v; }, x);
  }
};

TYPED_TEST(Kernels, ReductionsOfEveryInstructionSet) {
  using S = TypeParam;
  Random random(15);
  for (const auto with_vectors : EVERY(void (*)(Reduction<S>), with_vectors, Reduction<S>)) {
    for (Index size = 1; size < 100; ++size) {
      Tensor<S> x = whole_numbers<S>({size}, random);
      x.array() -= S(100);  // all negative: what fills up the last vector is not the largest
      S sum = 0, most = 0;
      with_vectors({size, x.cdata(), &sum, &most});
      ASSERT_EQ(sum, x.carray().sum()) << size;
      ASSERT_EQ(most, x.carray().maxCoeff()) << size;
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
