// Transforms: what is done to each image on its way into a batch.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

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
  if (image.rank() != 3) fail(transform, "expected an image [H, W, C], got ", image);
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
    MatrixMap<S> x = image.matrix();
    for (Index c = 0; c < channels; ++c) {
      const auto k = static_cast<std::size_t>(c);
      x.col(c).array() = (x.col(c).array() - static_cast<S>(mean[k])) / static_cast<S>(std[k]);
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
    const S* x = image.cdata();
    S* y = cropped.data();
    for (Index h = 0; h < size.height; ++h) {
      for (Index w = 0; w < size.width; ++w, y += C) {
        const Index from_h = source(top + h, H), from_w = source(left + w, W);
        if (from_h >= 0 && from_w >= 0) std::copy_n(x + (from_h * W + from_w) * C, C, y);
      }
    }
    return cropped;
  }

 private:
  /// The position whose pixel is seen at `position`, which may be outside; −1 where zeros are.
  Index source(Index position, Index count) const {
    if (position >= 0 && position < count) return position;
    if (padding_mode == PaddingMode::zeros) return -1;
    return position < 0 ? -position : 2 * (count - 1) - position;
  }
};

}  // namespace residua::inline RESIDUA_ABI
