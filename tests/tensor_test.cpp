// Tensor: a value with a shape, whose copies share memory until one of them is written.
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/elementwise.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

Tensor<float> counting(const Shape& shape) {
  Tensor<float> t(shape);
  for (Index i = 0; i < t.size(); ++i) t.data()[i] = static_cast<float>(i);
  return t;
}

TEST(Tensor, ConstructorsGiveTheirValues) {
  EXPECT_TRUE((Tensor<float>(Shape{2, 3}).carray() == 0.0f).all());
  EXPECT_TRUE((Tensor<double>(Shape{2, 3}, 1.5).carray() == 1.5).all());
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const Tensor<float> t(Shape{2, 3}, values);
  EXPECT_EQ(t(0, 0), 1);
  EXPECT_EQ(t(1, 0), 4);
  EXPECT_EQ(t(1, 2), 6);
  EXPECT_EQ(Tensor<float>(Shape{}, 7).size(), 1);
  EXPECT_EQ(Tensor<float>(Shape{}, 7)(), 7);
}

TEST(Tensor, DefaultIsEmpty) {
  const Tensor<float> t;
  EXPECT_TRUE(t.empty());
  EXPECT_EQ(t.shape(), Shape{0});
  EXPECT_EQ(t.cdata(), nullptr);
  EXPECT_EQ(t, Tensor<float>(Shape{0}));
}

TEST(Tensor, WithAnAxisOfZeroHasNoElements) {
  Tensor<float> t(Shape{0, 5});
  EXPECT_TRUE(t.empty());
  EXPECT_EQ(t.rows(), 0);
  EXPECT_EQ(t.features(), 5);
  EXPECT_EQ(t.matrix().size(), 0);
}

TEST(Tensor, IsAMatrixOfRowsByFeatures) {
  const Tensor<float> t = counting({2, 3, 4});
  EXPECT_EQ(t.rows(), 6);
  EXPECT_EQ(t.features(), 4);
  EXPECT_EQ(t.cmatrix()(5, 1), t(1, 2, 1));
  EXPECT_EQ(t.carray()[23], 23);
  EXPECT_EQ(t.dim(-1), 4);
  EXPECT_EQ(t.dim(0), 2);
}

TEST(Tensor, MemoryIsAlignedTo64Bytes) {
  for (Index size = 1; size < 3000; size = size * 3 / 2 + 1) {
    const Tensor<float> t(Shape{size});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.cdata()) % 64, 0u) << size;
  }
}

TEST(Tensor, FromTakesAnyMatrixExpression) {
  Eigen::Matrix<float, 2, 3> columns_first;  // column-major
  columns_first << 1, 2, 3, 4, 5, 6;
  const std::vector<double> wanted{2, 4, 6, 8, 10, 12};
  EXPECT_EQ(Tensor<double>::from(2 * columns_first), Tensor<double>(Shape{2, 3}, wanted));
  EXPECT_EQ(Tensor<float>::from(columns_first.transpose())(2, 1), 6);
  EXPECT_EQ(Tensor<float>::from(columns_first.array() + 1)(0, 0), 2);
  const Tensor<float> t = counting({4, 2});
  EXPECT_EQ(Tensor<float>::from(t.cmatrix()), t);
}

TEST(Tensor, ReshapedSharesMemory) {
  const Tensor<float> t = counting({2, 6});
  const Tensor<float> r = t.reshaped({3, 4});
  EXPECT_EQ(r.cdata(), t.cdata());
  EXPECT_EQ(r(2, 3), 11);
  EXPECT_EQ(counting({6}).reshaped({2, 3}).shape(), (Shape{2, 3}));
  EXPECT_EQ(message([&] { t.reshaped({5, 2}); }), "Tensor: cannot give [2, 6] the shape [5, 2]");
}

TEST(Tensor, ReshapedTemporaryKeepsItsMemoryUnshared) {
  Tensor<float> t = counting({2, 6});
  const float* const before = t.cdata();
  Tensor<float> r = std::move(t).reshaped({12});
  EXPECT_TRUE(r.unique());
  EXPECT_EQ(r.data(), before);
  EXPECT_TRUE(t.empty());
}

