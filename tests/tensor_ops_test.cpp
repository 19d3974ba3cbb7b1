// concat, slice, permute and the orders of images: against loops over single elements.
#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/tensor_ops.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

template <typename S>
Tensor<S> counted(const Shape& shape, S start = 0) {
  Tensor<S> x(shape);
  std::iota(x.data(), x.data() + x.size(), start);
  return x;
}

template <typename S> class TensorOps : public testing::Test {};
using Scalars = testing::Types<float, double, std::uint8_t>;
TYPED_TEST_SUITE(TensorOps, Scalars);

TYPED_TEST(TensorOps, ConcatAlongEveryAxis) {
  using S = TypeParam;
  for (Index axis = 0; axis < 3; ++axis) {
    const Shape shape{2, 3, 4};
    const Tensor<S> a = counted<S>(shape), b = counted<S>(shape.with(axis, 1), S(50)), none(shape.with(axis, 0));
    const Tensor<S> y = concat({a, none, b, a}, axis);
    ASSERT_EQ(y.shape(), shape.with(axis, 2 * shape[axis] + 1));
    for (Index i = 0; i < y.dim(0); ++i) {
      for (Index j = 0; j < y.dim(1); ++j) {
        for (Index k = 0; k < y.dim(2); ++k) {
          const Index size = shape[axis], at = std::array<Index, 3>{i, j, k}[static_cast<std::size_t>(axis)];
          const Tensor<S>& part = at == size ? b : a;
          const Index shift = at < size ? 0 : at == size ? size : size + 1;
          const Index a_i = i - (axis == 0 ? shift : 0), a_j = j - (axis == 1 ? shift : 0);
          ASSERT_EQ(y(i, j, k), part(a_i, a_j, k - (axis == 2 ? shift : 0))) << i << j << k << " along " << axis;
        }
      }
    }
    EXPECT_EQ(concat(std::vector<Tensor<S>>{a, none, b, a}, axis - 3), y);
  }
}

TEST(Concat, RefusesWhatDoesNotMatch) {
  const Tensor<float> a(Shape{2, 3});
  expect_error([] { concat(std::vector<Tensor<float>>{}, 0); }, "concat: expected at least 1 tensor, got 0");
  expect_error([&] { concat({a, a}, 2); }, "concat: axis 2 is outside of [2, 3]");
  expect_error([&] { concat({a, a}, -3); }, "concat: axis -3 is outside of [2, 3]");
  expect_error([&] { concat({a, Tensor<float>(Shape{2, 4})}, 0); },
               "concat: expected [2, 3] but for axis 0, got [2, 4]");
  expect_error([&] { concat({a, Tensor<float>(Shape{2, 3, 1})}, 0); }, "got [2, 3, 1]");
}

TYPED_TEST(TensorOps, SliceOfEveryAxisIsUndoneByConcat) {
  using S = TypeParam;
  const Tensor<S> x = counted<S>(Shape{4, 5, 6});
  for (Index axis = 0; axis < 3; ++axis) {
    const Tensor<S> a = slice(x, axis, 0, 1), b = slice(x, axis - 3, 1, 1), c = slice(x, axis, 1, x.dim(axis));
    EXPECT_EQ(a.dim(axis), 1);
    EXPECT_EQ(b.dim(axis), 0);
    EXPECT_EQ(concat({a, b, c}, axis), x);
  }
  EXPECT_EQ(slice(x, 1, 2, 4)(3, 1, 5), x(3, 3, 5));
}

TEST(Slice, RefusesPositionsOutside) {
  const Tensor<float> x(Shape{2, 3});
  expect_error([&] { slice(x, 1, 0, 4); },
               "slice: expected positions 0 <= first <= last <= 3, got 0 and 4 (axis 1 of [2, 3])");
  expect_error([&] { slice(x, 1, -1, 2); }, "got -1 and 2");
  expect_error([&] { slice(x, 1, 2, 1); }, "got 2 and 1");
  expect_error([&] { slice(x, 2, 0, 1); }, "slice: axis 2 is outside of [2, 3]");
}

