// Files of a dataset, read whole.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

// Without std::filesystem, for which g++ takes a fiftieth of its memory for a program that includes residua.hpp.

inline bool exists(const std::string& path) {
  struct ::stat status;
  return ::stat(path.c_str(), &status) == 0;
}

/// The size of a file in bytes. Throws Error, which says what kind of file was expected, where that is no plain file.
inline std::uintmax_t size_of_file(const std::string& file, std::string_view kind) {
  struct ::stat status;
  const auto fails = [&](int reason) { fail(file, "expected ", kind, ", got: ", std::generic_category().message(reason)); };
  if (::stat(file.c_str(), &status) != 0) fails(errno);
  const auto type = status.st_mode & S_IFMT;
  if (type != S_IFREG) fails(type == S_IFDIR ? EISDIR : ENOTSUP);
  return static_cast<std::uintmax_t>(status.st_size);
}

inline void check_folder(const std::string& folder) {
  struct ::stat status;
  const bool there = ::stat(folder.c_str(), &status) == 0;
  if (there && (status.st_mode & S_IFMT) == S_IFDIR) return;
  fail(folder, "expected a folder, got: ", there ? "something else" : std::generic_category().message(errno));
}

inline std::string in_folder(std::string folder, std::string_view name) {
  if (!folder.ends_with('/')) folder += '/';
  return folder.append(name);
}

/// All bytes that can be read of a file of a known size.
inline std::vector<std::byte> read_bytes(const std::string& file, std::uintmax_t size) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  bytes.resize(static_cast<std::size_t>(in.gcount()));
  return bytes;
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
