// Transforms: by hand, by what torchvision computes, and by how often they do what.
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/data/blur_and_noise.hpp>
#include <residua/data/color_jitter.hpp>
#include <residua/data/mix.hpp>
#include <residua/data/randperm.hpp>
#include <residua/data/transforms.hpp>

#include "errors.hpp"
#include "golden.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

/// (H, W, 1), each pixel 10 · row + column.
Tensor<float> numbered_image(Index height, Index width) {
  Tensor<float> image(Shape{height, width, 1});
  for (Index h = 0; h < height; ++h) {
    for (Index w = 0; w < width; ++w) image(h, w, 0) = static_cast<float>(10 * h + w);
  }
  return image;
}

TEST(Normalize, SubtractsTheMeanAndDivides) {
  Random rng(1);
  const Tensor<double> x(Shape{1, 2, 2}, std::vector<double>{1, 2, 3, 4});
  const Tensor<double> expected(Shape{1, 2, 2}, std::vector<double>{0, 0, 1, 4});
  EXPECT_EQ((Normalize{.mean = {1, 2}, .std = {2, 0.5}}(x, rng)), expected);
  EXPECT_EQ(message([&] { Normalize{.mean = {1}, .std = {1}}(x, rng); }),
            "Normalize: expected a mean and a std for each of 2 channels, got 1 and 1");
  const auto fails = [&](double std) {
    return message([&] { Normalize{.mean = {1, 2}, .std = {1, std}}(x, rng); });
  };
  EXPECT_EQ(fails(0), "Normalize: expected a positive std, got 0");
  EXPECT_EQ(fails(-1), "Normalize: expected a positive std, got -1");
  EXPECT_EQ(fails(nan), "Normalize: expected a positive std, got nan");
}

TEST(RandomHorizontalFlip, MirrorsColumns) {
  Random rng(1);
  const Tensor<float> flipped = RandomHorizontalFlip{.p = 1}(numbered_image(2, 3), rng);
  EXPECT_EQ(flipped, Tensor<float>(Shape{2, 3, 1}, std::vector<float>{2, 1, 0, 12, 11, 10}));
  EXPECT_EQ(RandomHorizontalFlip{.p = 0}(numbered_image(2, 3), rng), numbered_image(2, 3));
}

TEST(RandomHorizontalFlip, TellsWhatIsWrong) {
  Random rng(1);
  const auto fails = [&](double p) {
    return message([&] { RandomHorizontalFlip{.p = p}(numbered_image(2, 3), rng); });
  };
  EXPECT_EQ(fails(-0.5), "RandomHorizontalFlip: expected p from 0 to 1, got -0.5");
  EXPECT_EQ(fails(1.5), "RandomHorizontalFlip: expected p from 0 to 1, got 1.5");
  EXPECT_EQ(fails(nan), "RandomHorizontalFlip: expected p from 0 to 1, got nan");
}

TEST(Transforms, RefuseWhatIsNoImage) {
  Random rng(1);
  const auto fails = [&](const Transform<float>& transform, const Shape& shape) {
    return message([&] { transform(Tensor<float>(shape), rng); });
  };
  EXPECT_EQ(fails(Normalize{.mean = {0}, .std = {1}}, {2, 4, 4, 1}),
            "Normalize: expected an image [H, W, C], got [2, 4, 4, 1]");
  EXPECT_EQ(fails(RandomHorizontalFlip{.p = 0}, {4, 4}),
            "RandomHorizontalFlip: expected an image [H, W, C], got [4, 4]");
  EXPECT_EQ(fails(Cutout{.size = 1}, {4, 0, 1}), "Cutout: expected an image [H, W, C], got [4, 0, 1]");
  EXPECT_EQ(fails(RandomCrop{.size = 2}, {}), "RandomCrop: expected an image [H, W, C], got []");
}

