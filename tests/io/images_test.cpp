// Images from files: byte for byte what PIL reads, and an Error for all that is damaged or lies.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/core/random.hpp>
#include <residua/data/cifar.hpp>
#include <residua/data/data_loader.hpp>
#include <residua/data/image_classification.hpp>
#include <residua/io/images.hpp>

#include "errors.hpp"
#include "io/expected_images.hpp"
#include "temporary_folder.hpp"

namespace {

using namespace residua;

using Bytes = std::vector<std::byte>;

Bytes content(const std::filesystem::path& path) {
  return detail::read_bytes(path, std::filesystem::file_size(path));
}
Bytes file(const std::string& name) { return content(images_folder / name); }

/// The files whose pixels are expected.
std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& [name, image] : expected_images()) {
    if (name.ends_with(".png") || name.ends_with(".jpg")) names.push_back(name);
  }
  return names;
}

// --- what is read ----------------------------------------------------------------------------------------------------

TEST(ReadImage, EqualsPil) {
  const auto expected = expected_images();
  for (const std::string& name : names()) {
    const auto image = read_image(images_folder / name);
    EXPECT_EQ(image.shape(), expected.at(name).shape()) << name;
    EXPECT_TRUE(image == expected.at(name)) << name;
  }
  EXPECT_EQ(names().size(), 34u);
}

TEST(ReadImage, TellsKindsApartByTheirContent) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(images_folder / "420.jpg", folder.path / "image.png");
  EXPECT_TRUE(read_image(folder.path / "image.png") == expected_images().at("420.jpg"));
}

TEST(ReadImage, TakesFilesWithSomethingBehindTheImage) {
  for (const std::string name : {"rgb8.png", "444.jpg", "progressive.jpg"}) {
    Bytes bytes = file(name);
    bytes.resize(bytes.size() + 100, std::byte{0x55});
    EXPECT_TRUE(decode_image(bytes) == expected_images().at(name)) << name;
  }
}

/// CIFAR-10's images went through JPEG once, were decoded by PIL, and stand in the binary files in the same order.
TEST(ReadImage, EqualsPilOnCifar10) {
  const char* const data = std::getenv("RESIDUA_DATA");
  const char* const jpegs = std::getenv("RESIDUA_JPEGS");
  if (data == nullptr || jpegs == nullptr) {
    GTEST_SKIP() << "set RESIDUA_DATA to a folder that holds cifar-10-batches-bin, RESIDUA_JPEGS to one of *.records";
  }
  const ImageDataset cifar = read_cifar10(std::filesystem::path(data) / "cifar-10-batches-bin", Split::test);
  const Bytes bytes = content(std::filesystem::path(jpegs) / "test_batch.records");
  std::span<const std::byte> rest = bytes;
  for (Index i = 0; i < 1000; ++i) {
    ASSERT_GE(rest.size(), 5u);
    std::size_t size = 0;
    for (std::size_t k = 4; k > 0; --k) size = size << 8 | std::to_integer<std::size_t>(rest[k]);
    ASSERT_GE(rest.size(), 5 + size);
    EXPECT_EQ(std::to_integer<Index>(rest[0]), cifar[i].target) << "image " << i;
    EXPECT_TRUE(decode_image(rest.subspan(5, size)) == cifar[i].input) << "image " << i;
    rest = rest.subspan(5 + size);
  }
}

// --- what is refused -------------------------------------------------------------------------------------------------

void put_number(Bytes& bytes, std::size_t at, std::size_t size, std::uint32_t number) {
  for (; size-- > 0; number >>= 8) bytes[at + size] = static_cast<std::byte>(number & 255);
}

/// A PNG file's header with another size and a checksum that fits.
Bytes png_of_size(std::uint32_t width, std::uint32_t height) {
  Bytes bytes = file("rgb8.png");
  put_number(bytes, 16, 4, width);
  put_number(bytes, 20, 4, height);
  std::uint32_t crc = 0xFFFFFFFF;
  for (std::size_t i = 12; i < 29; ++i) {
    crc ^= std::to_integer<std::uint32_t>(bytes[i]);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0xEDB88320 & (0 - (crc & 1)));
  }
  put_number(bytes, 29, 4, ~crc);
  return bytes;
}

