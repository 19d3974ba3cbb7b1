// A place for the files of a test.
#pragma once

#include <filesystem>
#include <string>

#include <unistd.h>

/// A folder of this process's own, empty at first and gone at the end.
struct TemporaryFolder {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("residua_test_" + std::to_string(getpid()));

  TemporaryFolder() { std::filesystem::create_directories(path); }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
};