TEST(RandomCrop, WithoutPaddingCutsEveryWindow) {
  Random rng(1);
  std::set<float> corners;
  for (int i = 0; i < 200; ++i) {
    const Tensor<float> crop = RandomCrop{.size = {2, 3}}(numbered_image(4, 5), rng);
    ASSERT_EQ(crop.shape(), (Shape{2, 3, 1}));
    const float corner = crop(0, 0, 0);
    corners.insert(corner);
    EXPECT_EQ(crop(1, 2, 0), corner + 12);
  }
  EXPECT_EQ(corners, (std::set<float>{0, 1, 2, 10, 11, 12, 20, 21, 22}));
}

TEST(RandomCrop, PadsWithZerosOrTheMirroredImage) {
  // With as much to spare as this, the window that begins in the padded corner is drawn soon.
  const auto corner_crop = [](PaddingMode mode) {
    for (std::uint64_t seed = 0;; ++seed) {
      Random rng(seed), same(seed);
      const Tensor<float> crop = RandomCrop{.size = 4, .padding = 2, .padding_mode = mode}(numbered_image(4, 4), rng);
      if (same.below(5) == 0 && same.below(5) == 0) return crop;
    }
  };
  const std::vector<float> zeros{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 10, 11};
  const std::vector<float> mirrored{22, 21, 20, 21, 12, 11, 10, 11, 2, 1, 0, 1, 12, 11, 10, 11};
  EXPECT_EQ(corner_crop(PaddingMode::zeros), Tensor<float>(Shape{4, 4, 1}, zeros));
  EXPECT_EQ(corner_crop(PaddingMode::reflect), Tensor<float>(Shape{4, 4, 1}, mirrored));
}

TEST(RandomCrop, TellsWhatIsWrong) {
  Random rng(1);
  const auto fails = [&](RandomCrop crop) { return message([&] { crop(numbered_image(4, 5), rng); }); };
  EXPECT_EQ(fails({.size = 6}),
            "RandomCrop: expected a size within the padded image, got (6, 6) with padding (0, 0) (image is [4, 5, 1])");
  EXPECT_EQ(fails({.size = 0}),
            "RandomCrop: expected a size within the padded image, got (0, 0) with padding (0, 0) (image is [4, 5, 1])");
  EXPECT_EQ(
      fails({.size = 2, .padding = -1}),
      "RandomCrop: expected a size within the padded image, got (2, 2) with padding (-1, -1) (image is [4, 5, 1])");
  EXPECT_EQ(fails({.size = 4, .padding = 4, .padding_mode = PaddingMode::reflect}),
            "RandomCrop: expected a reflected padding smaller than the image, got (4, 4) (image is [4, 5, 1])");
}

TEST(RandomCrop, CutsWindowsThatReachFarOutside) {
  std::set<float> corners;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Random rng(seed);
    Tensor<float> image = numbered_image(2, 2);
    image.array() += 1;
    const Tensor<float> crop = RandomCrop{.size = {1, 2}, .padding = 4}(image, rng);
    corners.insert(crop(0, 0, 0));
    const float left = crop(0, 0, 0), right = crop(0, 1, 0);
    EXPECT_TRUE(left == 0 || right == 0 || right == left + 1) << left << ' ' << right;
  }
  EXPECT_EQ(corners, (std::set<float>{0, 1, 2, 11, 12}));
}

