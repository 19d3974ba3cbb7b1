// Transforms: what is done to each image on its way into a batch. The simple ones; others stand in files of their own.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include <residua/core/elementwise.hpp>
#include <residua/core/options.hpp>
#include <residua/core/random.hpp>
#include <residua/core/tensor.hpp>

namespace residua::inline RESIDUA_ABI {

/// Any function from an image (H, W, C) and a source of randomness to an image. It may run in many threads at once; all
/// it draws comes from the Random, which is the sample's own.
template <typename S>
using Transform = std::function<Tensor<S>(Tensor<S> image, Random& random)>;

namespace detail {

inline void check_image(const char* transform, const Shape& image) {
  if (image.rank() != 3 || image.size() == 0) fail(transform, "expected an image [H, W, C], got ", image);
}

/// The position among `count` whose pixel is seen at `position` when the outermost pixels are mirrors.
inline Index reflected(Index position, Index count) {
  if (position < 0) return -position;
  return position < count ? position : 2 * (count - 1) - position;
}

}  // namespace detail

/// y[…, c] = (x[…, c] − mean[c]) / std[c]. Throws Error for another number of channels, and for a std that is not
/// positive.
struct Normalize {
  std::vector<double> mean, std;

  template <typename S>
  Tensor<S> operator()(Tensor<S> image, Random&) const {
    detail::check_image("Normalize", image.shape());
    const Index channels = image.features();
    if (static_cast<Index>(mean.size()) != channels || static_cast<Index>(std.size()) != channels) {
      fail("Normalize", "expected a mean and a std for each of ", channels, " channels, got ", mean.size(), " and ",
           std.size());
    }
    for (const double deviation : std) {
      if (!(deviation > 0)) fail("Normalize", "expected a positive std, got ", deviation);
    }
    // One row of the image, each pixel's channels: what is subtracted there and what it is divided by.
    const Index row = image.dim(1) * channels;
    Tensor<S> means(Shape{row}, uninitialized), stds(Shape{row}, uninitialized);
    S *const m = means.data(), *const d = stds.data(), *x = image.data();
    for (Index i = 0; i < row; ++i) {
      m[i] = static_cast<S>(mean[static_cast<std::size_t>(i % channels)]);
      d[i] = static_cast<S>(std[static_cast<std::size_t>(i % channels)]);
    }
    for (Index h = 0; h < image.dim(0); ++h, x += row) {
      kernels::map_range(row, x, [](auto v, auto shift, auto scale) { return (v - shift) / scale; }, x, m, d);
    }
    return image;
  }
};

/// Mirrors left and right with probability p. Throws Error for a p outside of [0, 1].
struct RandomHorizontalFlip {
  double p = 0.5;

  template <typename S>
  Tensor<S> operator()(Tensor<S> image, Random& random) const {
    detail::check_image("RandomHorizontalFlip", image.shape());
    if (!(p >= 0 && p <= 1)) fail("RandomHorizontalFlip", "expected p from 0 to 1, got ", p);
    if (!random.chance(p)) return image;
    const Index width = image.dim(1), channels = image.dim(2);
    S* x = image.data();
    for (Index h = 0; h < image.dim(0); ++h, x += width * channels) {
      for (Index left = 0, right = width - 1; left < right; ++left, --right) {
        std::swap_ranges(x + left * channels, x + (left + 1) * channels, x + right * channels);
      }
    }
    return image;
  }
};

/// What stands outside of an image: zeros, or the image mirrored at its outermost pixels.
enum class PaddingMode { zeros, reflect };

/// Pads each side, then cuts out a window of `size` at a random position. Throws Error for a window that does not fit,
/// and for reflected padding as large as the image.
struct RandomCrop {
  Pair size;
  Pair padding = 0;
  PaddingMode padding_mode = PaddingMode::zeros;

  template <typename S>
  Tensor<S> operator()(Tensor<S> image, Random& random) const {
    detail::check_image("RandomCrop", image.shape());
    const Index H = image.dim(0), W = image.dim(1), C = image.dim(2);
    const Index spare_h = H + 2 * padding.height - size.height, spare_w = W + 2 * padding.width - size.width;
    if (std::min({size.height, size.width, spare_h + 1, spare_w + 1}) < 1 || padding.height < 0 || padding.width < 0) {
      fail("RandomCrop", "expected a size within the padded image, got ", size, " with padding ", padding,
           " (image is ", image.shape(), ")");
    }
    if (padding_mode == PaddingMode::reflect && (padding.height >= H || padding.width >= W)) {
      fail("RandomCrop", "expected a reflected padding smaller than the image, got ", padding, " (image is ",
           image.shape(), ")");
    }
    const Index top = random.below(spare_h + 1) - padding.height, left = random.below(spare_w + 1) - padding.width;

    Tensor<S> cropped(Shape{size.height, size.width, C});
    // Columns first … last - 1 of the window lie within the image.
    const Index first = std::clamp<Index>(-left, 0, size.width), last = std::clamp(W - left, first, size.width);
    S* y = cropped.data();
    for (Index h = 0; h < size.height; ++h, y += size.width * C) {
      const Index from_h = source(top + h, H);
      if (from_h < 0) continue;
      const S* const x = image.cdata() + from_h * W * C;
      const auto copy_padding = [&](Index begin, Index end) {
        for (Index w = begin; w < end; ++w) {
          const Index from_w = source(left + w, W);
          if (from_w >= 0) std::copy_n(x + from_w * C, C, y + w * C);
        }
      };
      copy_padding(0, first);
      if (first < last) std::copy_n(x + (left + first) * C, (last - first) * C, y + first * C);
      copy_padding(last, size.width);
    }
    return cropped;
  }

 private:
  /// The position whose pixel is seen at `position`, which may be outside; −1 where zeros are.
  Index source(Index position, Index count) const {
    const bool zeros = padding_mode == PaddingMode::zeros && (position < 0 || position >= count);
    return zeros ? -1 : detail::reflected(position, count);
  }
};

/// Fills a square at a random place, which the image's border may cut, with zeros or with a value for each channel
/// (DeVries and Taylor 2017). After Normalize, zero is the mean. The centre is any pixel of the image. Throws Error for
/// a size below 1, or another number of values than channels.
struct Cutout {
  Index size = 0;
  std::vector<double> value = {};  ///< empty: zeros

  template <typename S>
  Tensor<S> operator()(Tensor<S> image, Random& random) const {
    detail::check_image("Cutout", image.shape());
    const Index H = image.dim(0), W = image.dim(1), C = image.dim(2);
    detail::require_at_least("Cutout", "size", 1, size);
    if (!value.empty() && static_cast<Index>(value.size()) != C) {
      fail("Cutout", "expected a value for each of ", C, " channels, got ", value.size());
    }
    const Index top = random.below(H) - size / 2, left = random.below(W) - size / 2;
    S* const x = image.data();
    for (Index h = std::max<Index>(top, 0); h < std::min(top + size, H); ++h) {
      for (Index w = std::max<Index>(left, 0); w < std::min(left + size, W); ++w) {
        for (Index c = 0; c < C; ++c) {
          x[(h * W + w) * C + c] = value.empty() ? S(0) : static_cast<S>(value[static_cast<std::size_t>(c)]);
        }
      }
    }
    return image;
  }
};

}  // namespace residua::inline RESIDUA_ABI
