// IDX: the file format of MNIST (LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998), and of
// the sets made in its image: Fashion-MNIST, KMNIST.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <residua/data/dataset.hpp>
#include <residua/data/files.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// The name of an IDX file's element type.
inline const char* idx_type(unsigned type) {
  switch (type) {
    case 0x08: return "unsigned byte";
    case 0x09: return "signed byte";
    case 0x0B: return "short";
    case 0x0C: return "int";
    case 0x0D: return "float";
    case 0x0E: return "double";
    default: return "unknown";
  }
}

}  // namespace detail

/// The tensor in the bytes of an IDX file: two zeros, the type of its elements, the number of its axes, their sizes as
/// four bytes each, the most significant first, then the elements. Throws Error, which names `place`, for another
/// beginning, a type other than the unsigned byte, more than eight axes, or too few or too many bytes; it asks for no
/// memory before.
inline Tensor<std::uint8_t> parse_idx(std::span<const std::byte> bytes, std::string_view place = "parse_idx") {
  const auto number = [&](std::size_t i) { return std::to_integer<unsigned>(bytes[i]); };
  if (bytes.size() < 4) fail(place, "expected an IDX header of at least 4 bytes, got ", bytes.size());
  if (number(0) != 0 || number(1) != 0) {
    fail(place, "expected an IDX file, which begins with two zeros, got ", number(0), " and ", number(1));
  }
  const unsigned type = number(2), rank = number(3);
  if (type != 0x08) fail(place, "expected type 8 (unsigned byte), got ", type, " (", detail::idx_type(type), ")");
  const std::size_t header = 4 + 4 * std::size_t{rank};
  if (bytes.size() < header) {
    fail(place, "expected a header of ", header, " bytes (", rank, " axes), got ", bytes.size());
  }
  Shape shape;
  try {
    for (std::size_t i = 4; i < header; i += 4) {
      shape.append(static_cast<Index>(number(i) << 24 | number(i + 1) << 16 | number(i + 2) << 8 | number(i + 3)));
    }
  } catch (const Error& error) {  // too many axes, or sizes whose product is not countable
    fail(place, error.what());
  }
  const auto elements = bytes.subspan(header);
  if (elements.size() != static_cast<std::size_t>(shape.size())) {
    fail(place, "expected ", shape.size(), " bytes after the header for ", shape, ", got ", elements.size());
  }
  Tensor<std::uint8_t> x(shape, uninitialized);
  std::transform(elements.begin(), elements.end(), x.data(), std::to_integer<std::uint8_t>);
  return x;
}

/// Reads an IDX file of unsigned bytes. Throws Error, naming the file, where it cannot be read, or as parse_idx does.
inline Tensor<std::uint8_t> read_idx(const std::string& file) {
  return parse_idx(detail::read_bytes(file, detail::size_of_file(file, "an IDX file")), file);
}

/// Reads MNIST, or a set with files of the same names, from its folder: train-images-idx3-ubyte and
/// train-labels-idx1-ubyte, or t10k-…, unpacked; train-images.idx3-ubyte is another spelling of the same. Images are
/// (N, H, W, 1). `classes` names the classes; without it they are ten, the digits. Throws Error, naming the file, as
/// read_idx does, for files of another rank, another number of labels than images, or a label that is no class.
inline ImageDataset read_mnist(const std::string& folder, Split split, std::vector<std::string> classes = {}) {
  detail::check_folder(folder);
  const std::string set = split == Split::train ? "train" : "t10k";
  const auto file = [&](const char* what, const char* kind) {
    const std::string dotted = detail::in_folder(folder, set + what + "." + kind);
    return detail::exists(dotted) ? dotted : detail::in_folder(folder, set + what + "-" + kind);
  };
  const auto images_file = file("-images", "idx3-ubyte"), labels_file = file("-labels", "idx1-ubyte");
  const Tensor<std::uint8_t> images = read_idx(images_file), labels = read_idx(labels_file);
  if (images.rank() != 3) fail(images_file, "expected images [N, H, W], got ", images.shape());
  if (labels.shape() != Shape{images.dim(0)}) {
    fail(labels_file, "expected ", images.dim(0), " labels, one for each image, got ", labels.shape());
  }
  if (classes.empty()) classes = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
  const auto count = static_cast<Index>(classes.size());
  for (Index n = 0; n < labels.size(); ++n) {
    const Index label = labels.cdata()[n];
    if (label >= count) {
      fail(labels_file, "expected labels from 0 to ", count - 1, ", got ", label, " at position ", n);
    }
  }
  return {images.reshaped(Shape{images.dim(0), images.dim(1), images.dim(2), 1}),
          {labels.cdata(), labels.cdata() + labels.size()},
          std::move(classes)};
}

}  // namespace residua::inline RESIDUA_ABI
