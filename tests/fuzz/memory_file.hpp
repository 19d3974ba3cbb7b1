// A file that stands in memory alone, for readers that want a path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

class MemoryFile {
 public:
  MemoryFile() : number_(memfd_create("fuzz", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(number_)) {}

  void set(const std::uint8_t* data, std::size_t size) const {
    const auto bytes = static_cast<ssize_t>(size);
    if (ftruncate(number_, 0) != 0 || pwrite(number_, data, size, 0) != bytes) std::abort();
  }
  const std::string& path() const { return path_; }

 private:
  int number_;
  std::string path_;
};
