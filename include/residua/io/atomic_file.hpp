// AtomicFile: replaces a file as a whole, or not at all.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <residua/core/error.hpp>
#include <residua/io/file_descriptor.hpp>

namespace residua::inline RESIDUA_ABI {

/// Writes a file so that at any moment, whatever is killed, full or without power, either the whole old file or the
/// whole new one stands under its name:
///
///     AtomicFile file("run/epoch-3.safetensors");
///     file.write(bytes);                           // to run/epoch-3.safetensors.tmp
///     file.commit();                               // on the disk, then under its name
///
/// Without commit() nothing has happened. What a killed program left in `.tmp` is overwritten by the next; while one
/// program writes, a second one gets an Error. Where the name is a symbolic link, the new file takes the link's place.
///
/// Every function throws Error that names the file, what was tried and the system's reason; the temporary file is gone
/// then. Only an Error of commit() that could not sync the folder comes after the new file took the old one's place.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path)
      : place_(path.string()), name_(path.filename().string()), temporary_(name_ + ".tmp") {
    const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
    folder_ = detail::FileDescriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder_) give_up("open its folder");
    struct stat old;
    if (name_.empty() || (::fstatat(folder_.get(), name_.c_str(), &old, 0) == 0 && !S_ISREG(old.st_mode))) {
      fail(place_, "expected the name of a file, got that of a folder or device");
    }
    open_temporary();
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() { discard(); }

  /// Appends to what will be the file.
  void write(std::span<const std::byte> bytes) {
    static constexpr std::size_t at_once = std::size_t{1} << 30;  // Linux writes no more than 2 GiB in one call
    while (!bytes.empty()) {
      const auto written = ::write(file_.get(), bytes.data(), std::min(bytes.size(), at_once));
      if (written < 0 && errno == EINTR) continue;
      if (written == 0) errno = EIO;
      if (written <= 0) give_up("write");
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  /// Gives the file its name, once all its bytes are on the disk. Nothing can be written after that.
  void commit() {
    if (::fsync(file_.get()) != 0) give_up("sync");
    // Renamed while still open and so still locked: nobody else takes the temporary file for a left one.
    if (::renameat(folder_.get(), temporary_.c_str(), folder_.get(), name_.c_str()) != 0) give_up("rename");
    file_ = {};
    if (::fsync(folder_.get()) != 0 && errno != EINVAL) give_up("sync its folder");  // EINVAL: has no such thing
  }

 private:
  void open_temporary() {
    struct stat opened, named;
    do {
      file_ = detail::FileDescriptor(
          ::openat(folder_.get(), temporary_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666));
      if (!file_) give_up("create " + temporary_);
      // The lock ends with the process that holds it. Where the file system has no locks, there is none.
      if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        file_ = {};
        fail(place_, "expected to be the only one who writes it, but ", temporary_, " is being written");
      }
      // Between opening and locking, its writer may have given it its name or removed it: then another is needed.
    } while (::fstat(file_.get(), &opened) != 0 ||
             ::fstatat(folder_.get(), temporary_.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0 ||
             opened.st_dev != named.st_dev || opened.st_ino != named.st_ino);
    if (::ftruncate(file_.get(), 0) != 0) give_up("empty " + temporary_);
  }

  void discard() {
    if (file_) ::unlinkat(folder_.get(), temporary_.c_str(), 0);
    file_ = {};
  }

  [[noreturn]] void give_up(std::string_view action) {
    const int reason = errno;
    discard();
    fail(place_, "could not ", action, ": ", std::generic_category().message(reason));
  }

  std::string place_, name_, temporary_;
  detail::FileDescriptor folder_, file_;
};

/// The whole file is `text`, or stays what it was. Throws Error as AtomicFile does.
inline void write_file_atomically(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

}  // namespace residua::inline RESIDUA_ABI
