// ColorJitter: images a little brighter, paler or of another hue; as torchvision does it, on numbers from 0 to 1.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>

#include <residua/data/randperm.hpp>
#include <residua/data/transforms.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

inline void check_colors(const char* place, const Shape& image) {
  check_image(place, image);
  if (image[2] != 1 && image[2] != 3) fail(place, "expected an image of 1 or 3 channels, got ", image);
}

inline void check_factor(const char* place, double factor) {
  if (!(factor >= 0 && std::isfinite(factor))) fail(place, "expected a finite factor of at least 0, got ", factor);
}

/// How light a pixel of one or three channels is.
template <typename S>
S gray(const S* x, Index channels) {
  return channels == 1 ? x[0] : S(0.2989) * x[0] + S(0.587) * x[1] + S(0.114) * x[2];
}

/// factor · x + (1 − factor) · other(pixel), kept between 0 and 1.
template <typename S, typename Other>
Tensor<S> blend(Tensor<S> image, double factor, Other&& other) {
  const S share = static_cast<S>(factor), rest = static_cast<S>(1 - factor);
  const Index C = image.features();
  S* x = image.data();
  for (Index p = 0; p < image.rows(); ++p, x += C) {
    const S beside = rest * other(x);
    for (Index c = 0; c < C; ++c) x[c] = std::clamp(share * x[c] + beside, S(0), S(1));
  }
  return image;
}

/// Turns the hue of one pixel, in place: its value and saturation stay.
template <typename S>
void turn_hue(S* x, S turn) {
  const S r = x[0], g = x[1], b = x[2];
  const S value = std::max({r, g, b}), range = value - std::min({r, g, b});
  const S saturation = range == 0 ? S(0) : range / value, divisor = range == 0 ? S(1) : range;
  const S to_r = (value - r) / divisor, to_g = (value - g) / divisor, to_b = (value - b) / divisor;
  S hue = value == r ? to_b - to_g : value == g ? S(2) + to_r - to_b : S(4) + to_g - to_r;
  hue = std::fmod(hue / S(6) + S(1), S(1)) + turn;
  hue -= std::floor(hue);

  const S sixth = std::floor(hue * S(6)), f = hue * S(6) - sixth;
  const auto within = [](S v) { return std::clamp(v, S(0), S(1)); };
  const S p = within(value * (S(1) - saturation)), q = within(value * (S(1) - saturation * f));
  const S t = within(value * (S(1) - saturation * (S(1) - f)));
  const auto set = [&](S red, S green, S blue) {
    x[0] = red;
    x[1] = green;
    x[2] = blue;
  };
  switch (static_cast<int>(sixth) % 6) {
    case 0: return set(value, t, p);
    case 1: return set(q, value, p);
    case 2: return set(p, value, t);
    case 3: return set(p, q, value);
    case 4: return set(t, p, value);
    default: return set(value, p, q);
  }
}

}  // namespace detail

/// y = factor · x, kept between 0 and 1. Throws Error for another number of channels than 1 or 3, or a factor that is
/// negative or not finite; so do the three below.
template <typename S>
Tensor<S> adjust_brightness(Tensor<S> image, double factor) {
  detail::check_colors("adjust_brightness", image.shape());
  detail::check_factor("adjust_brightness", factor);
  return detail::blend(std::move(image), factor, [](const S*) { return S(0); });
}

/// y = factor · x + (1 − factor) · m, kept between 0 and 1; m is the mean of the image in gray.
template <typename S>
Tensor<S> adjust_contrast(Tensor<S> image, double factor) {
  detail::check_colors("adjust_contrast", image.shape());
  detail::check_factor("adjust_contrast", factor);
  const Index C = image.features(), pixels = image.rows();
  const S* const x = image.cdata();
  double sum = 0;
  for (Index p = 0; p < pixels; ++p) sum += static_cast<double>(detail::gray(x + p * C, C));
  const S mean = static_cast<S>(sum / static_cast<double>(pixels));
  return detail::blend(std::move(image), factor, [mean](const S*) { return mean; });
}

/// y = factor · x + (1 − factor) · gray(x), kept between 0 and 1; images of one channel stay as they are.
template <typename S>
Tensor<S> adjust_saturation(Tensor<S> image, double factor) {
  detail::check_colors("adjust_saturation", image.shape());
  detail::check_factor("adjust_saturation", factor);
  const Index C = image.features();
  if (C == 1) return image;
  return detail::blend(std::move(image), factor, [C](const S* x) { return detail::gray(x, C); });
}

/// Turns the hue by `factor`, from −0.5 to 0.5 of the whole circle; images of one channel stay as they are.
template <typename S>
Tensor<S> adjust_hue(Tensor<S> image, double factor) {
  if (!(factor >= -0.5 && factor <= 0.5)) fail("adjust_hue", "expected a factor from -0.5 to 0.5, got ", factor);
  detail::check_colors("adjust_hue", image.shape());
  if (image.features() == 1) return image;
  S* x = image.data();
  for (Index p = 0; p < image.rows(); ++p, x += 3) detail::turn_hue(x, static_cast<S>(factor));
  return image;
}

/// Changes brightness, contrast, saturation and hue in random order, as torchvision's ColorJitter: the first three by
/// factors uniform in [max(0, 1 − b), 1 + b], the hue by a turn uniform in [−hue, hue]. What is 0 is left alone. For
/// images of 1 or 3 channels from 0 to 1, so before Normalize. Throws Error for options that are negative or not
/// finite, a hue above 0.5, or another number of channels.
struct ColorJitter {
  double brightness = 0, contrast = 0, saturation = 0, hue = 0;

  template <typename S>
  Tensor<S> operator()(Tensor<S> image, Random& random) const {
    for (const double strength : {brightness, contrast, saturation}) {
      if (!(strength >= 0 && std::isfinite(strength))) {
        fail("ColorJitter", "expected brightness, contrast and saturation of at least 0, got ", strength);
      }
    }
    if (!(hue >= 0 && hue <= 0.5)) fail("ColorJitter", "expected a hue from 0 to 0.5, got ", hue);
    detail::check_colors("ColorJitter", image.shape());
    const auto factor = [&](double strength) { return random.uniform(std::max(0.0, 1 - strength), 1 + strength); };
    for (const Index change : randperm(4, random)) {
      if (change == 0 && brightness > 0) image = adjust_brightness(std::move(image), factor(brightness));
      if (change == 1 && contrast > 0) image = adjust_contrast(std::move(image), factor(contrast));
      if (change == 2 && saturation > 0) image = adjust_saturation(std::move(image), factor(saturation));
      if (change == 3 && hue > 0) image = adjust_hue(std::move(image), random.uniform(-hue, hue));
    }
    return image;
  }
};

}  // namespace residua::inline RESIDUA_ABI
