// The report folder: what was finished stays finished, whatever is killed or full.
#pragma once

#include "settings.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include <residua/io/atomic_file.hpp>

namespace study {

namespace fs = std::filesystem;

/// A file's whole text; empty where there is none.
inline std::string text_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// The runs that are finished, a line of JSON each in runs.jsonl. A line is on the disk before add() returns; one that was
/// cut off, by a kill or a full disk, is taken away at the next start and its run done again. While one study uses the
/// folder, another gets an Error.
class Store {
 public:
  static constexpr int format = 1;

  /// Throws Error for a folder that cannot be written to, is another study's, or of another format.
  Store(const fs::path& folder, const json& shared) : folder_(folder), path_((folder / "runs.jsonl").string()) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail(folder.string(), "could not create the folder: ", error.message());
    file_ = detail::FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    if (!file_) give_up("open");
    lock();
    check_settings(shared);
    read();
  }

  bool has(const Run& run) const { return finished_.contains(run.key()); }
  const json& operator[](const Run& run) const { return finished_.at(run.key()); }

  void add(const Run& run, json result) {
    const std::string line = json{{"run", run.described()}, {"result", result}}.dump() + '\n';
    const char* text = line.data();
    for (std::size_t left = line.size(); left > 0;) {
      const auto written = ::write(file_.get(), text, left);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) give_up("write");
      text += written;
      left -= static_cast<std::size_t>(written);
    }
    if (::fsync(file_.get()) != 0) give_up("sync");
    finished_[run.key()] = std::move(result);
  }

 private:
  /// Waits a moment: the processes of a study that was killed may take as long to end.
  void lock() const {
    for (int tries = 0; ::flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; ++tries) {
      if (tries == 20) fail(folder_.string(), "expected a folder that no other study is using");
      ::usleep(50'000);
    }
  }

  void check_settings(const json& shared) const {
    const fs::path path = folder_ / "study.json";
    const std::string text = text_of(path);
    if (text.empty()) {
      write_file_atomically(path, json{{"format", format}, {"settings", shared}}.dump(2) + '\n');
      return;
    }
    const json found = json::parse(text, nullptr, false);
    if (!found.is_object() || !found.contains("format") || !found.contains("settings")) {
      fail(path.string(), "expected the settings of a study, found something else");
    }
    if (found["format"] != format) {
      fail(path.string(), "expected a report folder of format ", format, ", found one of format ", found["format"].dump());
    }
    for (const auto& [name, value] : shared.items()) {
      const json& there = found["settings"].contains(name) ? found["settings"][name] : json();
      if (there != value) {
        fail(path.string(), "expected the settings that the folder was begun with, ", name, " ", there.dump(), ", got ",
             value.dump());
      }
    }
  }

  void read() {
    const std::string text = text_of(path_);
    std::size_t begin = 0, end;
    for (; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      json line = json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                              text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      if (!line.is_object() || !line.contains("run") || !line.contains("result")) {
        fail(path_, "expected a finished run in each line, found something else at byte ", begin);
      }
      finished_[line["run"].dump()] = std::move(line["result"]);
    }
    if (begin < text.size() && ::ftruncate(file_.get(), static_cast<off_t>(begin)) != 0) give_up("cut the last line off");
  }

  [[noreturn]] void give_up(const char* action) const {
    const int reason = errno;
    fail(path_, "could not ", action, ": ", std::strerror(reason));
  }

  fs::path folder_;
  std::string path_;
  detail::FileDescriptor file_;
  std::map<std::string, json> finished_;
};

}  // namespace study