TEST(Tensor, CastConvertsEveryElement) {
  const Tensor<float> t(Shape{3}, std::vector<float>{1.75f, -2.5f, 3});
  EXPECT_EQ(t.cast<double>(), Tensor<double>(Shape{3}, std::vector<double>{1.75, -2.5, 3}));
  EXPECT_EQ(t.cast<int>(), Tensor<int>(Shape{3}, std::vector<int>{1, -2, 3}));
}

TEST(Tensor, EqualityComparesShapeAndElements) {
  EXPECT_EQ(counting({2, 3}), counting({2, 3}));
  EXPECT_NE(counting({2, 3}), counting({3, 2}));
  Tensor<float> other = counting({2, 3});
  other(1, 2) = 0;
  EXPECT_NE(counting({2, 3}), other);
}

// --- sharing -----------------------------------------------------------------------------------------------------------

TEST(Tensor, CopiesShareUntilOneIsWritten) {
  const auto copies = memory_statistics().copies;
  Tensor<float> a = counting({4});
  Tensor<float> b = a;
  EXPECT_EQ(a.cdata(), b.cdata());
  EXPECT_FALSE(a.unique());
  EXPECT_EQ(memory_statistics().copies, copies);

  b.data()[0] = 42;
  EXPECT_EQ(memory_statistics().copies, copies + 1);
  EXPECT_NE(a.cdata(), b.cdata());
  EXPECT_EQ(a(0), 0);
  EXPECT_EQ(b(0), 42);

  a.data()[1] = 7;  // alone again: no further copy
  b.data()[2] = 8;
  EXPECT_EQ(memory_statistics().copies, copies + 1);
}

TEST(Tensor, NoWayOfWritingShowsInACopy) {
  const Tensor<float> original = counting({2, 2});
  const auto check = [&](auto&& write) {
    Tensor<float> copy = original;
    const Tensor<float> other = copy;
    write(copy);
    EXPECT_EQ(other, counting({2, 2}));
    EXPECT_EQ(original, counting({2, 2}));
    EXPECT_NE(copy, original);
  };
  check([](Tensor<float>& t) { t.data()[3] = -1; });
  check([](Tensor<float>& t) { t.array() += 1; });
  check([](Tensor<float>& t) { t.matrix().row(1).setConstant(-1); });
  check([](Tensor<float>& t) { t(1, 1) = -1; });
  check([](Tensor<float>& t) { t = Tensor<float>(Shape{2, 2}, -1); });
}

TEST(Tensor, ReadingNeverCopies) {
  const auto copies = memory_statistics().copies;
  Tensor<float> a = counting({2, 2});
  const Tensor<float> b = a;
  float sum = a.cdata()[0] + a.carray().sum() + a.cmatrix().sum();
  sum += b.data()[0] + b.array().sum() + b.matrix().sum() + b(1, 1);
  EXPECT_EQ(sum, 6 * 4 + 3);
  EXPECT_EQ(memory_statistics().copies, copies);
  EXPECT_FALSE(a.unique());
}

TEST(Tensor, ReshapedCopyIsWrittenAlone) {
  const Tensor<float> a = counting({2, 2});
  Tensor<float> b = a.reshaped({4});
  b(0) = 42;
  EXPECT_EQ(a(0, 0), 0);
}

