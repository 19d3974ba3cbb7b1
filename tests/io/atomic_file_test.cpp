// AtomicFile: the old file or the new one, whatever fails and whenever the program is killed.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <residua/core/random.hpp>
#include <residua/io/atomic_file.hpp>
#include <residua/io/safetensors.hpp>

#include "errors.hpp"
#include "io/folder.hpp"

// --- a system that fails where it is told to -------------------------------------------------------------------------

namespace {

/// Lets `skip` calls of a function through, then fails the next one.
struct Fault {
  std::string_view function = "";
  int error = 0, skip = 0;
  bool happened = false;
} fault;
int interruptions = 0;  // so many writes are cut short or interrupted

bool fails(std::string_view function) {
  if (function != fault.function || fault.happened || fault.skip-- > 0) return false;
  fault.happened = true;
  errno = fault.error;
  return true;
}
template <typename F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
int fsync(int file) { return fails("fsync") ? -1 : real<int(int)>("fsync")(file); }
int ftruncate(int file, off_t size) noexcept {
  return fails("ftruncate") ? -1 : real<int(int, off_t)>("ftruncate")(file, size);
}
int renameat(int from, const char* old_name, int to, const char* new_name) noexcept {
  if (fails("renameat")) return -1;
  return real<int(int, const char*, int, const char*)>("renameat")(from, old_name, to, new_name);
}
ssize_t write(int file, const void* bytes, std::size_t count) {
  if (fails("write")) return fault.error == 0 ? 0 : -1;
  if (interruptions > 0) {
    if (--interruptions % 2 == 0) return errno = EINTR, -1;
    count = std::min<std::size_t>(count, 3);
  }
  return real<ssize_t(int, const void*, std::size_t)>("write")(file, bytes, count);
}
}

namespace {

using namespace residua;
namespace fs = std::filesystem;

/// What `action` says when a function of the system fails once.
std::string message_with(Fault what, auto&& action) {
  fault = what;
  std::string text = message(action);
  EXPECT_TRUE(fault.happened) << fault.function << " was not called";
  fault = {};
  return text;
}

class AtomicFileTest : public InFolder {
 protected:
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  const std::vector<std::string> only_file_{"file"};
  const std::string file_ = path("file");
};

TEST_F(AtomicFileTest, ReplacesTheFileAtCommit) {
  write_file_atomically(file_, "old");
  EXPECT_EQ(content(file_), "old");
  {
    AtomicFile file(file_);
    file.write(std::as_bytes(std::span(std::string_view("new "))));
    file.write(std::as_bytes(std::span(std::string_view("text"))));
    EXPECT_EQ(content(file_), "old");
    file.commit();
    EXPECT_EQ(content(file_), "new text");
    EXPECT_EQ(message([&] { file.commit(); }), file_ + ": could not sync: Bad file descriptor");
  }
  EXPECT_EQ(content(file_), "new text");
  EXPECT_EQ(names(), only_file_);
  write_file_atomically(file_, "");
  EXPECT_EQ(content(file_), "");
}

TEST_F(AtomicFileTest, WithoutCommitNothingHasHappened) {
  write_file_atomically(file_, "old");
  {
    AtomicFile file(file_);
    file.write(std::as_bytes(std::span(std::string_view("new"))));
    EXPECT_EQ(names(), (std::vector<std::string>{"file", "file.tmp"}));
  }
  EXPECT_EQ(content(file_), "old");
  EXPECT_EQ(names(), only_file_);
}

TEST_F(AtomicFileTest, StandsInTheFolderItWasOpenedIn) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_);
  AtomicFile file("file");
  fs::current_path(before);
  file.write(std::as_bytes(std::span(std::string_view("new"))));
  file.commit();
  EXPECT_EQ(content(file_), "new");
}

TEST_F(AtomicFileTest, OverwritesWhatAKilledProgramLeft) {
  put(path("file.tmp"), "longer than what will be written");
  write_file_atomically(file_, "new");
  EXPECT_EQ(content(file_), "new");
  EXPECT_EQ(names(), only_file_);
}

TEST_F(AtomicFileTest, WritesWhereNobodyElseDoes) {
  AtomicFile first(file_);
  EXPECT_EQ(message([&] { AtomicFile second(file_); }),
            file_ + ": expected to be the only one who writes it, but file.tmp is being written");
  first.write(std::as_bytes(std::span(std::string_view("first"))));
  first.commit();
  EXPECT_EQ(content(file_), "first");
  write_file_atomically(file_, "second");
  EXPECT_EQ(content(file_), "second");
}

TEST_F(AtomicFileTest, FollowsNoLink) {
  put(path("other"), "other");
  fs::create_symlink(path("other"), path("file.tmp"));
  EXPECT_EQ(message([&] { AtomicFile file(file_); }),
            file_ + ": could not create file.tmp: Too many levels of symbolic links");
  fs::remove(path("file.tmp"));
  fs::create_symlink(path("other"), file_);
  write_file_atomically(file_, "new");
  EXPECT_EQ(content(path("other")), "other");
  EXPECT_EQ(content(file_), "new");
  EXPECT_FALSE(fs::is_symlink(file_));
}