/// Where the bytes of a marker begin.
std::size_t find_marker(const Bytes& bytes, int marker) {
  const std::array wanted{std::byte{0xFF}, static_cast<std::byte>(marker)};
  const auto found = std::search(bytes.begin(), bytes.end(), wanted.begin(), wanted.end());
  return static_cast<std::size_t>(found - bytes.begin());
}

Bytes jpeg_of_size(const std::string& name, std::uint32_t width, std::uint32_t height) {
  Bytes bytes = file(name);
  const std::size_t frame = find_marker(bytes, name == "progressive.jpg" ? 0xC2 : 0xC0);
  put_number(bytes, frame + 5, 2, height);
  put_number(bytes, frame + 7, 2, width);
  return bytes;
}

TEST(ReadImage, RefusesFilesThatEndAnywhereTooEarly) {
  for (const std::string& name : names()) {
    const Bytes bytes = file(name);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THROW(decode_image(std::span(bytes).first(size)), Error) << name << ", cut off after " << size;
    }
  }
  const Bytes png = file("rgb8.png"), jpeg = file("420.jpg");
  expect_error([&] { decode_image(std::span(png).first(100), "a.png"); },
               "a.png: expected a valid PNG file, got: an end that comes too early");
  expect_error([&] { decode_image(std::span(jpeg).first(500), "a.jpg"); },
               "a.jpg: expected a valid JPEG file, got: an end that comes too early");

  Bytes swallowed = jpeg;  // by a comment of 65533 bytes
  swallowed.insert(swallowed.begin() + 2, {std::byte{0xFF}, std::byte{0xFE}, std::byte{0xFF}, std::byte{0xFF}});
  expect_error([&] { decode_image(swallowed); }, "got: an end that comes too early");
}

TEST(ReadImage, RefusesPngFilesWithAnyByteChanged) {
  Bytes bytes = file("rgb8.png");
  for (std::byte& byte : bytes) {
    byte ^= std::byte{0x10};
    EXPECT_THROW(decode_image(bytes), Error) << "at " << &byte - bytes.data();
    byte ^= std::byte{0x10};
  }
}

/// A changed byte may well give another image, but none of another size or from memory that is not the file's.
TEST(ReadImage, SurvivesJpegFilesWithAnyByteChanged) {
  for (const std::string name : {"420.jpg", "progressive.jpg", "cmyk.jpg", "grey.jpg"}) {
    Bytes bytes = file(name);
    int refused = 0;
    for (std::byte& byte : bytes) {
      for (const auto change : {std::byte{0x01}, std::byte{0x80}, std::byte{0xFF}}) {
        byte ^= change;
        try {
          decode_image(bytes, "image", {.max_pixels = 1 << 20});
        } catch (const Error&) {
          ++refused;
        }
        byte ^= change;
      }
    }
    EXPECT_GT(refused, 100) << name;
  }
}

TEST(ReadImage, RefusesDamageThatLibjpegOnlyWarnsOf) {
  const auto expect_refused = [](const Bytes& bytes, const std::string& reason) {
    expect_error([&] { decode_image(bytes, "a.jpg"); }, "a.jpg: expected a valid JPEG file, got: " + reason);
  };
  const Bytes good = file("444.jpg");
  Bytes bytes = good;
  for (auto at = bytes.end() - 60; at < bytes.end() - 10; at += 2) {  // only ones, and no code has that many
    at[0] = std::byte{0xFF};
    at[1] = std::byte{0x00};
  }
  expect_refused(bytes, "Corrupt JPEG data: bad Huffman code");

  bytes = good;
  bytes.insert(bytes.end() - 60, {std::byte{0xFF}, std::byte{0xD9}});  // the end, in the middle of the data
  expect_refused(bytes, "Corrupt JPEG data: premature end of data segment");

  bytes = good;  // and the promise of a marker after each block
  const auto scan = bytes.begin() + static_cast<std::ptrdiff_t>(find_marker(bytes, 0xDA));
  const std::array restarts{std::byte{0xFF}, std::byte{0xDD}, std::byte{0}, std::byte{4}, std::byte{0}, std::byte{1}};
  bytes.insert(scan, restarts.begin(), restarts.end());
  expect_refused(bytes, "Corrupt JPEG data: found marker 0xd9 instead of RST0");

  bytes = file("progressive.jpg");
  const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(find_marker(bytes, 0xDA));
  first[13] = std::byte{0x10};  // refines values that no scan has given
  expect_refused(bytes, "Inconsistent progression sequence");
}

