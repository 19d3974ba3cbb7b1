// Images in another size: resampled as PIL does it, and cut out of the middle.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include <residua/core/options.hpp>
#include <residua/core/tensor.hpp>
#include <residua/core/threads.hpp>
#include <residua/data/transforms.hpp>

namespace residua::inline RESIDUA_ABI {

/// What a pixel counts at a distance: falling to 0 over one pixel in a straight line, or over two by Keys's cubic with
/// a = −½ (1981).
enum class InterpolationMode { bilinear, bicubic };

namespace detail {

/// The kernel's reach, in pixels of the smaller of both images.
inline double interpolation_support(InterpolationMode mode) { return mode == InterpolationMode::bilinear ? 1 : 2; }

inline double interpolation_weight(InterpolationMode mode, double distance) {
  const double x = std::abs(distance);
  if (mode == InterpolationMode::bilinear) return x < 1 ? 1 - x : 0;
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

/// One axis resampled: y[i] = Σ_k weights[i · taps + k] · x[first[i] + k] over count[i] pixels, in units of 2⁻²².
struct Resampling {
  static constexpr int bits = 22;

  Index taps;  ///< the largest count
  std::vector<Index> first, count;
  std::vector<std::int32_t> weights;

  Resampling(Index from, Index to, InterpolationMode mode) {
    const double scale = static_cast<double>(from) / static_cast<double>(to), stretch = std::max(scale, 1.0);
    const double support = interpolation_support(mode) * stretch;
    taps = 2 * static_cast<Index>(std::ceil(support)) + 1;
    weights.resize(static_cast<std::size_t>(to * taps));
    std::vector<double> exact(static_cast<std::size_t>(taps));
    for (Index i = 0; i < to; ++i) {
      const double center = (static_cast<double>(i) + 0.5) * scale;
      const Index begin = std::max<Index>(static_cast<Index>(center - support + 0.5), 0);
      const Index end = std::min(static_cast<Index>(center + support + 0.5), from);
      first.push_back(begin);
      count.push_back(end - begin);
      double sum = 0;
      for (Index x = begin; x < end; ++x) {
        const double weight =
            interpolation_weight(mode, (static_cast<double>(x) - center + 0.5) * (1 / stretch));
        exact[static_cast<std::size_t>(x - begin)] = weight;
        sum += weight;
      }
      std::int32_t* const rounded = weights.data() + i * taps;
      for (Index k = 0; k < end - begin; ++k) {
        const double weight = (sum != 0 ? exact[static_cast<std::size_t>(k)] / sum : 0) * (1 << bits);
        rounded[k] = static_cast<std::int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
      }
    }
  }

  /// y[i, c] = what x[:, c] gives at i, for pixels and results that stand `stride` bytes apart, and c < channels.
  void apply(Index i, const std::uint8_t* x, Index stride, Index channels, std::uint8_t* y) const {
    const auto n = static_cast<std::size_t>(i);
    const std::int32_t* const weight = weights.data() + i * taps;
    x += first[n] * stride;
    for (Index c = 0; c < channels; ++c) {
      std::int32_t sum = 1 << (bits - 1);
      for (Index k = 0; k < count[n]; ++k) sum += weight[k] * x[k * stride + c];
      y[c] = static_cast<std::uint8_t>(std::clamp(sum >> bits, 0, 255));
    }
  }
};

inline Tensor<std::uint8_t> resize_width(const Tensor<std::uint8_t>& image, Index width, InterpolationMode mode) {
  const Index H = image.dim(0), W = image.dim(1), C = image.dim(2);
  Tensor<std::uint8_t> resized(Shape{H, width, C}, uninitialized);
  const Resampling resampling(W, width, mode);
  const std::uint8_t* const x = image.cdata();
  std::uint8_t* const y = resized.data();
  parallel_ranges(H, 16, [&](Index begin, Index end) {
    for (Index h = begin; h < end; ++h) {
      for (Index w = 0; w < width; ++w) resampling.apply(w, x + h * W * C, C, C, y + (h * width + w) * C);
    }
  });
  return resized;
}

inline Tensor<std::uint8_t> resize_height(const Tensor<std::uint8_t>& image, Index height, InterpolationMode mode) {
  const Index H = image.dim(0), row = image.dim(1) * image.dim(2);
  Tensor<std::uint8_t> resized(image.shape().with(0, height), uninitialized);
  const Resampling resampling(H, height, mode);
  const std::uint8_t* const x = image.cdata();
  std::uint8_t* const y = resized.data();
  parallel_ranges(height, 16, [&](Index begin, Index end) {
    for (Index h = begin; h < end; ++h) resampling.apply(h, x, row, row, y + h * row);
  });
  return resized;
}

/// Where a window of `size` stands in the middle of an axis; negative when it is the larger. Halves go to the even
/// pixel, as in torchvision.
inline Index centered(Index count, Index size) {
  if (size > count) return -((size - count) / 2);
  const Index spare = count - size, half = spare / 2;
  return half + (spare % 2) * (half % 2);
}

}  // namespace detail

/// The image (H, W, C) in another size, equal to PIL's Image.resize: each pixel is a mean of those around its place,
/// weighted by the kernel, which is stretched where the image shrinks (antialiasing); first along the width, then along
/// the height, each rounded to bytes. Throws Error for another shape, no pixels, or a size below 1.
inline Tensor<std::uint8_t> resize(Tensor<std::uint8_t> image, Pair size,
                                   InterpolationMode interpolation = InterpolationMode::bilinear) {
  detail::check_image("resize", image.shape());
  detail::require_at_least("resize", "size", 1, size);
  if (size.width != image.dim(1)) image = detail::resize_width(image, size.width, interpolation);
  if (size.height != image.dim(0)) image = detail::resize_height(image, size.height, interpolation);
  return image;
}

/// As resize, to a shorter side of `size` pixels; the longer one keeps the proportion, rounded down. torchvision's
/// Resize(size). Throws Error as resize does.
inline Tensor<std::uint8_t> resize_shorter_side(Tensor<std::uint8_t> image, Index size,
                                                InterpolationMode interpolation = InterpolationMode::bilinear) {
  detail::check_image("resize_shorter_side", image.shape());
  detail::require_at_least("resize_shorter_side", "size", 1, size);
  const Index H = image.dim(0), W = image.dim(1);
  const Pair resized = W <= H ? Pair(size * H / W, size) : Pair(size, size * W / H);
  return resize(std::move(image), resized, interpolation);
}

/// The window of `size` in the middle of an image (H, W, C); zeros where it is larger than the image. torchvision's
/// CenterCrop. Throws Error for another shape or a size below 1.
template <typename S>
Tensor<S> center_crop(const Tensor<S>& image, Pair size) {
  detail::check_image("center_crop", image.shape());
  detail::require_at_least("center_crop", "size", 1, size);
  const Index H = image.dim(0), W = image.dim(1), C = image.dim(2);
  const Index top = detail::centered(H, size.height), left = detail::centered(W, size.width);
  const Index begin = std::max<Index>(-left, 0), end = std::min(W - left, size.width);  // the columns that it fills
  Tensor<S> cropped(Shape{size.height, size.width, C});
  S* const y = cropped.data();
  for (Index h = std::max<Index>(-top, 0); h < std::min(H - top, size.height); ++h) {
    const S* const x = image.cdata() + ((top + h) * W + left + begin) * C;
    std::copy_n(x, (end - begin) * C, y + (h * size.width + begin) * C);
  }
  return cropped;
}

}  // namespace residua::inline RESIDUA_ABI
