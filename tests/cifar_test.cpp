// CIFAR files: read right, or refused with what is wrong.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include <residua/data/cifar.hpp>

#include "errors.hpp"
#include "temporary_folder.hpp"

namespace {

using namespace residua;
namespace fs = std::filesystem;

class Cifar : public testing::Test {
 protected:
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

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path;
  static constexpr std::uintmax_t ten = 10'000 * 3073, hundred = 10'000 * 3074;
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

}  // namespace