TEST(ReadImage, RefusesHeadersThatLieBeforeItAsksForMemory) {
  const auto before = memory_statistics();
  expect_error([] { decode_image(png_of_size(65500, 65500), "a.png"); },
               "a.png: expected at most 178956970 pixels, got 65500 x 65500");
  expect_error([] { decode_image(png_of_size(0x7FFFFFFF, 0x7FFFFFFF)); }, "expected at most 178956970 pixels");
  expect_error([] { decode_image(png_of_size(13000, 13000), "a.png"); },
               "a.png: expected at least 491279 bytes for 13000 x 13000 pixels, got 178");
  expect_error([] { decode_image(png_of_size(0, 5)); }, "expected a valid PNG file, got: ");
  expect_error([] { decode_image(png_of_size(7, 0)); }, "expected a valid PNG file, got: ");
  expect_error([] { decode_image(png_of_size(0x80000000, 5)); }, "expected a valid PNG file, got: ");

  for (const std::string name : {"420.jpg", "progressive.jpg"}) {
    expect_error([&] { decode_image(jpeg_of_size(name, 65500, 65500), "a.jpg"); },
                 "a.jpg: expected at most 178956970 pixels, got 65500 x 65500");
    expect_error([&] { decode_image(jpeg_of_size(name, 13000, 13000), "a.jpg"); },
                 "a.jpg: expected at least 495320 bytes for 13000 x 13000 pixels, got ");
    expect_error([&] { decode_image(jpeg_of_size(name, 0, 5)); }, "expected a valid JPEG file, got: ");
    expect_error([&] { decode_image(jpeg_of_size(name, 7, 0)); }, "expected a valid JPEG file, got: ");
  }
  const auto after = memory_statistics();
  EXPECT_EQ(after.system_requests, before.system_requests);
  EXPECT_EQ(after.peak, before.peak);
}

TEST(ReadImage, RefusesMorePixelsThanWanted) {
  EXPECT_NO_THROW(read_image(images_folder / "rgb8.png", {.max_pixels = 35}));
  expect_error([] { read_image(images_folder / "rgb8.png", {.max_pixels = 34}); },
               "rgb8.png: expected at most 34 pixels, got 5 x 7");
  expect_error([] { read_image(images_folder / "rgb8.png", {.max_pixels = -1}); },
               "ReadImageOptions: expected max_pixels of at least 1, got -1");
}

TEST(ReadImage, RefusesWhatNoReaderOfJpegIsAskedFor) {
  Bytes bytes = file("420.jpg");
  const std::size_t frame = find_marker(bytes, 0xC0);
  bytes[frame + 1] = std::byte{0xC9};
  expect_error([&] { decode_image(bytes, "a.jpg"); }, "a.jpg: expected Huffman coding, got arithmetic coding");
  bytes[frame + 1] = std::byte{0xC3};
  expect_error([&] { decode_image(bytes); }, "Unsupported JPEG process");
  bytes[frame + 1] = std::byte{0xC1};
  bytes[frame + 4] = std::byte{12};
  expect_error([&] { decode_image(bytes); }, "Unsupported JPEG data precision 12");
}

/// Each scan goes over the whole image once more.
TEST(ReadImage, RefusesProgressiveFilesOfMoreThan500Scans) {
  const Bytes bytes = file("progressive.jpg");
  const auto begin = static_cast<std::ptrdiff_t>(find_marker(bytes, 0xDA));
  const std::array tables{std::byte{0xFF}, std::byte{0xC4}};  // before the second scan
  Bytes scan(bytes.begin() + begin, std::search(bytes.begin() + begin, bytes.end(), tables.begin(), tables.end()));
  scan[13] = std::byte{0};  // the values of the first scan are final, so that it may come again
  const auto repeated = [&](int scans) {
    Bytes file(bytes.begin(), bytes.begin() + begin);
    for (int i = 0; i < scans; ++i) file.insert(file.end(), scan.begin(), scan.end());
    file.insert(file.end(), {std::byte{0xFF}, std::byte{0xD9}});
    return file;
  };
  EXPECT_NO_THROW(decode_image(repeated(500)));
  expect_error([&] { decode_image(repeated(501)); }, "expected a valid JPEG file, got: more than 500 scans");
}