TEST(Tensor, MovedFromIsEmpty) {
  Tensor<float> a = counting({4});
  const float* const memory = a.cdata();
  Tensor<float> b = std::move(a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(a.shape(), Shape{0});
  EXPECT_EQ(b.cdata(), memory);
  EXPECT_TRUE(b.unique());
  a = std::move(b);
  EXPECT_TRUE(b.empty());
  EXPECT_EQ(a, counting({4}));
  Tensor<float>& self = a;
  a = std::move(self);
  EXPECT_EQ(a, counting({4}));
  a = self;
  EXPECT_EQ(a, counting({4}));
}

TEST(Tensor, OwnersInTwoThreadsWriteTheirOwn) {
  for (int round = 0; round < 200; ++round) {
    Tensor<float> a = counting({1000});
    Tensor<float> b = a;
    std::thread other([mine = std::move(b)]() mutable {
      mine.array() += 1;
      EXPECT_EQ(mine.carray().sum(), 499500 + 1000);
    });
    a.array() *= 2;
    other.join();
    EXPECT_EQ(a.carray().sum(), 999000);
  }
}

TEST(Tensor, MemoryGivenUpInAnotherThreadIsSafeToWrite) {
  for (int round = 0; round < 200; ++round) {
    Tensor<float> a = counting({1000});
    std::thread reader([copy = a] { EXPECT_EQ(copy.carray().sum(), 499500); });
    a.array() = 0;  // in place where the reader has ended already, else in a copy
    reader.join();
    EXPECT_EQ(a.carray().sum(), 0);
  }
}

TEST(Tensor, TakeOverGivesTheMemoryOfTheLastOwner) {
  Tensor<float> a = counting({4});
  const float* const memory = a.cdata();
  const Tensor<float> taken = detail::take_over(a);
  EXPECT_EQ(taken.cdata(), memory);

  Tensor<float> shared = taken;
  const Tensor<float> fresh = detail::take_over(shared);
  EXPECT_NE(fresh.cdata(), memory);
  EXPECT_EQ(fresh.shape(), taken.shape());
  EXPECT_EQ(taken, counting({4}));
}

TEST(Tensor, SumOfAForkUsesUnsharedMemory) {
  const Tensor<float> kept = counting({4});
  Tensor<float> own(Shape{4}, 1);
  const float* const memory = own.cdata();
  const Tensor<float> y = detail::sum(kept, std::move(own));
  EXPECT_EQ(y.cdata(), memory);
  EXPECT_EQ(y(3), 4);
  EXPECT_EQ(kept, counting({4}));
  EXPECT_EQ(detail::sum(kept, kept)(3), 6);
  EXPECT_EQ(detail::sum({}, kept), kept);
  EXPECT_EQ(detail::sum(kept, {}), kept);
}

// --- errors ------------------------------------------------------------------------------------------------------------

TEST(Tensor, PositionsAreChecked) {
  Tensor<float> t = counting({2, 3});
  EXPECT_EQ(message([&] { t(0, 3); }), "Tensor: position 3 at axis 1 is outside of [2, 3]");
  EXPECT_EQ(message([&] { t(-1, 0); }), "Tensor: position -1 at axis 0 is outside of [2, 3]");
  EXPECT_EQ(message([&] { t(0); }), "Tensor: expected 2 positions for [2, 3], got 1");
  EXPECT_EQ(message([&] { t(0, 0, 0); }), "Tensor: expected 2 positions for [2, 3], got 3");
  EXPECT_EQ(message([&] { std::as_const(t)(2, 0); }), "Tensor: position 2 at axis 0 is outside of [2, 3]");
  EXPECT_THROW(Tensor<float>()(0), Error);
  EXPECT_EQ(t, counting({2, 3}));
}

TEST(Tensor, ACheckedPositionThatFailsCopiesNothing) {
  Tensor<float> t = counting({2, 3});
  const Tensor<float> other = t;
  EXPECT_THROW(t(2, 0) = 1, Error);
  EXPECT_EQ(t.cdata(), other.cdata());
}

TEST(Tensor, NumberOfValuesMustFit) {
  const std::vector<float> values{1, 2, 3};
  EXPECT_EQ(message([&] { Tensor<float>(Shape{2, 2}, values); }), "Tensor: expected 4 values for [2, 2], got 3");
  EXPECT_THROW(Tensor<float>(Shape{2}, values), Error);
  EXPECT_THROW(Tensor<float>(Shape{0}, values), Error);
}

}  // namespace
