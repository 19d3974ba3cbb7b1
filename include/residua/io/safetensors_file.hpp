// SafetensorsFile: reads tensors from a safetensors file.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <residua/core/tensor.hpp>
#include <residua/io/file_descriptor.hpp>
#include <residua/io/safetensors_header.hpp>

namespace residua::inline RESIDUA_ABI {

/// A safetensors file, open for reading:
///
///     const SafetensorsFile file("resnet20.safetensors");
///     for (const TensorInfo& info : file.tensors()) std::cout << info.name << ' ' << info.shape << '\n';
///     if (const TensorInfo* info = file.find("conv1.weight")) weight = file.read<float>(*info);
///
/// Opening reads and checks the header alone (see parse_safetensors_header); read() fetches one tensor's bytes. Many
/// threads may read at once. Nothing a file says is believed before it agrees with the file's size.
///
/// The file is read, not mapped into memory: one that is cut short meanwhile is an Error then, and not a signal that
/// ends the program.
class SafetensorsFile {
 public:
  /// Throws Error, naming the file, where it cannot be read or breaks a rule of the format.
  explicit SafetensorsFile(const std::filesystem::path& path)
      // Without waiting for the other end, should it be a pipe.
      : place_(path.string()), file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    struct stat status;
    if (!file_ || ::fstat(file_.get(), &status) != 0) {
      fail(place_, "could not open: ", std::generic_category().message(errno));
    }
    if (!S_ISREG(status.st_mode)) {
      fail(place_, "expected a file, got ", S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
    }
    read_header(static_cast<std::uint64_t>(status.st_size));
  }

  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

  /// All tensors, in the order of their bytes.
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }

  /// The tensor of that name, or nullptr.
  const TensorInfo* find(std::string_view name) const { return header_.find(name); }

  /// The numbers of one of this file's tensors, as T. Floating-point numbers are rounded to T's precision; whole ones
  /// become floating-point numbers likewise, and other whole ones where those hold them.
  /// Throws Error where a T cannot hold the numbers, and where the file cannot be read to the tensor's end.
  template <typename T>
  Tensor<T> read(const TensorInfo& info) const {
    if ((std::integral<T> && is_floating_point(info.dtype)) || (std::same_as<T, bool> && info.dtype != Dtype::BOOL)) {
      fail(place_, "tensor '", detail::shown(info.name), "': expected numbers that ", dtype_of<T>(), " holds, got ",
           info.dtype);
    }
    Tensor<T> tensor(info.shape, uninitialized);
    const std::size_t count = static_cast<std::size_t>(tensor.size());
    T* values = tensor.data();
    if (info.dtype == dtype_of<T>() && info.dtype != Dtype::BOOL) {  // BOOL has bytes that are no bool
      read_bytes(info.begin, std::as_writable_bytes(std::span(values, count)));
      return tensor;
    }
    std::array<std::byte, std::size_t{1} << 16> chunk;
    const std::size_t size = size_of(info.dtype), at_once = chunk.size() / size;
    for (std::size_t i = 0; i < count; i += at_once) {
      const std::size_t n = std::min(at_once, count - i);
      read_bytes(info.begin + i * size, std::span(chunk).first(n * size));
      const std::size_t converted = detail::convert(info.dtype, chunk.data(), n, values + i);
      if (converted < n) refuse_number(info, i + converted, chunk.data() + converted * size, dtype_of<T>());
    }
    return tensor;
  }

  /// The bytes of one of this file's tensors as they stand there, handed to `sink(std::span<const std::byte>)` in pieces,
  /// all but the last of one length. Throws Error where the file cannot be read to the tensor's end.
  template <typename Sink>
  void read_bytes(const TensorInfo& info, Sink&& sink) const {
    std::array<std::byte, std::size_t{1} << 16> chunk;
    for (std::uint64_t begin = info.begin; begin < info.end; begin += chunk.size()) {
      const auto piece = std::span(chunk).first(std::min<std::size_t>(chunk.size(), info.end - begin));
      read_bytes(begin, piece);
      sink(std::span<const std::byte>(piece));
    }
  }

 private:
  void read_header(std::uint64_t file_size) {
    std::uint64_t length = 0;
    if (file_size < sizeof length) fail(place_, "expected at least 8 bytes, got ", file_size);
    read_from(0, std::as_writable_bytes(std::span(&length, 1)));
    const std::uint64_t longest = std::min(file_size - sizeof length, detail::largest_safetensors_header);
    if (length > longest) {
      fail(place_, "expected a header of at most ", longest, " bytes (the file has ", file_size, "), got ", length);
    }
    std::string text(static_cast<std::size_t>(length), '\0');
    read_from(sizeof length, std::as_writable_bytes(std::span(text)));
    data_ = sizeof length + length;
    header_ = parse_safetensors_header(text, file_size - data_, place_);
  }

  /// Bytes of the data, counted from the end of the header.
  void read_bytes(std::uint64_t begin, std::span<std::byte> bytes) const { read_from(data_ + begin, bytes); }

  void read_from(std::uint64_t position, std::span<std::byte> bytes) const {
    static constexpr std::size_t at_once = std::size_t{1} << 30;  // Linux reads no more than 2 GiB in one call
    while (!bytes.empty()) {
      const auto got =
          ::pread(file_.get(), bytes.data(), std::min(bytes.size(), at_once), static_cast<off_t>(position));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(place_, "could not read: ", std::generic_category().message(errno));
      if (got == 0) fail(place_, "expected ", bytes.size(), " more bytes at ", position, ", but the file ends there");
      bytes = bytes.subspan(static_cast<std::size_t>(got));
      position += static_cast<std::uint64_t>(got);
    }
  }

  [[noreturn]] void refuse_number(const TensorInfo& info, std::size_t position, const std::byte* bytes,
                                  Dtype wanted) const {
    double value = 0;
    detail::convert(info.dtype, bytes, 1, &value);
    fail(place_, "tensor '", detail::shown(info.name), "': expected numbers that ", wanted, " holds, got ", value,
         " at position ", position);
  }

  std::string place_;
  detail::FileDescriptor file_;
  std::uint64_t data_ = 0;  // where the header ends
  SafetensorsHeader header_;
};

}  // namespace residua::inline RESIDUA_ABI
