// Files of a dataset, read whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <vector>

#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

inline void check_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    fail(folder.string(), "expected a folder, got: ", error ? error.message() : "something else");
  }
}

/// Throws Error, which says what kind of file was expected, where the system does not tell a size.
inline std::uintmax_t size_of_file(const std::filesystem::path& file, std::string_view kind) {
  std::error_code error;
  const std::uintmax_t bytes = std::filesystem::file_size(file, error);
  if (error) fail(file.string(), "expected ", kind, ", got: ", error.message());
  return bytes;
}

/// All bytes that can be read of a file of a known size.
inline std::vector<std::byte> read_bytes(const std::filesystem::path& file, std::uintmax_t size) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  bytes.resize(static_cast<std::size_t>(in.gcount()));
  return bytes;
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