TEST(ReadImage, RefusesWhatIsNoImageFile) {
  const TemporaryFolder folder;
  std::ofstream(folder.path / "a.png") << "GIF89a";
  std::ofstream(folder.path / "empty.png");
  expect_error([&] { read_image(folder.path / "a.png"); },
               (folder.path / "a.png").string() + ": expected a PNG or JPEG file, got 6 bytes that begin as neither");
  expect_error([&] { read_image(folder.path / "empty.png"); }, "got 0 bytes");
  expect_error([&] { read_image(folder.path / "none.png"); }, "none.png: expected an image file, got: ");
  expect_error([&] { read_image(folder.path); }, ": expected an image file, got: ");
  expect_error([] { decode_image({}); }, "decode_image: expected a PNG or JPEG file, got 0 bytes");
}

// --- folders ---------------------------------------------------------------------------------------------------------

/// A folder for the class "b", one for "a" with an image deeper down, and what is to be passed over.
struct TwoClasses : TemporaryFolder {
  TwoClasses() {
    put("rgb8.png", "b/2.PNG");
    put("420.jpg", "b/10.jpg");
    put("grey.jpg", "a/deeper/1.jpeg");
    put("rgb8.png", "a/3.png");
    put("rgb8.png", "in_no_class.png");
    put("rgb8.png", "b/notes.txt");
    std::filesystem::create_directories(path / "b" / "no_file.png");
  }
  void put(const std::string& from, const std::string& to) const {
    std::filesystem::create_directories((path / to).parent_path());
    std::filesystem::copy_file(images_folder / from, path / to);
  }
};

TEST(ImageFolder, FindsClassesAndFilesInOrder) {
  const TwoClasses root;
  const ImageFolder data(root.path);
  EXPECT_EQ(data.classes(), (std::vector<std::string>{"a", "b"}));
  const std::pair<const char*, Index> expected[] = {
      {"a/3.png", 0}, {"a/deeper/1.jpeg", 0}, {"b/10.jpg", 1}, {"b/2.PNG", 1}};
  ASSERT_EQ(data.size(), 4);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(data.files()[i].path, root.path / expected[i].first);
    EXPECT_EQ(data[static_cast<Index>(i)].target, expected[i].second);
  }
  EXPECT_TRUE(data[2].input == expected_images().at("420.jpg"));
  expect_error([&] { data[4]; }, "ImageFolder: expected an index from 0 to 3, got 4");
}

TEST(ImageFolder, FeedsALoader) {
  const TwoClasses root;
  const auto small = [](Tensor<std::uint8_t> image) { return resize(std::move(image), {6, 8}); };
  const Random random(1);
  const DataLoader<float, ImageFolder> loader(ImageFolder(root.path, {.transform = small}),
                                              {.batch_size = 4, .num_workers = 1}, random);
  for (const auto& batch : loader.epoch(0)) {
    const auto& [images, labels] = batch;
    EXPECT_EQ(images.shape(), (Shape{4, 6, 8, 3}));
    EXPECT_EQ(labels, (std::vector<Index>{0, 0, 1, 1}));
  }
}

TEST(ImageFolder, NamesWhatIsMissing) {
  const TwoClasses root;
  expect_error([&] { ImageFolder(root.path / "none"); }, "none: expected a folder, got: ");
  expect_error([&] { ImageFolder(root.path / "a" / "deeper"); },
               "deeper: expected a folder for each class, found none");
  std::filesystem::create_directories(root.path / "c");
  expect_error([&] { ImageFolder{root.path}; },
               (root.path / "c").string() + ": expected images (.jpg, .jpeg, .png) of the class, found none");
}

TEST(ImageFolder, NamesTheFileThatIsDamaged) {
  const TwoClasses root;
  std::filesystem::resize_file(root.path / "b" / "10.jpg", 300);
  const ImageFolder data(root.path);
  EXPECT_NO_THROW(data[1]);
  expect_error([&] { data[2]; }, (root.path / "b" / "10.jpg").string() + ": expected a valid JPEG file, got: ");
}

}  // namespace