TEST_F(AtomicFileTest, TellsWhereNoFileCanStand) {
  EXPECT_EQ(message([&] { AtomicFile(path("nowhere/file")); }),
            path("nowhere/file") + ": could not open its folder: No such file or directory");
  put(file_, "old");
  EXPECT_EQ(message([&] { AtomicFile(path("file/file")); }),
            path("file/file") + ": could not open its folder: Not a directory");
  for (const std::string& name : {folder_.string(), folder_.string() + "/", std::string("/dev/null")}) {
    EXPECT_EQ(message([&] { AtomicFile file(name); }),
              name + ": expected the name of a file, got that of a folder or device");
  }
  EXPECT_EQ(message([&] { AtomicFile(path(std::string(300, 'x'))); }).find(path("xxx")), 0u);
  EXPECT_EQ(names(), only_file_);
}

TEST_F(AtomicFileTest, GoesOnAfterShortAndInterruptedWrites) {
  const std::string text = "not at once";
  interruptions = 7;
  write_file_atomically(file_, text);
  EXPECT_EQ(interruptions, 0);
  EXPECT_EQ(content(file_), text);
}

TEST_F(AtomicFileTest, LeavesTheOldFileWhereverTheSystemFails) {
  const auto save = [&](float value) {
    const std::vector<TensorToWrite> tensors{to_write("a", Tensor<float>(Shape{5, 3}, value)),
                                             to_write("b", Tensor<double>(Shape{100'000}, value))};
    write_safetensors(file_, tensors, {{"value", std::to_string(value)}});
  };
  save(1);
  const std::string old = content(file_);
  struct Case {
    Fault fault;
    std::string text;
  };
  const std::vector<Case> cases{{{"ftruncate", EIO}, "could not empty file.tmp: Input/output error"},
                                {{"write", ENOSPC, 0}, "could not write: No space left on device"},
                                {{"write", EDQUOT, 1}, "could not write: Disk quota exceeded"},
                                {{"write", EIO, 2}, "could not write: Input/output error"},
                                {{"write", 0}, "could not write: Input/output error"},
                                {{"fsync", EIO}, "could not sync: Input/output error"},
                                {{"fsync", ENOSPC}, "could not sync: No space left on device"},
                                {{"renameat", EACCES}, "could not rename: Permission denied"}};
  for (const Case& c : cases) {
    EXPECT_EQ(message_with(c.fault, [&] { save(2); }), file_ + ": " + c.text);
    EXPECT_EQ(content(file_), old) << c.text;
    EXPECT_EQ(names(), only_file_) << c.text;
    const SafetensorsFile file(file_);
    EXPECT_EQ(file.read<float>(*file.find("a")), Tensor<float>(Shape({5, 3}), 1)) << c.text;
  }
  // After the rename it is the new file, whole; that it survives a loss of power is what is not sure.
  EXPECT_EQ(message_with({"fsync", EIO, 1}, [&] { save(2); }),
            file_ + ": could not sync its folder: Input/output error");
  EXPECT_EQ(SafetensorsFile(file_).metadata().at("value"), std::to_string(2.f));
  EXPECT_EQ(message_with({"fsync", EINVAL, 1}, [&] { save(3); }), "no error");
  EXPECT_EQ(SafetensorsFile(file_).metadata().at("value"), std::to_string(3.f));
  EXPECT_EQ(names(), only_file_);
}

/// A file system of 64 KiB, where this process may mount one.
struct SmallDisk {
  explicit SmallDisk(const fs::path& path) : folder(path) {
    fs::create_directory(folder);
    mounted = mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=64k") == 0;
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted) umount(folder.c_str());
  }
  fs::path folder;
  bool mounted = false;
};

TEST_F(AtomicFileTest, LeavesTheOldFileOnAFullDisk) {
  const SmallDisk disk(folder_ / "disk");
  if (!disk.mounted) GTEST_SKIP() << "this process may not mount a tmpfs";
  const std::string file = (disk.folder / "file").string(), old(30'000, 'a');
  write_file_atomically(file, old);
  EXPECT_EQ(message([&] { write_file_atomically(file, std::string(60'000, 'b')); }),
            file + ": could not write: No space left on device");
  EXPECT_EQ(content(file), old);
  EXPECT_FALSE(fs::exists(file + ".tmp"));
  write_file_atomically(file, std::string(30'000, 'c'));
  EXPECT_EQ(content(file), std::string(30'000, 'c'));
}

/// Writes one content after the other until it is killed; tells `ready` when the first one stands.
[[noreturn]] void save_forever(const std::string& file, std::span<const std::string> contents, int ready) noexcept {
  for (std::size_t i = 0;; ++i) {
    write_file_atomically(file, contents[i % contents.size()]);
    if (i == 0 && write(ready, "", 1) != 1) _exit(1);
  }
}

TEST_F(AtomicFileTest, IsOneOfTheTwoWheneverTheProgramIsKilled) {
  const std::string contents[] = {std::string(200'000, 'a'), std::string(300'000, 'b')};
  Random random(1);
  for (int kill_number = 0; kill_number < 50; ++kill_number) {
    int ready[2];
    ASSERT_EQ(pipe(ready), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) save_forever(file_, contents, ready[1]);
    close(ready[1]);
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 1) << "the child could not write the file";
    close(ready[0]);
    usleep(static_cast<useconds_t>(random.uniform() * 10'000));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const std::string found = content(file_);
    ASSERT_TRUE(found == contents[0] || found == contents[1]) << found.size() << " bytes after kill " << kill_number;
    ASSERT_LE(names().size(), 2u) << "temporary files pile up";
  }
  write_file_atomically(file_, contents[0]);
  EXPECT_EQ(names(), only_file_);
}

}  // namespace