TEST(Cutout, FillsASquareThatTheBorderMayCut) {
  const auto cut_at = [](Index row, Index column, const Cutout& cutout) {  // the first draw with that centre
    for (std::uint64_t seed = 0;; ++seed) {
      Random rng(seed), same(seed);
      if (same.below(4) != row || same.below(5) != column) continue;
      return cutout(Tensor<float>(Shape{4, 5, 1}, 1), rng);
    }
  };
  const auto image = [](const std::vector<float>& pixels) { return Tensor<float>(Shape{4, 5, 1}, pixels); };
  EXPECT_EQ(cut_at(1, 2, {.size = 2}), image({1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(cut_at(1, 2, {.size = 3}), image({1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(cut_at(0, 4, {.size = 3}), image({1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(cut_at(3, 0, {.size = 9, .value = {7}}), Tensor<float>(Shape{4, 5, 1}, 7));
}

TEST(Cutout, HasAValueForEachChannel) {
  Random rng(1);
  const Tensor<float> filled = Cutout{.size = 3, .value = {2, 3}}(Tensor<float>(Shape{1, 1, 2}), rng);
  EXPECT_EQ(filled, Tensor<float>(Shape{1, 1, 2}, std::vector<float>{2, 3}));
  const auto fails = [&](const Cutout& cutout) { return message([&] { cutout(numbered_image(2, 3), rng); }); };
  EXPECT_EQ(fails({}), "Cutout: expected size of at least 1, got 0");
  EXPECT_EQ(fails({.size = -1}), "Cutout: expected size of at least 1, got -1");
  EXPECT_EQ(fails({.size = 1, .value = {1, 2}}), "Cutout: expected a value for each of 1 channels, got 2");
}

// --- torchvision's numbers -------------------------------------------------------------------------------------------

template <typename S>
class Torchvision : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Torchvision, Scalars);

TYPED_TEST(Torchvision, ComputesTheSame) {
  using S = TypeParam;
  golden::Cases<S> cases("transforms", "");
  const auto check = [&](const std::string& name, auto&& transform) {
    cases.begin(name);
    const Tensor<S> x = cases.at("x").template cast<S>();
    cases.compare("y", transform(x), golden::for_outputs<S>);
    EXPECT_TRUE(golden::agree(x, cases.at("x"), {})) << name << " changes an image it shares";
  };
  for (const std::string kind : {"color_", "gray_"}) {
    const auto check_factor = [&](const std::string& text, double factor) {
      check("brightness_" + kind + text, [&](Tensor<S> x) { return adjust_brightness(x, factor); });
      check("contrast_" + kind + text, [&](Tensor<S> x) { return adjust_contrast(x, factor); });
      check("saturation_" + kind + text, [&](Tensor<S> x) { return adjust_saturation(x, factor); });
    };
    const auto check_hue = [&](const std::string& text, double turn) {
      check("hue_" + kind + text, [&](Tensor<S> x) { return adjust_hue(x, turn); });
    };
    check_factor("0", 0);
    check_factor("0.5", 0.5);
    check_factor("1.75", 1.75);
    check_hue("-0.5", -0.5);
    check_hue("-0.125", -0.125);
    check_hue("0.0", 0);
    check_hue("0.25", 0.25);
  }
  const auto check_blur = [&](const std::string& name, Pair kernel_size, double sigma) {
    check("blur_" + name, [&](Tensor<S> x) { return gaussian_blur(x, kernel_size, sigma); });
  };
  check_blur("3x3_0.75", 3, 0.75);
  check_blur("5x3_2.0", {5, 3}, 2);
  check_blur("1x7_0.25", {1, 7}, 0.25);
  check_blur("11x9_1.5", {11, 9}, 1.5);
  check_blur("3x5_1.0", {3, 5}, 1);
}

// --- colors ----------------------------------------------------------------------------------------------------------

/// (5, 4, 3), from 0.2 to 0.6: no change below a factor of 1.5 meets a bound.
Tensor<double> colors() {
  Random rng(3);
  Tensor<double> image(Shape{5, 4, 3});
  for (double& x : image.array()) x = rng.uniform(0.2, 0.6);
  return image;
}

TEST(ColorJitter, DrawsItsFactorsUniformlyAroundOne) {
  const Tensor<double> image(Shape{1, 1, 1}, 0.25);
  double sum = 0, least = 10, most = 0;
  Random rng(1);
  for (int i = 0; i < 2000; ++i) {
    const double factor = ColorJitter{.brightness = 0.5}(image, rng)(0, 0, 0) / 0.25;
    sum += factor;
    least = std::min(least, factor);
    most = std::max(most, factor);
  }
  EXPECT_NEAR(sum / 2000, 1, 0.03);
  EXPECT_GE(least, 0.5);
  EXPECT_LE(most, 1.5);
  EXPECT_NEAR(least, 0.5, 0.01);
  EXPECT_NEAR(most, 1.5, 0.01);
  for (int i = 0; i < 200; ++i) EXPECT_GE((ColorJitter{.brightness = 3}(image, rng)(0, 0, 0)), 0);
}

TEST(ColorJitter, ChangesWhatItIsAskedTo) {
  Random rng(1);
  const auto mean_gray = [](const Tensor<double>& x) {
    return (0.2989 * x.cmatrix().col(0) + 0.587 * x.cmatrix().col(1) + 0.114 * x.cmatrix().col(2)).mean();
  };
  const auto gray_of = [](const Tensor<double>& x, Index p) {
    return 0.2989 * x.cmatrix()(p, 0) + 0.587 * x.cmatrix()(p, 1) + 0.114 * x.cmatrix()(p, 2);
  };
  const Tensor<double> image = colors();
  EXPECT_EQ(ColorJitter{}(image, rng), image);
  const Tensor<double> contrast = ColorJitter{.contrast = 0.4}(image, rng);
  EXPECT_NE(contrast, image);
  EXPECT_NEAR(mean_gray(contrast), mean_gray(image), 1e-4);
  const Tensor<double> saturation = ColorJitter{.saturation = 0.4}(image, rng);
  EXPECT_NE(saturation, image);
  for (Index p = 0; p < 20; ++p) EXPECT_NEAR(gray_of(saturation, p), gray_of(image, p), 1e-4);
  const Tensor<double> hue = ColorJitter{.hue = 0.4}(image, rng);
  EXPECT_NE(hue, image);
  for (Index p = 0; p < 20; ++p) {
    EXPECT_NEAR(hue.cmatrix().row(p).maxCoeff(), image.cmatrix().row(p).maxCoeff(), 1e-12);
    EXPECT_NEAR(hue.cmatrix().row(p).minCoeff(), image.cmatrix().row(p).minCoeff(), 1e-12);
  }
}

TEST(ColorJitter, ChangesInTheOrderItDraws) {
  std::set<std::vector<Index>> orders;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random rng(seed), same(seed);
    const auto order = randperm(4, same);
    orders.insert(order);
    Tensor<double> expected = colors();
    for (const Index change : order) {
      if (change == 0) expected = adjust_brightness(expected, same.uniform(0.1, 1.9));
      if (change == 1) expected = adjust_contrast(expected, same.uniform(0, 3));
      if (change == 2) expected = adjust_saturation(expected, same.uniform(0.5, 1.5));
      if (change == 3) expected = adjust_hue(expected, same.uniform(-0.1, 0.1));
    }
    const ColorJitter jitter{.brightness = 0.9, .contrast = 2, .saturation = 0.5, .hue = 0.1};
    EXPECT_TRUE(golden::agree(jitter(colors(), rng), expected, {.absolute = 1e-12}));
  }
  EXPECT_EQ(orders.size(), 24u);
}

TEST(ColorJitter, TellsWhatIsWrong) {
  Random rng(1);
  const auto fails = [&](const ColorJitter& jitter, const Shape& shape = {2, 2, 3}) {
    return message([&] { jitter(Tensor<float>(shape), rng); });
  };
  const std::string strengths = "ColorJitter: expected brightness, contrast and saturation of at least 0, got ";
  EXPECT_EQ(fails({.brightness = -1}), strengths + "-1");
  EXPECT_EQ(fails({.contrast = nan}), strengths + "nan");
  EXPECT_EQ(fails({.saturation = infinity}), strengths + "inf");
  EXPECT_EQ(fails({.hue = 0.6}), "ColorJitter: expected a hue from 0 to 0.5, got 0.6");
  EXPECT_EQ(fails({.hue = nan}), "ColorJitter: expected a hue from 0 to 0.5, got nan");
  EXPECT_EQ(fails({}, {2, 2, 4}), "ColorJitter: expected an image of 1 or 3 channels, got [2, 2, 4]");
  EXPECT_EQ(fails({}, {2, 2}), "ColorJitter: expected an image [H, W, C], got [2, 2]");
  EXPECT_EQ(message([] { adjust_contrast(colors(), -1); }),
            "adjust_contrast: expected a finite factor of at least 0, got -1");
  EXPECT_EQ(message([] { adjust_brightness(colors(), infinity); }),
            "adjust_brightness: expected a finite factor of at least 0, got inf");
  EXPECT_EQ(message([] { adjust_saturation(colors(), nan); }),
            "adjust_saturation: expected a finite factor of at least 0, got nan");
  EXPECT_EQ(message([] { adjust_hue(colors(), 0.75); }), "adjust_hue: expected a factor from -0.5 to 0.5, got 0.75");
  EXPECT_EQ(message([] { adjust_hue(Tensor<float>(Shape{2, 2, 2}), 0); }),
            "adjust_hue: expected an image of 1 or 3 channels, got [2, 2, 2]");
}

// --- blur and noise --------------------------------------------------------------------------------------------------

TEST(GaussianBlur, DrawsASigmaAndKeepsAConstantImage) {
  Random rng(1);
  const Tensor<double> even = GaussianBlur{.kernel_size = 5}(Tensor<double>(Shape{6, 7, 2}, 0.5), rng);
  for (const double x : even.carray()) EXPECT_NEAR(x, 0.5, 1e-15);
  const Tensor<double> image = colors();
  EXPECT_EQ((GaussianBlur{.kernel_size = 3, .sigma = {0.5, 0.5}}(image, rng)), gaussian_blur(image, 3, 0.5));
  EXPECT_EQ(gaussian_blur(image, 3, 1e-300), image);
  const GaussianBlur blur{.kernel_size = 3};
  const Tensor<double> once = blur(image, rng), again = blur(image, rng);
  EXPECT_NE(once, again);
}

TEST(GaussianBlur, TellsWhatIsWrong) {
  Random rng(1);
  const auto fails = [&](const GaussianBlur& blur) { return message([&] { blur(colors(), rng); }); };
  const std::string sigmas = "GaussianBlur: expected sigmas of which 0 < first <= second, got ";
  EXPECT_EQ(fails({.kernel_size = 3, .sigma = {0, 1}}), sigmas + "0 and 1");
  EXPECT_EQ(fails({.kernel_size = 3, .sigma = {2, 1}}), sigmas + "2 and 1");
  EXPECT_EQ(fails({.kernel_size = 3, .sigma = {1, nan}}), sigmas + "1 and nan");
  EXPECT_EQ(fails({.kernel_size = 3, .sigma = {1, infinity}}), sigmas + "1 and inf");
  EXPECT_EQ(fails({}), "gaussian_blur: expected kernel_size of at least 1, got (0, 0)");
  EXPECT_EQ(fails({.kernel_size = {3, 4}}), "gaussian_blur: expected an odd kernel_size, got (3, 4)");
  EXPECT_EQ(fails({.kernel_size = {3, 9}}),
            "gaussian_blur: expected half a kernel_size smaller than the image, got (3, 9) (image is [5, 4, 3])");
  EXPECT_EQ(message([] { gaussian_blur(colors(), 3, nan); }), "gaussian_blur: expected a positive sigma, got nan");
}

TEST(GaussianNoise, AddsNormalNumbers) {
  Random rng(1);
  const Tensor<double> grey(Shape{50, 40, 3}, 0.5);
  const Tensor<double> noisy = GaussianNoise{.mean = 0.1, .sigma = 0.2, .clip = false}(grey, rng);
  const double mean = noisy.carray().mean(), variance = (noisy.carray() - mean).square().mean();
  EXPECT_NEAR(mean, 0.6, 0.01);
  EXPECT_NEAR(std::sqrt(variance), 0.2, 0.01);
  EXPECT_GT(noisy.carray().maxCoeff(), 1);
  const Tensor<double> clipped = GaussianNoise{.sigma = 1}(grey, rng);
  EXPECT_EQ(clipped.carray().minCoeff(), 0);
  EXPECT_EQ(clipped.carray().maxCoeff(), 1);
  const auto fails = [&](const GaussianNoise& noise) { return message([&] { noise(grey, rng); }); };
  EXPECT_EQ(fails({.mean = nan}), "GaussianNoise: expected a finite mean, got nan");
  EXPECT_EQ(fails({.sigma = -1}), "GaussianNoise: expected a sigma of at least 0, got -1");
  EXPECT_EQ(fails({.sigma = infinity}), "GaussianNoise: expected a sigma of at least 0, got inf");
}

// --- mixing ----------------------------------------------------------------------------------------------------------

/// Three images of 8×6×2, all numbers of image n being 10ⁿ, with labels 2, 0, 2.
Batch<double> powers() {
  Batch<double> batch{Tensor<double>(Shape{3, 8, 6, 2}), {2, 0, 2}};
  for (Index n = 0; n < 3; ++n) batch.inputs.array().segment(96 * n, 96) = std::pow(10.0, n);
  return batch;
}

TEST(MixUp, BlendsEachInputWithTheOneBeforeIt) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Random rng(seed), same(seed);
    const double share = same.beta(0.4, 0.4);
    const auto [images, targets] = MixUp{.alpha = 0.4, .num_classes = 4}(powers(), rng);
    ASSERT_EQ(targets.shape(), (Shape{3, 4}));
    for (Index n = 0; n < 3; ++n) {
      const double wanted = share * std::pow(10.0, n) + (1 - share) * std::pow(10.0, (n + 2) % 3);
      for (const double x : images.carray().segment(96 * n, 96)) EXPECT_NEAR(x, wanted, 1e-12);
    }
    const Tensor<double> expected(
        Shape{3, 4}, std::vector<double>{0, 0, 1, 0, share, 0, 1 - share, 0, 1 - share, 0, share, 0});
    EXPECT_TRUE(golden::agree(targets, expected, {.absolute = 1e-15}));
  }
}

TEST(CutMix, PastesARectangleAndSharesTheTargetsByArea) {
  std::set<double> shares;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Random rng(seed), same(seed);
    const double drawn = same.beta(1, 1);
    const auto [images, targets] = CutMix{.num_classes = 3}(powers(), rng);
    Index pasted = 0, top = 8, bottom = -1, left = 6, right = -1;
    for (Index h = 0; h < 8; ++h) {
      for (Index w = 0; w < 6; ++w) {
        const bool from_last = images(0, h, w, 0) == 100;
        EXPECT_EQ(images(0, h, w, 1), from_last ? 100 : 1);
        EXPECT_EQ(images(1, h, w, 0), from_last ? 1 : 10);
        EXPECT_EQ(images(2, h, w, 1), from_last ? 10 : 100);
        if (!from_last) continue;
        ++pasted;
        top = std::min(top, h);
        bottom = std::max(bottom, h);
        left = std::min(left, w);
        right = std::max(right, w);
      }
    }
    if (pasted > 0) {
      EXPECT_EQ(pasted, (bottom - top + 1) * (right - left + 1)) << "not a rectangle";
    }
    EXPECT_LE(static_cast<double>(pasted), (1 - drawn) * 48);
    const double share = 1 - static_cast<double>(pasted) / 48;
    const Tensor<double> expected(Shape{3, 3}, std::vector<double>{0, 0, 1, share, 0, 1 - share, 1 - share, 0, share});
    EXPECT_TRUE(golden::agree(targets, expected, {.absolute = 1e-15}));
    shares.insert(share);
  }
  EXPECT_GT(shares.size(), 10u);
}

TEST(Mixing, LeavesABatchThatOthersHoldAsItIs) {
  const Batch<double> batch = powers();
  Random rng(2);
  MixUp{.num_classes = 3}(batch, rng);
  CutMix{.num_classes = 3}(batch, rng);
  EXPECT_EQ(batch.inputs, powers().inputs);
  const auto [images, targets] = CutMix{.num_classes = 3}(Batch<double>{Tensor<double>(Shape{1, 2, 2, 1}), {1}}, rng);
  EXPECT_TRUE(golden::agree(targets, Tensor<double>(Shape{1, 3}, std::vector<double>{0, 1, 0}), {.absolute = 1e-15}));
}

TEST(Mixing, TellsWhatIsWrong) {
  Random rng(1);
  const auto fails = [&](auto mix, Batch<double> batch) { return message([&] { mix(batch, rng); }); };
  EXPECT_EQ(fails(MixUp{.alpha = 0, .num_classes = 3}, powers()), "MixUp: expected a positive alpha, got 0");
  EXPECT_EQ(fails(MixUp{.alpha = nan, .num_classes = 3}, powers()), "MixUp: expected a positive alpha, got nan");
  EXPECT_EQ(fails(CutMix{.alpha = infinity, .num_classes = 3}, powers()), "CutMix: expected a positive alpha, got inf");
  EXPECT_EQ(fails(MixUp{}, powers()), "MixUp: expected num_classes of at least 1, got 0");
  EXPECT_EQ(fails(CutMix{.num_classes = 2}, powers()), "CutMix: expected labels from 0 to 1, got 2");
  EXPECT_EQ(fails(MixUp{.num_classes = 3}, {powers().inputs, {0, -1, 1}}),
            "MixUp: expected labels from 0 to 2, got -1");
  EXPECT_EQ(fails(MixUp{.num_classes = 3}, {powers().inputs, {0, 1}}),
            "MixUp: expected a label for each input, got 2 (inputs are [3, 8, 6, 2])");
  EXPECT_EQ(fails(CutMix{.num_classes = 3}, {Tensor<double>(Shape{3, 4}), {0, 1, 2}}),
            "CutMix: expected images [N, H, W, C], got [3, 4]");
}

TEST(Beta, HasItsMeanAndVariance) {
  for (const auto& [a, b] : {std::pair{1.0, 1.0}, {0.2, 0.2}, {0.5, 2.0}, {5.0, 3.0}, {200.0, 100.0}, {1e-3, 1e-3}}) {
    constexpr int count = 20'000;
    Random rng(7);
    double sum = 0, squares = 0;
    for (int i = 0; i < count; ++i) {
      const double x = rng.beta(a, b);
      ASSERT_TRUE(x >= 0 && x <= 1) << x;
      sum += x;
      squares += x * x;
    }
    const double mean = a / (a + b), variance = a * b / ((a + b) * (a + b) * (a + b + 1));
    const double got = sum / count;
    EXPECT_NEAR(got, mean, 4 * std::sqrt(variance / count)) << a << ", " << b;
    EXPECT_NEAR(squares / count - got * got, variance, 0.05 * variance) << a << ", " << b;
  }
}

TEST(Beta, TellsWhatIsWrong) {
  const auto fails = [](double a, double b) { return message([&] { Random(1).beta(a, b); }); };
  const std::string rule = "Random: expected positive parameters of a beta distribution, got ";
  EXPECT_EQ(fails(0, 1), rule + "0 and 1");
  EXPECT_EQ(fails(1, -2), rule + "1 and -2");
  EXPECT_EQ(fails(nan, 1), rule + "nan and 1");
  EXPECT_EQ(fails(1, infinity), rule + "1 and inf");
}

TEST(Beta, OfOneAndOneIsUniform) {
  Random rng(3);
  std::vector<int> counts(10);
  for (int i = 0; i < 10'000; ++i) ++counts[static_cast<std::size_t>(std::min(9.0, 10 * rng.beta(1, 1)))];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 120);
}

}  // namespace
