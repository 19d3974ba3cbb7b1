// IDX files: read right, or refused with what is wrong before any memory is asked for.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/memory.hpp>
#include <residua/data/data_loader.hpp>
#include <residua/data/idx.hpp>

#include "errors.hpp"
#include "temporary_folder.hpp"

namespace {

using namespace residua;
namespace fs = std::filesystem;

std::vector<std::byte> bytes_of(const std::vector<int>& numbers) {
  std::vector<std::byte> bytes;
  for (const int number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

/// The Error's text for a file of these bytes.
std::string refused(const std::vector<int>& numbers) {
  return message([&] { parse_idx(bytes_of(numbers), "file"); });
}

TEST(ParseIdx, GivesATensorOfAnyRank) {
  EXPECT_EQ(parse_idx(bytes_of({0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 255})),
            Tensor<std::uint8_t>(Shape{3}, std::vector<std::uint8_t>{7, 0, 255}));
  EXPECT_EQ(parse_idx(bytes_of({0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4})),
            Tensor<std::uint8_t>(Shape{2, 2}, std::vector<std::uint8_t>{1, 2, 3, 4}));
  EXPECT_EQ(parse_idx(bytes_of({0, 0, 8, 0, 9})), Tensor<std::uint8_t>(Shape{}, 9));
  std::vector<int> eight{0, 0, 8, 8}, many{0, 0, 8, 1, 0, 0, 1, 2};
  for (int axis = 0; axis < 8; ++axis) eight.insert(eight.end(), {0, 0, 0, 1});
  eight.push_back(5);
  EXPECT_EQ(parse_idx(bytes_of(eight)), Tensor<std::uint8_t>(Shape{1, 1, 1, 1, 1, 1, 1, 1}, 5));
  many.resize(many.size() + 258, 3);
  EXPECT_EQ(parse_idx(bytes_of(many)), Tensor<std::uint8_t>(Shape{258}, 3));
  EXPECT_EQ(parse_idx(bytes_of({0, 0, 8, 2, 0, 0, 0, 5, 0, 0, 0, 0})).shape(), (Shape{5, 0}));
}

TEST(ParseIdx, TellsWhatIsWrong) {
  EXPECT_EQ(refused({}), "file: expected an IDX header of at least 4 bytes, got 0");
  EXPECT_EQ(refused({0, 0, 8}), "file: expected an IDX header of at least 4 bytes, got 3");
  EXPECT_EQ(refused({31, 139, 8, 0}), "file: expected an IDX file, which begins with two zeros, got 31 and 139");
  EXPECT_EQ(refused({0, 1, 8, 1, 0, 0, 0, 0}), "file: expected an IDX file, which begins with two zeros, got 0 and 1");
  EXPECT_EQ(refused({0, 0, 8, 1, 0, 0, 0}), "file: expected a header of 8 bytes (1 axes), got 7");
  EXPECT_EQ(refused({0, 0, 8, 255, 0, 0, 0, 1}), "file: expected a header of 1024 bytes (255 axes), got 8");
  EXPECT_EQ(refused({0, 0, 8, 1, 0, 0, 0, 3, 1, 2}), "file: expected 3 bytes after the header for [3], got 2");
  EXPECT_EQ(refused({0, 0, 8, 1, 0, 0, 0, 1, 1, 2}), "file: expected 1 bytes after the header for [1], got 2");
  EXPECT_EQ(refused({0, 0, 8, 0}), "file: expected 1 bytes after the header for [], got 0");
  EXPECT_EQ(message([] { parse_idx({}); }), "parse_idx: expected an IDX header of at least 4 bytes, got 0");
}

TEST(ParseIdx, NamesTypesItDoesNotRead) {
  const std::string rule = "file: expected type 8 (unsigned byte), got ";
  EXPECT_EQ(refused({0, 0, 9, 0}), rule + "9 (signed byte)");
  EXPECT_EQ(refused({0, 0, 11, 0}), rule + "11 (short)");
  EXPECT_EQ(refused({0, 0, 12, 0}), rule + "12 (int)");
  EXPECT_EQ(refused({0, 0, 13, 0}), rule + "13 (float)");
  EXPECT_EQ(refused({0, 0, 14, 0}), rule + "14 (double)");
  EXPECT_EQ(refused({0, 0, 10, 0}), rule + "10 (unknown)");
  EXPECT_EQ(refused({0, 0, 0, 0}), rule + "0 (unknown)");
}

TEST(ParseIdx, AsksForNoMemoryForSizesThatTheBytesDoNotHold) {
  release_memory();  // the peak begins anew
  const auto before = memory_statistics().peak;
  EXPECT_EQ(refused({0, 0, 8, 1, 255, 255, 255, 255, 0}),
            "file: expected 4294967295 bytes after the header for [4294967295], got 1");
  std::vector<int> huge{0, 0, 8, 3}, nine{0, 0, 8, 9};
  huge.resize(16, 255);
  EXPECT_EQ(refused(huge),
            "file: Shape: expected a countable number of elements, got 4294967295 x 4294967295");
  huge[3] = 4;  // a zero at the end does not hide it
  huge.resize(20, 0);
  EXPECT_EQ(refused(huge),
            "file: Shape: expected a countable number of elements, got 4294967295 x 4294967295");
  for (int axis = 0; axis < 9; ++axis) nine.insert(nine.end(), {0, 0, 0, 1});
  EXPECT_EQ(refused(nine), "file: Shape: expected at most 8 axes, got more");
  EXPECT_EQ(memory_statistics().peak, before);
}

/// A folder with what a set of MNIST's kind has: three images of 2×2 with labels 7, 0, 9.
class Mnist : public testing::Test {
 protected:
  static std::vector<int> images() {
    return {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  }
  static std::vector<int> labels() { return {0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9}; }

  void write(const std::string& name, const std::vector<int>& numbers) const {
    std::ofstream out(folder_ / name, std::ios::binary);
    for (const int number : numbers) out.put(static_cast<char>(number));
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string fails() const {
    return message([&] { read_mnist(folder_, Split::test); });
  }

  const TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path;
};

TEST_F(Mnist, ReadsImagesWithOneChannelAndLabels) {
  write("t10k-images-idx3-ubyte", images());
  write("t10k-labels-idx1-ubyte", labels());
  const ImageDataset data = read_mnist(folder_, Split::test);
  ASSERT_EQ(data.images.shape(), (Shape{3, 2, 2, 1}));
  EXPECT_EQ(data.images(1, 1, 0, 0), 7);
  EXPECT_EQ(data.labels, (std::vector<Index>{7, 0, 9}));
  EXPECT_EQ(data.classes.size(), 10u);
  EXPECT_EQ(data.classes[7], "7");
  const DataLoader<float> loader(data, {.batch_size = 3}, Random(1));
  EXPECT_EQ(loader.batch(0, 0).inputs(2, 0, 0, 0), 9.0f / 255);
}

TEST_F(Mnist, HasTwoSpellingsAndClassesOfOnesOwn) {
  write("train-images.idx3-ubyte", images());
  write("train-labels.idx1-ubyte", labels());
  std::vector<std::string> classes(10, "shirt");
  EXPECT_EQ(read_mnist(folder_, Split::train, classes).classes[3], "shirt");
  classes.resize(9);
  EXPECT_EQ(message([&] { read_mnist(folder_, Split::train, classes); }),
            path("train-labels.idx1-ubyte") + ": expected labels from 0 to 8, got 9 at position 2");
}

TEST_F(Mnist, TellsWhatIsWrong) {
  const std::string images_name = "t10k-images-idx3-ubyte", labels_name = "t10k-labels-idx1-ubyte";
  EXPECT_EQ(message([&] { read_mnist(folder_ / "nowhere", Split::test); }),
            path("nowhere") + ": expected a folder, got: No such file or directory");
  EXPECT_EQ(fails(), path(images_name) + ": expected an IDX file, got: No such file or directory");
  write(images_name, images());
  EXPECT_EQ(fails(), path(labels_name) + ": expected an IDX file, got: No such file or directory");
  auto wrong = labels();
  wrong.back() = 10;
  write(labels_name, wrong);
  EXPECT_EQ(fails(), path(labels_name) + ": expected labels from 0 to 9, got 10 at position 2");
  write(labels_name, {0, 0, 8, 1, 0, 0, 0, 2, 7, 0});
  EXPECT_EQ(fails(), path(labels_name) + ": expected 3 labels, one for each image, got [2]");
  write(images_name, labels());
  EXPECT_EQ(fails(), path(images_name) + ": expected images [N, H, W], got [3]");
  wrong = images();
  wrong.pop_back();
  write(images_name, wrong);
  EXPECT_EQ(fails(), path(images_name) + ": expected 12 bytes after the header for [3, 2, 2], got 11");
}

TEST_F(Mnist, ReadsSingleFiles) {
  write("a", labels());
  EXPECT_EQ(read_idx(folder_ / "a"), Tensor<std::uint8_t>(Shape{3}, std::vector<std::uint8_t>{7, 0, 9}));
  EXPECT_EQ(message([&] { read_idx(folder_ / "b"); }),
            path("b") + ": expected an IDX file, got: No such file or directory");
  EXPECT_EQ(message([&] { read_idx(folder_); }), folder_.string() + ": expected an IDX file, got: Is a directory");
  ASSERT_EQ(::mkfifo(path("pipe").c_str(), 0600), 0);
  const int writer = ::open(path("pipe").c_str(), O_RDWR | O_NONBLOCK);  // so that whoever opens it does not wait for one
  EXPECT_EQ(message([&] { read_idx(folder_ / "pipe"); }),
            path("pipe") + ": expected an IDX file, got: Operation not supported");
  ::close(writer);
}

}  // namespace
