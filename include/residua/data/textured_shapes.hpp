// A set of images that needs no download: textured shapes on cluttered grounds.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <residua/core/random.hpp>
#include <residua/core/threads.hpp>
#include <residua/data/dataset.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

using Color = std::array<double, 3>;

inline Color random_color(Random& random) { return {random.uniform(), random.uniform(), random.uniform()}; }

/// A place and a direction in the image: turns pixels into coordinates of its own, in units of `unit` pixels.
struct Frame {
  double center_x, center_y, cos, sin, unit;

  static Frame random(Random& random, double least, double most, double unit) {
    const double angle = random.uniform(0, 2 * std::numbers::pi);
    return {random.uniform(least, most), random.uniform(least, most), std::cos(angle), std::sin(angle), unit};
  }
  std::array<double, 2> operator()(Index row, Index column) const {
    const double x = static_cast<double>(column) - center_x, y = static_cast<double>(row) - center_y;
    return {(cos * x + sin * y) / unit, (cos * y - sin * x) / unit};
  }
};

/// Whether (x, y) lies in disc, square, triangle, cross or ring, each about one unit in radius.
inline bool inside_shape(Index shape, double x, double y) {
  const double r = std::hypot(x, y);
  const double longer = std::max(std::abs(x), std::abs(y)), shorter = std::min(std::abs(x), std::abs(y));
  switch (shape) {
    case 0: return r < 0.9;
    case 1: return longer < 0.8;
    case 2: return std::max(-y, 0.5 * y + 0.866 * std::abs(x)) < 0.55;
    case 3: return longer < 1 && shorter < 0.33;
    default: return r < 1 && r > 0.55;
  }
}

/// Whether (x, y) lies on one of the stripes, or one of the dots, which repeat after every unit.
inline bool inside_texture(Index texture, double x, double y) {
  const double wave_x = std::cos(2 * std::numbers::pi * x), wave_y = std::cos(2 * std::numbers::pi * y);
  return texture == 0 ? wave_x > 0 : wave_x + wave_y > 0.4;
}

inline void draw_textured_shape(Index label, Random random, std::uint8_t* pixels) {
  constexpr Index side = 32;
  constexpr double full = side - 1;
  std::array<Color, side * side> image;
  const auto paint = [&](auto color_at) {  // color_at: row, column, color there → new color
    for (Index p = 0; p < side * side; ++p) {
      Color& color = image[static_cast<std::size_t>(p)];
      color = color_at(p / side, p % side, color);
    }
  };

  // The ground runs from one color to another.
  const Color ground = random_color(random), far_ground = random_color(random);
  const Frame slope = Frame::random(random, 0, full, side);
  paint([&](Index row, Index column, Color color) {
    const double t = std::clamp(slope(row, column)[0] + 0.5, 0.0, 1.0);
    for (std::size_t c = 0; c < 3; ++c) color[c] = ground[c] + t * (far_ground[c] - ground[c]);
    return color;
  });

  // Clutter: five short bars anywhere.
  for (int bar = 0; bar < 5; ++bar) {
    const Frame frame = Frame::random(random, 0, full, random.uniform(2, 5));
    const Color color = random_color(random);
    paint([&](Index row, Index column, Color below) {
      const auto [x, y] = frame(row, column);
      return std::abs(x) < 1 && std::abs(y) < 0.3 ? color : below;
    });
  }

  // The shape, its texture in two colors that differ clearly in every channel.
  const Frame frame = Frame::random(random, 11, 20, random.uniform(8, 11));
  const Frame weave = Frame::random(random, 0, full, random.uniform(4, 5.5));
  Color light, dark;
  for (std::size_t c = 0; c < 3; ++c) {
    dark[c] = random.uniform(0, 0.6);
    light[c] = dark[c] + random.uniform(0.3, 0.4);
  }
  paint([&](Index row, Index column, Color below) {
    const auto [x, y] = frame(row, column);
    if (!inside_shape(label / 2, x, y)) return below;
    const auto [u, v] = weave(row, column);
    return inside_texture(label % 2, u, v) ? light : dark;
  });

  for (const Color& color : image) {
    for (double channel : color) {
      const double noisy = std::clamp(channel + random.normal(0, 0.05), 0.0, 1.0);
      *pixels++ = static_cast<std::uint8_t>(std::lround(255 * noisy));
    }
  }
}

}  // namespace detail

/// Draws `count` images of 32×32×3 in ten classes: disc, square, triangle, cross and ring, each striped or dotted, of
/// any place, size, direction and color, with clutter and noise. A linear model of the pixels learns next to nothing
/// here; a small residual network tells them apart. Image i depends on `random` and i alone. Throws
/// Error for a negative count.
inline ImageDataset textured_shapes(Index count, const Random& random) {
  if (count < 0) fail("textured_shapes", "expected a count of at least 0, got ", count);
  ImageDataset data;
  for (const char* shape : {"disc", "square", "triangle", "cross", "ring"}) {
    for (const char* texture : {"striped ", "dotted "}) data.classes.push_back(std::string(texture) + shape);
  }
  data.images = Tensor<std::uint8_t>(Shape{count, 32, 32, 3}, uninitialized);
  data.labels.resize(static_cast<std::size_t>(count));
  std::uint8_t* const pixels = data.images.data();
  parallel_for(count, [&](Index i) {
    Random own = random.split(static_cast<std::uint64_t>(i));
    const Index label = own.below(10);
    data.labels[static_cast<std::size_t>(i)] = label;
    detail::draw_textured_shape(label, own, pixels + i * 32 * 32 * 3);
  });
  return data;
}

}  // namespace residua::inline RESIDUA_ABI
