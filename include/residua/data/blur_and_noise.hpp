// GaussianBlur and GaussianNoise: images less sharp and less clean; as torchvision does it.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <residua/data/transforms.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// The normal density at 0, ±1, …, ±(size − 1)/2, with a sum of 1.
template <typename S>
std::vector<S> gaussian_kernel(Index size, double sigma) {
  std::vector<double> density;
  double sum = 0;
  for (Index i = 0; i < size; ++i) {
    const double z = static_cast<double>(i - size / 2) / sigma;
    density.push_back(std::exp(-0.5 * z * z));
    sum += density.back();
  }
  std::vector<S> kernel;
  for (const double d : density) kernel.push_back(static_cast<S>(d / sum));
  return kernel;
}

inline void check_kernel(const char* place, Pair size) {
  require_at_least(place, "kernel_size", 1, size);
  if (size.height % 2 == 0 || size.width % 2 == 0) fail(place, "expected an odd kernel_size, got ", size);
}

}  // namespace detail

/// The image convolved with the normal density of standard deviation `sigma`, at kernel_size points; beyond its border
/// it is mirrored at the outermost pixels. Throws Error for an even kernel_size, one of which half is as large as the
/// image, or a sigma that is not positive and finite.
template <typename S>
Tensor<S> gaussian_blur(const Tensor<S>& image, Pair kernel_size, double sigma) {
  const char* const place = "gaussian_blur";
  detail::check_image(place, image.shape());
  detail::check_kernel(place, kernel_size);
  if (!(sigma > 0 && std::isfinite(sigma))) fail(place, "expected a positive sigma, got ", sigma);
  const Index H = image.dim(0), W = image.dim(1), C = image.dim(2);
  if (kernel_size.height / 2 >= H || kernel_size.width / 2 >= W) {
    fail(place, "expected half a kernel_size smaller than the image, got ", kernel_size, " (image is ", image.shape(),
         ")");
  }
  // Along the columns, then along the rows: a sum of whole rows, then of pixels.
  const auto add = [](Index count, S* sum, const S* x, S weight) {
    for (Index i = 0; i < count; ++i) sum[i] += weight * x[i];
  };
  const auto down = detail::gaussian_kernel<S>(kernel_size.height, sigma);
  const auto across = detail::gaussian_kernel<S>(kernel_size.width, sigma);
  Tensor<S> blurred(image.shape()), row(Shape{W, C});
  const S* const x = image.cdata();
  S *y = blurred.data(), *const sums = row.data();
  for (Index h = 0; h < H; ++h, y += W * C) {
    row.array().setZero();
    for (Index k = 0; k < kernel_size.height; ++k) {
      const Index from = detail::reflected(h + k - kernel_size.height / 2, H);
      add(W * C, sums, x + from * W * C, down[static_cast<std::size_t>(k)]);
    }
    for (Index w = 0; w < W; ++w) {
      for (Index k = 0; k < kernel_size.width; ++k) {
        const Index from = detail::reflected(w + k - kernel_size.width / 2, W);
        add(C, y + w * C, sums + from * C, across[static_cast<std::size_t>(k)]);
      }
    }
  }
  return blurred;
}

/// gaussian_blur with a sigma uniform between the two given. Throws Error as gaussian_blur does, and for sigmas that
/// are not 0 < first ≤ second.
struct GaussianBlur {
  Pair kernel_size;
  std::array<double, 2> sigma = {0.1, 2};

  template <typename S>
  Tensor<S> operator()(Tensor<S> image, Random& random) const {
    if (!(sigma[0] > 0 && sigma[0] <= sigma[1] && std::isfinite(sigma[1]))) {
      fail("GaussianBlur", "expected sigmas of which 0 < first <= second, got ", sigma[0], " and ", sigma[1]);
    }
    return gaussian_blur(image, kernel_size, random.uniform(sigma[0], sigma[1]));
  }
};

/// y = x + mean + sigma · normal, a draw for each number; with clip kept between 0 and 1, which is meant for images
/// before Normalize. Throws Error for a mean that is not finite, or a sigma that is negative or not finite.
struct GaussianNoise {
  double mean = 0, sigma = 0.1;
  bool clip = true;

  template <typename S>
  Tensor<S> operator()(Tensor<S> image, Random& random) const {
    detail::check_image("GaussianNoise", image.shape());
    if (!std::isfinite(mean)) fail("GaussianNoise", "expected a finite mean, got ", mean);
    if (!(sigma >= 0 && std::isfinite(sigma))) fail("GaussianNoise", "expected a sigma of at least 0, got ", sigma);
    for (S& x : image.array()) {
      x += static_cast<S>(random.normal(mean, sigma));
      if (clip) x = std::clamp(x, S(0), S(1));
    }
    return image;
  }
};

}  // namespace residua::inline RESIDUA_ABI
