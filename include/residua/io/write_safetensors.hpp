// write_safetensors: tensors into a safetensors file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <residua/core/tensor.hpp>
#include <residua/io/atomic_file.hpp>
#include <residua/io/layout.hpp>
#include <residua/io/safetensors_header.hpp>

namespace residua::inline RESIDUA_ABI {

/// Takes the next bytes of a tensor.
using ByteSink = std::function<void(std::span<const std::byte>)>;

/// A tensor as write_safetensors takes it. Its bytes are asked for when their turn comes, so that they need not exist
/// before: `bytes` hands them to the sink, in order, in as many pieces as it likes.
struct TensorToWrite {
  std::string name;
  Dtype dtype = Dtype::F32;
  Shape shape;
  std::function<void(const ByteSink&)> bytes;
};

/// A tensor as it is, under a name. Shares the tensor's memory.
template <typename T>
TensorToWrite to_write(std::string name, Tensor<T> tensor) {
  const Shape shape = tensor.shape();
  return {std::move(name), dtype_of<T>(), shape, [tensor = std::move(tensor)](const ByteSink& sink) {
            sink(std::as_bytes(std::span(tensor.cdata(), static_cast<std::size_t>(tensor.size()))));
          }};
}

/// A tensor of a network under a name, in the order that files have it in; one with Layout::count as I64. Turned when its
/// turn comes, so that one tensor at a time is there twice.
template <typename S>
TensorToWrite to_write(std::string name, Tensor<S> tensor, Layout layout) {
  if (layout == Layout::count) return to_write(std::move(name), tensor.template cast<std::int64_t>());
  const Shape shape = tensor.empty() ? tensor.shape() : file_shape(tensor.shape(), layout);
  return {std::move(name), dtype_of<S>(), shape, [tensor = std::move(tensor), layout](const ByteSink& sink) {
            to_write("", to_file_layout(tensor, layout)).bytes(sink);
          }};
}

namespace detail {

/// "text" as JSON writes it.
inline std::string quoted(std::string_view place, std::string_view text) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::type_error&) {
    fail(place, "expected names and metadata in UTF-8, got '", shown(text), "'");
  }
}

/// The tensors in the order of their bytes: widest numbers first, so that each stands at a multiple of its size, else
/// as they were given.
inline std::vector<const TensorToWrite*> in_file_order(std::span<const TensorToWrite> tensors) {
  std::vector<const TensorToWrite*> order;
  for (const TensorToWrite& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    return size_of(a->dtype) > size_of(b->dtype);
  });
  return order;
}

inline std::uint64_t bytes_of(const TensorToWrite& tensor) {
  return static_cast<std::uint64_t>(tensor.shape.size()) * size_of(tensor.dtype);
}

/// The length of the header and the header itself, padded so that the data begins at a multiple of 8.
inline std::string safetensors_header(std::string_view place, std::span<const TensorToWrite* const> tensors,
                                      const std::map<std::string, std::string>& metadata) {
  std::string text;
  for (const auto& [key, value] : metadata) {
    text += text.empty() ? "\"__metadata__\":{" : ",";
    text += quoted(place, key) + ":" + quoted(place, value);
  }
  if (!metadata.empty()) text += "}";
  std::uint64_t begin = 0;
  for (const TensorToWrite* tensor : tensors) {
    const std::uint64_t end = begin + bytes_of(*tensor);
    if (end > largest_json_number) {
      fail(place, "expected at most ", largest_json_number, " bytes of data, got ", end, " with '",
           shown(tensor->name), "'");
    }
    std::string sizes;
    for (Index size : tensor->shape) sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
    text += text.empty() ? "" : ",";
    text += quoted(place, tensor->name) + ":{\"dtype\":\"";
    text += name_of(tensor->dtype);
    text += "\",\"shape\":[" + sizes + "],\"data_offsets\":[";
    text += std::to_string(begin) + "," + std::to_string(end) + "]}";
    begin = end;
  }
  text = "{" + text + "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > largest_safetensors_header) {
    fail(place, "expected a header of at most ", largest_safetensors_header, " bytes, got ", text.size());
  }
  const std::uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

}  // namespace detail

/// Writes a safetensors file, all of it or nothing (see AtomicFile). The same tensors and metadata give the same bytes.
/// Throws Error for a name that comes twice, is `__metadata__` or is not UTF-8, for a tensor that gives more or fewer
/// bytes than its shape asks for, and where the file cannot be written; what was there before is there still then.
inline void write_safetensors(const std::filesystem::path& path, std::span<const TensorToWrite> tensors,
                              const std::map<std::string, std::string>& metadata = {}) {
  const std::string place = path.string();
  std::set<std::string_view> names{detail::metadata_key};
  for (const TensorToWrite& tensor : tensors) {
    if (names.insert(tensor.name).second) continue;
    fail(place, "expected tensors of different names, none of them __metadata__, got '", detail::shown(tensor.name),
         "'", tensor.name == detail::metadata_key ? "" : " twice");
  }
  const std::vector<const TensorToWrite*> order = detail::in_file_order(tensors);
  const std::string header = detail::safetensors_header(place, order, metadata);

  AtomicFile file(path);
  file.write(std::as_bytes(std::span(header)));
  for (const TensorToWrite* tensor : order) {
    const std::uint64_t expected = detail::bytes_of(*tensor);
    std::uint64_t written = 0;
    tensor->bytes([&](std::span<const std::byte> bytes) {
      file.write(bytes);
      written += bytes.size();
    });
    if (written != expected) {
      fail(place, "tensor '", detail::shown(tensor->name), "': expected ", expected, " bytes for ", tensor->dtype, " ",
           tensor->shape, ", got ", written);
    }
  }
  file.commit();
}

}  // namespace residua::inline RESIDUA_ABI
