// CIFAR-10 and CIFAR-100: readers of the official binary files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <residua/data/dataset.hpp>

namespace residua::inline RESIDUA_ABI {

/// CIFAR-100 names what each image shows (`labels`, 100 classes) and which group of five classes that belongs to.
struct Cifar100 : ImageDataset {
  std::vector<Index> coarse_labels;
  std::vector<std::string> coarse_classes;
};

namespace detail {

inline constexpr Index cifar_side = 32, cifar_pixels = cifar_side * cifar_side, cifar_bytes = 3 * cifar_pixels;

/// Throws Error unless `file` has as many bytes as `count` records.
inline void check_cifar_file(const std::filesystem::path& file, Index count, std::size_t record_bytes) {
  const std::uintmax_t expected = static_cast<std::uintmax_t>(count) * record_bytes;
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  if (error) fail(file.string(), "expected a CIFAR file in binary format, got: ", error.message());
  if (bytes != expected) {
    fail(file.string(), "expected ", expected, " bytes (", count, " records of ", record_bytes, "), got ", bytes);
  }
}

/// Reads `count` records, each some labels and one image, its red, green and blue plane after each other. Label number
/// k of a record must be below label_counts[k] and goes to labels[k]; the images go to `pixels`, channels last.
inline void read_cifar_file(const std::filesystem::path& file, Index count, std::span<const Index> label_counts,
                            std::span<std::vector<Index>* const> labels, std::uint8_t* pixels) {
  const std::string place = file.string();
  std::ifstream in(file, std::ios::binary);
  std::vector<char> record(label_counts.size() + static_cast<std::size_t>(cifar_bytes));
  for (Index n = 0; n < count; ++n, pixels += cifar_bytes) {
    if (!in.read(record.data(), static_cast<std::streamsize>(record.size()))) {
      fail(place, "expected ", count, " records, could not read number ", n);
    }
    const auto* bytes_read = reinterpret_cast<const std::uint8_t*>(record.data());
    for (std::size_t k = 0; k < label_counts.size(); ++k) {
      const Index label = bytes_read[k];
      if (label >= label_counts[k]) {
        fail(place, "expected labels from 0 to ", label_counts[k] - 1, ", got ", label, " in record ", n);
      }
      labels[k]->push_back(label);
    }
    const std::uint8_t* planes = bytes_read + label_counts.size();
    for (Index p = 0; p < cifar_pixels; ++p) {
      for (Index c = 0; c < 3; ++c) pixels[3 * p + c] = planes[c * cifar_pixels + p];
    }
  }
}

inline Tensor<std::uint8_t> read_cifar_files(const std::filesystem::path& folder,
                                             std::span<const std::string_view> names, Index records_per_file,
                                             std::span<const Index> label_counts,
                                             std::span<std::vector<Index>* const> labels) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    fail(folder.string(), "expected a folder, got: ", error ? error.message() : "something else");
  }
  for (const auto name : names) {
    check_cifar_file(folder / name, records_per_file, label_counts.size() + static_cast<std::size_t>(cifar_bytes));
  }
  const Index count = static_cast<Index>(names.size()) * records_per_file;
  Tensor<std::uint8_t> images(Shape{count, cifar_side, cifar_side, 3}, uninitialized);
  std::uint8_t* pixels = images.data();
  for (const auto name : names) {
    read_cifar_file(folder / name, records_per_file, label_counts, labels, pixels);
    pixels += records_per_file * cifar_bytes;
  }
  return images;
}

}  // namespace detail

/// Reads CIFAR-10 (Krizhevsky 2009) from the folder of its binary version: data_batch_1.bin … data_batch_5.bin, 50,000
/// images, or test_batch.bin, 10,000. Throws Error, naming the file, where the folder or a file is missing or may not
/// be read, a file is truncated or oversized, or a label is out of range.
inline ImageDataset read_cifar10(const std::filesystem::path& folder, Split split) {
  static constexpr std::string_view train[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                               "data_batch_4.bin", "data_batch_5.bin"};
  static constexpr std::string_view test[] = {"test_batch.bin"};
  const auto names = split == Split::train ? std::span<const std::string_view>(train) : test;

  ImageDataset data;
  data.classes = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
  const Index label_counts[] = {10};
  std::vector<Index>* const labels[] = {&data.labels};
  data.images = detail::read_cifar_files(folder, names, 10'000, label_counts, labels);
  return data;
}

/// Reads CIFAR-100 (Krizhevsky 2009) from the folder of its binary version: train.bin, 50,000 images, or test.bin,
/// 10,000. Throws Error as read_cifar10 does.
inline Cifar100 read_cifar100(const std::filesystem::path& folder, Split split) {
  const std::string_view names[] = {split == Split::train ? "train.bin" : "test.bin"};

  Cifar100 data;
  data.coarse_classes = {
      "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
      "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
      "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
      "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2"};
  data.classes = {
      "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
      "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
      "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish",
      "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
      "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange",
      "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine",
      "possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk",
      "skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank",
      "telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
      "willow_tree", "wolf", "woman", "worm"};
  const Index label_counts[] = {20, 100};
  std::vector<Index>* const labels[] = {&data.coarse_labels, &data.labels};
  data.images = detail::read_cifar_files(folder, names, split == Split::train ? 50'000 : 10'000, label_counts, labels);
  return data;
}

}  // namespace residua::inline RESIDUA_ABI
