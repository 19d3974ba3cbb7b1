// Datasets, transforms and batches: files read right or refused, the same draws whatever the order and the threads.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include <residua/core/layer.hpp>
#include <residua/data/batches.hpp>
#include <residua/data/cifar.hpp>
#include <residua/data/textured_shapes.hpp>
#include <residua/layers/linear.hpp>
#include <residua/loss/cross_entropy.hpp>
#include <residua/optim/sgd.hpp>

#include "errors.hpp"

namespace {

using namespace residua;
namespace fs = std::filesystem;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// --- CIFAR -----------------------------------------------------------------------------------------------------------

/// A folder that is gone at the end of the test.
class Cifar : public testing::Test {
 protected:
  Cifar() { fs::create_directories(folder_); }
  ~Cifar() override { fs::remove_all(folder_); }

  /// A file of zeros: a black picture with label 0 in each record.
  void write_zeros(const std::string& name, std::uintmax_t bytes) const {
    std::ofstream(folder_ / name).close();
    fs::resize_file(folder_ / name, bytes);
  }
  void overwrite(const std::string& name, std::streamoff at, const std::vector<int>& bytes) const {
    std::fstream file(folder_ / name, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(at);
    for (int byte : bytes) file.put(static_cast<char>(byte));
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  static constexpr std::uintmax_t ten = 10'000 * 3073, hundred = 10'000 * 3074;
  const fs::path folder_ = fs::temp_directory_path() / ("residua_cifar_test_" + std::to_string(getpid()));
};

TEST_F(Cifar, ReadsLabelsAndTurnsPlanesIntoPixels) {
  write_zeros("test_batch.bin", ten);
  overwrite("test_batch.bin", 0, {9, 11, 12});       // label; red of the first two pixels
  overwrite("test_batch.bin", 1 + 1024, {21, 22});   // green
  overwrite("test_batch.bin", 1 + 2048, {31, 255});  // blue
  overwrite("test_batch.bin", 9'999 * 3073, {3});
  overwrite("test_batch.bin", 10'000 * 3073 - 1, {77});  // blue of the last pixel of all
  const ImageDataset data = read_cifar10(folder_, Split::test);
  ASSERT_EQ(data.images.shape(), (Shape{10'000, 32, 32, 3}));
  ASSERT_EQ(data.size(), 10'000);
  EXPECT_EQ(data.labels[0], 9);
  EXPECT_EQ(data.labels[1], 0);
  EXPECT_EQ(data.labels[9'999], 3);
  EXPECT_EQ(data.images(0, 0, 0, 0), 11);
  EXPECT_EQ(data.images(0, 0, 0, 1), 21);
  EXPECT_EQ(data.images(0, 0, 0, 2), 31);
  EXPECT_EQ(data.images(0, 0, 1, 0), 12);
  EXPECT_EQ(data.images(0, 0, 1, 2), 255);
  EXPECT_EQ(data.images(9'999, 31, 31, 2), 77);
  EXPECT_EQ(data.classes.size(), 10u);
  EXPECT_EQ(data.classes[9], "truck");
}

TEST_F(Cifar, TrainsOnFiveFilesInTheirOrder) {
  for (int i = 1; i <= 5; ++i) {
    const std::string name = "data_batch_" + std::to_string(i) + ".bin";
    write_zeros(name, ten);
    overwrite(name, 0, {i});
  }
  const ImageDataset data = read_cifar10(folder_, Split::train);
  ASSERT_EQ(data.size(), 50'000);
  for (Index i = 0; i < 5; ++i) EXPECT_EQ(data.labels[static_cast<std::size_t>(10'000 * i)], i + 1);
}

TEST_F(Cifar, OfAHundredClassesHasCoarseAndFineLabels) {
  write_zeros("test.bin", hundred);
  overwrite("test.bin", 3074, {19, 99, 5});
  const Cifar100 data = read_cifar100(folder_, Split::test);
  ASSERT_EQ(data.size(), 10'000);
  EXPECT_EQ(data.coarse_labels[1], 19);
  EXPECT_EQ(data.labels[1], 99);
  EXPECT_EQ(data.images(1, 0, 0, 0), 5);
  EXPECT_EQ(data.classes.size(), 100u);
  EXPECT_EQ(data.coarse_classes.size(), 20u);
  EXPECT_TRUE(std::is_sorted(data.classes.begin(), data.classes.end()));
}

TEST_F(Cifar, TellsWhatIsWrong) {
  const auto fails = [&] { return message([&] { read_cifar10(folder_, Split::test); }); };
  const std::string file = path("test_batch.bin"), size = ": expected 30730000 bytes (10000 records of 3073), got ";
  EXPECT_EQ(message([&] { read_cifar10(folder_ / "nowhere", Split::test); }),
            path("nowhere") + ": expected a folder, got: No such file or directory");
  EXPECT_EQ(fails(), file + ": expected a CIFAR file in binary format, got: No such file or directory");
  write_zeros("test_batch.bin", ten - 1);
  EXPECT_EQ(fails(), file + size + "30729999");
  write_zeros("test_batch.bin", ten + 3073);
  EXPECT_EQ(fails(), file + size + "30733073");
  write_zeros("test_batch.bin", 0);
  EXPECT_EQ(fails(), file + size + "0");
  write_zeros("test_batch.bin", ten);
  overwrite("test_batch.bin", 7 * 3073, {10});
  EXPECT_EQ(fails(), file + ": expected labels from 0 to 9, got 10 in record 7");
  write_zeros("test.bin", hundred);
  overwrite("test.bin", 0, {20, 3});
  EXPECT_EQ(message([&] { read_cifar100(folder_, Split::test); }),
            path("test.bin") + ": expected labels from 0 to 19, got 20 in record 0");
  EXPECT_EQ(message([&] { read_cifar10(file, Split::test); }), file + ": expected a folder, got: something else");
}

TEST_F(Cifar, TellsWhyAFolderOrFileCannotBeLookedAt) {
  const auto fails = [](const fs::path& folder) { return message([&] { read_cifar10(folder, Split::test); }); };
  const std::string endless(300, 'x');
  EXPECT_EQ(fails(folder_ / endless), path(endless) + ": expected a folder, got: File name too long");
  fs::create_symlink("test_batch.bin", folder_ / "test_batch.bin");
  EXPECT_EQ(fails(folder_), path("test_batch.bin") +
                                ": expected a CIFAR file in binary format, got: Too many levels of symbolic links");
}

TEST_F(Cifar, TellsThatAFolderMayNotBeRead) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read everything";
  const fs::path locked = folder_ / "locked";
  fs::create_directories(locked / "data");
  fs::permissions(locked, fs::perms::none);
  EXPECT_EQ(message([&] { read_cifar10(locked, Split::test); }),
            path("locked/test_batch.bin") + ": expected a CIFAR file in binary format, got: Permission denied");
  EXPECT_EQ(message([&] { read_cifar10(locked / "data", Split::test); }),
            path("locked/data") + ": expected a folder, got: Permission denied");
  fs::permissions(locked, fs::perms::owner_all);
}

TEST_F(Cifar, AsksForNoMemoryBeforeItSeesTheFiles) {
  for (int i = 1; i <= 5; ++i) write_zeros("data_batch_" + std::to_string(i) + ".bin", i < 5 ? ten : ten - 1);
  release_memory();  // the peak begins anew
  const auto before = memory_statistics().peak;
  EXPECT_NE(message([&] { read_cifar10(folder_, Split::train); }), "no error");
  EXPECT_EQ(memory_statistics().peak, before);
}

TEST(RealCifar10, HasAThousandTestImagesOfEachClass) {
  const char* data_folder = std::getenv("RESIDUA_DATA");
  if (data_folder == nullptr) GTEST_SKIP() << "RESIDUA_DATA is not set";
  const ImageDataset data = read_cifar10(fs::path(data_folder) / "cifar-10-batches-bin", Split::test);
  for (Index label = 0; label < 10; ++label) EXPECT_EQ(std::count(data.labels.begin(), data.labels.end(), label), 1000);
  const double mean = data.images.carray().cast<double>().mean() / 255;
  EXPECT_NEAR(mean, 0.476, 0.01);
}

// --- transforms ------------------------------------------------------------------------------------------------------

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
  EXPECT_EQ(fails(RandomHorizontalFlip{.p = 0}, {4, 4}), "RandomHorizontalFlip: expected an image [H, W, C], got [4, 4]");
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

// --- batches ---------------------------------------------------------------------------------------------------------

/// `count` images of 4×4×1, all pixels of image i being i, which is its label too.
ImageDataset numbered_images(Index count) {
  ImageDataset data{
      Tensor<std::uint8_t>(Shape{count, 4, 4, 1}), std::vector<Index>(static_cast<std::size_t>(count)), {}};
  for (Index i = 0; i < count; ++i) {
    data.images.array().segment(16 * i, 16) = static_cast<std::uint8_t>(i);
    data.labels[static_cast<std::size_t>(i)] = i;
  }
  return data;
}

std::vector<Index> all_labels(const Batches<float>& batches) {
  std::vector<Index> labels;
  for (const auto& batch : batches) labels.insert(labels.end(), batch.labels.begin(), batch.labels.end());
  return labels;
}

TEST(ImageDataset, FirstTakesTheBeginning) {
  const ImageDataset data = numbered_images(5), two = data.first(2);
  EXPECT_EQ(two.labels, (std::vector<Index>{0, 1}));
  EXPECT_EQ(two.images.shape(), (Shape{2, 4, 4, 1}));
  EXPECT_EQ(two.images(1, 3, 3, 0), 1);
  EXPECT_EQ(message([&] { data.first(6); }), "ImageDataset: expected a count from 0 to 5, got 6");
}

TEST(Batches, InOrderKeepAPartialLastOne) {
  const ImageDataset data = numbered_images(7);
  const Batches<float> batches(data, {.batch_size = 3}, Random(1));
  ASSERT_EQ(batches.size(), 3);
  EXPECT_EQ(all_labels(batches), (std::vector<Index>{0, 1, 2, 3, 4, 5, 6}));
  const auto [images, labels] = batches[2];
  EXPECT_EQ(images.shape(), (Shape{1, 4, 4, 1}));
  EXPECT_FLOAT_EQ(images(0, 2, 2, 0), 6.0f / 255);
  EXPECT_EQ(Batches<float>(data, {.batch_size = 3, .drop_last = true}, Random(1)).size(), 2);
  EXPECT_EQ(Batches<float>(data, {.batch_size = 7, .drop_last = true}, Random(1)).size(), 1);
}

TEST(Batches, ShuffledAreAPermutationOfTheirOwnInEachEpoch) {
  const ImageDataset data = numbered_images(50);
  Batches<float> batches(data, {.batch_size = 8, .shuffle = true}, Random(1));
  const auto first = all_labels(batches);
  batches.set_epoch(1);
  const auto second = all_labels(batches);
  EXPECT_NE(first, second);
  EXPECT_NE(first, data.labels);
  EXPECT_TRUE(std::is_permutation(first.begin(), first.end(), data.labels.begin(), data.labels.end()));
  EXPECT_TRUE(std::is_permutation(second.begin(), second.end(), data.labels.begin(), data.labels.end()));
  batches.set_epoch(0);
  EXPECT_EQ(all_labels(batches), first);
  EXPECT_NE(all_labels(Batches<float>(data, {.batch_size = 8, .shuffle = true}, Random(2))), first);
}

TEST(Batches, DrawForAnImageByEpochAndIndexAlone) {
  const ImageDataset data = numbered_images(20);
  const std::vector<Transform<float>> noise{[](Tensor<float> image, Random& rng) {
    image.array() += static_cast<float>(rng.normal());
    return image;
  }};
  // What became of each image, whatever batch it was in.
  const auto pixels = [](const Batches<float>& batches) {
    std::vector<float> by_label(20);
    for (const auto& [images, labels] : batches) {
      for (std::size_t n = 0; n < labels.size(); ++n) {
        by_label[static_cast<std::size_t>(labels[n])] = images(static_cast<Index>(n), 0, 0, 0);
      }
    }
    return by_label;
  };
  Batches<float> shuffled(data, {.batch_size = 3, .shuffle = true}, Random(1), noise);
  const Batches<float> in_order(data, {.batch_size = 7}, Random(1), noise);
  const auto first = pixels(shuffled);
  EXPECT_EQ(first, pixels(in_order));
  shuffled.set_epoch(1);
  EXPECT_NE(first, pixels(shuffled));
  EXPECT_NE(first, pixels(Batches<float>(data, {.batch_size = 7}, Random(2), noise)));
}

TEST(Batches, SameBitsForAnyNumberOfThreads) {
  const int threads = num_threads();
  const auto made = [](int many) {
    set_num_threads(many);
    const ImageDataset data = textured_shapes(40, Random(5));
    const Batches<float> batches(data, {.batch_size = 40, .shuffle = true}, Random(1),
                                 {RandomCrop{.size = 32, .padding = 4}, RandomHorizontalFlip{}});
    return batches[0].images;
  };
  const Tensor<float> one = made(1);
  EXPECT_EQ(made(2), one);
  EXPECT_EQ(made(3), one);
  set_num_threads(threads);
}

TEST(Batches, TellWhatIsWrong) {
  const ImageDataset data = numbered_images(5), none = numbered_images(0);
  EXPECT_EQ(message([&] { Batches<float>(data, {.batch_size = 0}, Random(1)); }),
            "Batches: expected batch_size of at least 1, got 0");
  EXPECT_EQ(message([&] { Batches<float>(none, {}, Random(1)); }),
            "Batches: expected a dataset that is not empty, got [0, 4, 4, 1]");
  const Batches<float> batches(data, {.batch_size = 2}, Random(1));
  EXPECT_EQ(message([&] { batches[3]; }), "Batches: expected a batch from 0 to 2, got 3");
  EXPECT_EQ(message([&] { batches[-1]; }), "Batches: expected a batch from 0 to 2, got -1");
  EXPECT_EQ(message([&] {
              make_batch<float>(data, std::vector<Index>{0, 5});
            }),
            "make_batch: expected indices from 0 to 4, got 5");
  EXPECT_EQ(message([&] { make_batch<float>(data, {}); }), "make_batch: expected at least one index, got none");
  ImageDataset unequal = data;
  unequal.labels.pop_back();
  EXPECT_EQ(message([&] { make_batch<float>(unequal, std::vector<Index>{0}); }),
            "make_batch: expected 4 images [N, H, W, C] for as many labels, got [5, 4, 4, 1]");
  const std::vector<Transform<float>> uneven{
      [](Tensor<float> image, Random&) { return image.cdata()[0] > 0 ? numbered_image(2, 2) : image; }};
  EXPECT_EQ(message([&] {
              make_batch<float>(data, std::vector<Index>{0, 1}, Random(1), uneven);
            }),
            "make_batch: expected images of one shape, [4, 4, 1], got [2, 2, 1] at index 1");
}

// --- textured shapes -------------------------------------------------------------------------------------------------

TEST(TexturedShapes, HaveTenClassesAndBeginTheSameForAnyCount) {
  const ImageDataset data = textured_shapes(500, Random(1));
  ASSERT_EQ(data.images.shape(), (Shape{500, 32, 32, 3}));
  ASSERT_EQ(data.classes.size(), 10u);
  EXPECT_EQ(data.classes[9], "dotted ring");
  for (Index label = 0; label < 10; ++label) EXPECT_GT(std::count(data.labels.begin(), data.labels.end(), label), 25);
  EXPECT_EQ(textured_shapes(20, Random(1)).images, data.first(20).images);
  EXPECT_NE(textured_shapes(20, Random(2)).images, data.first(20).images);
  EXPECT_EQ(message([] { textured_shapes(-1, Random(1)); }), "textured_shapes: expected a count of at least 0, got -1");
}

TEST(TexturedShapes, AreNotForALinearModel) {
  const ImageDataset train = textured_shapes(1000, Random(1)), test = textured_shapes(500, Random(2));
  const Normalize normalize{.mean = {0.5, 0.5, 0.5}, .std = {0.25, 0.25, 0.25}};
  Random rng(1);
  Linear<float> linear({.in_features = 32 * 32 * 3, .out_features = 10}, rng);
  const auto rows = [](Tensor<float> images) { return std::move(images).reshaped(Shape{images.dim(0), 32 * 32 * 3}); };
  const auto accuracy = [&](const ImageDataset& data) {
    const auto batch = Batches<float>(data, {.batch_size = data.size()}, rng, {normalize})[0];
    const Tensor<float> logits = linear(rows(batch.images));
    Index right = 0, best = 0;
    for (Index n = 0; n < data.size(); ++n) {
      logits.cmatrix().row(n).maxCoeff(&best);
      right += best == batch.labels[static_cast<std::size_t>(n)];
    }
    return static_cast<double>(right) / static_cast<double>(data.size());
  };
  SGD<float> optimizer(linear.parameters(), {.lr = 0.003, .momentum = 0.9});
  Batches<float> batches(train, {.batch_size = 50, .shuffle = true}, rng, {normalize});
  for (Index epoch = 0; epoch < 10; ++epoch) {
    batches.set_epoch(epoch);
    for (auto [images, labels] : batches) {
      optimizer.zero_grad();
      Tape<float> tape(rng, {.input_gradient = false});
      const auto loss = cross_entropy(linear.forward(rows(std::move(images)), tape), labels);
      linear.backward(loss.gradient, tape);
      optimizer.step();
    }
  }
  EXPECT_GT(accuracy(train), 0.6) << "the linear model was not trained well";
  EXPECT_LT(accuracy(test), 0.6);
}

}  // namespace
