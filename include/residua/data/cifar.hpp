// CIFAR-10 and CIFAR-100: readers of the official binary files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <residua/data/dataset.hpp>
#include <residua/data/files.hpp>

namespace residua::inline RESIDUA_ABI {

/// CIFAR-100 names what each image shows (`labels`, 100 classes) and which group of five classes that belongs to.
struct Cifar100 : ImageDataset {
  std::vector<Index> coarse_labels;
  std::vector<std::string> coarse_classes;
};

namespace detail {

/// How a CIFAR file's records look: some labels, then one image, its red, green and blue plane after each other. Label
/// number k is below label_counts[k].
struct CifarRecord {
  std::span<const Index> label_counts;
  Index pixels = 32 * 32;

  std::size_t bytes() const { return label_counts.size() + 3 * static_cast<std::size_t>(pixels); }
};

/// Takes `count` records out of the bytes of a file: label number k of each goes to labels[k]; the images go to
/// `images`, channels last.
inline void parse_cifar(std::span<const std::byte> bytes, std::string_view place, Index count, CifarRecord record,
                        std::span<std::vector<Index>* const> labels, std::uint8_t* images) {
  for (Index n = 0; n < count; ++n, bytes = bytes.subspan(record.bytes())) {
    if (bytes.size() < record.bytes()) fail(place, "expected ", count, " records, could not read number ", n);
    for (std::size_t k = 0; k < record.label_counts.size(); ++k) {
      const auto label = std::to_integer<Index>(bytes[k]);
      if (label >= record.label_counts[k]) {
        fail(place, "expected labels from 0 to ", record.label_counts[k] - 1, ", got ", label, " in record ", n);
      }
      labels[k]->push_back(label);
    }
    const std::byte* const planes = bytes.data() + record.label_counts.size();
    for (Index p = 0; p < record.pixels; ++p) {
      for (Index c = 0; c < 3; ++c) *images++ = std::to_integer<std::uint8_t>(planes[c * record.pixels + p]);
    }
  }
}

/// The images of all files, each of as many records. Their sizes are checked before anything is read.
inline Tensor<std::uint8_t> read_cifar_files(const std::string& folder, std::span<const std::string_view> names,
                                             Index records_per_file, std::span<const Index> label_counts,
                                             std::span<std::vector<Index>* const> labels) {
  const CifarRecord record{label_counts};
  const std::uintmax_t size = static_cast<std::uintmax_t>(records_per_file) * record.bytes();
  check_folder(folder);
  std::vector<std::string> files;
  for (const auto name : names) {
    files.push_back(in_folder(folder, name));
    const std::uintmax_t bytes = size_of_file(files.back(), "a CIFAR file in binary format");
    if (bytes != size) {
      fail(files.back(), "expected ", size, " bytes (", records_per_file, " records of ", record.bytes(), "), got ", bytes);
    }
  }
  const Index count = static_cast<Index>(names.size()) * records_per_file;
  Tensor<std::uint8_t> images(Shape{count, 32, 32, 3}, uninitialized);
  std::uint8_t* to = images.data();
  for (const std::string& file : files) {
    parse_cifar(read_bytes(file, size), file, records_per_file, record, labels, to);
    to += images.size() / static_cast<Index>(files.size());
  }
  return images;
}

}  // namespace detail

/// Reads CIFAR-10 (Krizhevsky 2009) from the folder of its binary version: data_batch_1.bin … data_batch_5.bin, 50,000
/// images, or test_batch.bin, 10,000. Throws Error, naming the file, where the folder or a file is missing or may not
/// be read, a file is truncated or oversized, or a label is out of range.
inline ImageDataset read_cifar10(const std::string& folder, Split split) {
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
inline Cifar100 read_cifar100(const std::string& folder, Split split) {
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
