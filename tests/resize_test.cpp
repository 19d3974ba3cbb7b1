// Resizing and cropping: byte for byte what PIL and torchvision compute.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include <residua/data/image_classification.hpp>
#include <residua/data/resize.hpp>

#include "errors.hpp"
#include "io/expected_images.hpp"

namespace {

using namespace residua;

Tensor<std::uint8_t> turned(const Tensor<std::uint8_t>& image) {  // by 90°, to the left
  Tensor<std::uint8_t> y(Shape{image.dim(1), image.dim(0), image.dim(2)});
  for (Index h = 0; h < y.dim(0); ++h) {
    for (Index w = 0; w < y.dim(1); ++w) {
      for (Index c = 0; c < y.dim(2); ++c) y(h, w, c) = image(w, y.dim(0) - 1 - h, c);
    }
  }
  return y;
}

TEST(Resize, EqualsPilAndTorchvision) {
  const auto images = expected_images();
  const Tensor<std::uint8_t> noise = images.at("noise.png");
  int checked = 0;
  for (const auto& [name, expected] : images) {
    std::istringstream words(name);
    std::string what, more;
    words >> what >> more;
    const auto mode = what == "bicubic" || more == "turned" ? InterpolationMode::bicubic : InterpolationMode::bilinear;
    const Pair size(expected.dim(0), expected.dim(1));
    Tensor<std::uint8_t> got;
    if (what == "bilinear" || what == "bicubic") {
      got = resize(noise, size, mode);
    } else if (what == "shorter") {
      got = resize_shorter_side(more == "turned" ? turned(noise) : noise, std::min(size.height, size.width), mode);
    } else if (what == "crop") {
      got = center_crop(noise, size);
    } else {
      continue;
    }
    EXPECT_EQ(got.shape(), expected.shape()) << name;
    EXPECT_TRUE(got == expected) << name;
    ++checked;
  }
  EXPECT_EQ(checked, 14 + 6 + 7);
}

TEST(Resize, TreatsEveryChannelAlike) {
  const Tensor<std::uint8_t> noise = expected_images().at("noise.png");
  const Tensor<std::uint8_t> all = resize(noise, {7, 5}, InterpolationMode::bicubic);
  Tensor<std::uint8_t> one(Shape{noise.dim(0), noise.dim(1), 1});
  one.matrix() = noise.cmatrix().col(1);
  const Tensor<std::uint8_t> alone = resize(one, {7, 5}, InterpolationMode::bicubic);
  EXPECT_EQ(alone.shape(), (Shape{7, 5, 1}));
  EXPECT_TRUE(alone.cmatrix() == all.cmatrix().col(1));
}

TEST(Resize, ToItsOwnSizeCopiesNothing) {
  const Tensor<std::uint8_t> noise = expected_images().at("noise.png");
  EXPECT_EQ(resize(noise, {10, 13}).cdata(), noise.cdata());
}

TEST(Resize, RefusesWhatIsNoImageOrNoSize) {
  const Tensor<std::uint8_t> image(Shape{4, 5, 3});
  expect_error([&] { resize(image.reshaped({20, 3}), 2); }, "resize: expected an image [H, W, C], got [20, 3]");
  expect_error([&] { resize(Tensor<std::uint8_t>(Shape{0, 5, 3}), 2); }, "expected an image [H, W, C]");
  expect_error([&] { resize(image, {2, 0}); }, "resize: expected size of at least 1, got (2, 0)");
  expect_error([&] { resize_shorter_side(image, -1); }, "resize_shorter_side: expected size of at least 1, got -1");
  expect_error([&] { center_crop(image, 0); }, "center_crop: expected size of at least 1, got (0, 0)");
}

TEST(ImageClassification, EqualsTorchvisionsPreset) {
  const ImageClassification preset{.crop_size = 9, .resize_size = 11};
  const Tensor<float> got = preset(expected_images().at("noise.png"));
  ASSERT_EQ(got.shape(), (Shape{1, 9, 9, 3}));
  Tensor<float> expected(got.shape());
  std::ifstream in(expected_folder / "preset.f32", std::ios::binary);
  in.read(reinterpret_cast<char*>(expected.data()), got.size() * static_cast<std::streamsize>(sizeof(float)));
  ASSERT_TRUE(in);
  EXPECT_TRUE(got == expected);
}

TEST(ImageClassification, HasTheSizesOfTheFirstWeights) {
  const Tensor<float> x = ImageClassification{}(Tensor<std::uint8_t>(Shape{300, 400, 3}, 255));
  EXPECT_EQ(x.shape(), (Shape{1, 224, 224, 3}));
  EXPECT_FLOAT_EQ(x(0, 0, 0, 2), (1.0f - 0.406f) / 0.225f);
  expect_error([] { ImageClassification{}(Tensor<std::uint8_t>(Shape{30, 40, 1})); },
               "Normalize: expected a mean and a std for each of 1 channels, got 3 and 3");
}

}  // namespace