TYPED_TEST(TensorOps, PermuteInEveryOrder) {
  using S = TypeParam;
  for (const Shape& shape : {Shape{3, 2, 5, 37}, Shape{2, 1, 19, 3}, Shape{1, 4, 1, 4}, Shape{3, 0, 2, 2}}) {
    const Tensor<S> x = counted<S>(shape);
    std::vector<Index> axes{0, 1, 2, 3};
    do {
      const Tensor<S> y = permute(x, std::span<const Index>(axes));
      for (std::size_t i = 0; i < 4; ++i) ASSERT_EQ(y.dim(static_cast<Index>(i)), x.dim(axes[i]));
      for (Index a = 0; a < y.dim(0); ++a) {
        for (Index b = 0; b < y.dim(1); ++b) {
          for (Index c = 0; c < y.dim(2); ++c) {
            for (Index d = 0; d < y.dim(3); ++d) {
              std::array<Index, 4> at{};
              at[static_cast<std::size_t>(axes[0])] = a;
              at[static_cast<std::size_t>(axes[1])] = b;
              at[static_cast<std::size_t>(axes[2])] = c;
              at[static_cast<std::size_t>(axes[3])] = d;
              ASSERT_EQ(std::as_const(y)(a, b, c, d), x(at[0], at[1], at[2], at[3]));
            }
          }
        }
      }
    } while (std::next_permutation(axes.begin(), axes.end()));
  }
}

TYPED_TEST(TensorOps, PermuteOfOtherRanks) {
  using S = TypeParam;
  const Tensor<S> number(Shape{}, S(3)), row = counted<S>(Shape{5}), matrix = counted<S>(Shape{5, 37});
  EXPECT_EQ(permute(number, {}), number);
  EXPECT_EQ(permute(row, {-1}), row);
  const Tensor<S> turned = permute(matrix, {-1, 0});
  EXPECT_TRUE(turned.cmatrix() == matrix.cmatrix().transpose());
  EXPECT_EQ(permute(matrix.reshaped(Shape{1, 5, 1, 37}), {1, 0, 3, 2}).cdata(), matrix.cdata()) << "nothing moved";
}

TEST(Permute, RefusesWhatIsNoOrder) {
  const Tensor<float> x(Shape{2, 3, 4});
  expect_error([&] { permute(x, {0, 1}); }, "permute: expected 3 axes for [2, 3, 4], got 2");
  expect_error([&] { permute(x, {0, 1, 1}); }, "permute: expected each axis once, got 1 twice");
  expect_error([&] { permute(x, {0, 1, -2}); }, "permute: expected each axis once, got 1 twice");
  expect_error([&] { permute(x, {0, 1, 3}); }, "permute: axis 3 is outside of [2, 3, 4]");
}

TYPED_TEST(TensorOps, ChannelsFirstAndLast) {
  using S = TypeParam;
  const Tensor<S> x = counted<S>(Shape{2, 3, 4, 5});
  const Tensor<S> last = to_channels_last(x);
  ASSERT_EQ(last.shape(), (Shape{2, 4, 5, 3}));
  EXPECT_EQ(last(1, 3, 2, 1), x(1, 1, 3, 2));
  EXPECT_EQ(to_channels_first(last), x);
  const Tensor<S> image = counted<S>(Shape{3, 4, 5});
  EXPECT_EQ(to_channels_last(image)(3, 2, 1), image(1, 3, 2));
  EXPECT_EQ(to_channels_first(to_channels_last(image)), image);
}

TEST(ChannelsLast, RefusesOtherRanks) {
  expect_error([] { to_channels_last(Tensor<float>(Shape{2, 3})); }, "to_channels_last: expected [N, C, H, W]");
  expect_error([] { to_channels_first(Tensor<float>(Shape{2})); }, "to_channels_first: expected [N, H, W, C]");
}

}  // namespace
