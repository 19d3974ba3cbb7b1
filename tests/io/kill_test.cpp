// A training that is killed at any moment, or runs out of disk, ends as if it had never been disturbed.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <residua/core/random.hpp>

#include "io/folder.hpp"
#include "program.hpp"

namespace {

namespace fs = std::filesystem;

#ifdef TRAIN_IMAGE_CLASSIFIER

class KilledTraining : public InFolder {
 protected:
  /// The example train_image_classifier, saving with every step; `name` is its folder.
  pid_t start(const fs::path& run, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{TRAIN_IMAGE_CLASSIFIER, "--depth", "8", "--width", "32", "--batch", "4",
                                   "--train-images", "96", "--epochs", "2", "--held-out", "0.2",
                                   "--checkpoint-every", "1", "--resume",
                                   "--checkpoint", run.string(), "--history", run.string() + ".csv"};
    words.insert(words.end(), more.begin(), more.end());
    return start_program(std::move(words), out_);
  }

  /// What is left of a run: its newest checkpoint and its history.
  static std::pair<std::string, std::string> remains(const fs::path& run) {
    fs::path newest;
    for (const auto& entry : fs::directory_iterator(run)) {
      if (entry.path().extension() == ".safetensors") newest = std::max(newest, entry.path());
    }
    return {newest.filename().string() + content(newest), content(run.string() + ".csv")};
  }

  static bool has_temporary(const fs::path& run) {
    std::error_code error;
    for (fs::directory_iterator entry(run, error), end; !error && entry != end; entry.increment(error)) {
      if (entry->path().extension() == ".tmp") return true;
    }
    return false;
  }

  const fs::path out_ = folder_ / "out";
};

TEST_F(KilledTraining, EndsWithTheSameBytesAsAnUndisturbedOne) {
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(wait_for(start(folder_ / "whole")), 0) << content(out_);
  const auto whole = remains(folder_ / "whole");
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
  ASSERT_GT(whole.first.size(), 100'000u);
  ASSERT_GT(whole.second.size(), 100u);

  residua::Random random(static_cast<std::uint64_t>(getpid()));
  int kills = 0, inside_a_save = 0, rounds = 0;
  while (kills < 50) {
    const fs::path run = folder_ / ("round" + std::to_string(rounds++));
    while (true) {
      const pid_t child = start(run);
      // Long enough to get somewhere, short enough to be killed many times.
      std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds / 10 + random.below(milliseconds / 2)));
      ::kill(child, SIGKILL);
      const int status = wait_for(child);
      if (WIFEXITED(status)) {
        ASSERT_EQ(WEXITSTATUS(status), 0) << content(out_);
        break;
      }
      ++kills;
      inside_a_save += has_temporary(run);
    }
    EXPECT_EQ(remains(run), whole) << "round " << rounds << " differs, after " << kills << " kills";
  }
  std::printf("%d kills in %d rounds, %d of them inside a save\n", kills, rounds, inside_a_save);
  EXPECT_GT(inside_a_save, 0);
}

TEST_F(KilledTraining, OutlivesAFullDisk) {
  const fs::path disk = folder_ / "disk";
  fs::create_directories(disk);
  const auto resize = [&](const char* size, unsigned long how) { return ::mount("tmpfs", disk.c_str(), "tmpfs", how, size); };
  if (resize("size=5m", 0) != 0) GTEST_SKIP() << "needs the right to mount a tmpfs";
  ASSERT_EQ(wait_for(start(folder_ / "whole")), 0);
  const auto whole = remains(folder_ / "whole");
  const std::string said = content(out_);

  // Full after the first checkpoints, the run stops and says why; with room again it goes on from what was saved.
  const int stopped = wait_for(start(disk / "run", {"--keep", "1000"}));
  EXPECT_TRUE(WIFEXITED(stopped) && WEXITSTATUS(stopped) == 1) << stopped;
  EXPECT_NE(content(out_).find("could not write: No space left on device"), std::string::npos) << content(out_);
  EXPECT_FALSE(has_temporary(disk / "run"));
  ASSERT_EQ(resize("size=100m", MS_REMOUNT), 0);
  EXPECT_EQ(wait_for(start(disk / "run", {"--keep", "1000"})), 0) << content(out_);
  EXPECT_EQ(remains(disk / "run"), whole);

  // Told to go on, it trains to the end and says the same of the test images.
  fs::remove_all(disk / "run");
  ASSERT_EQ(resize("size=5m", MS_REMOUNT), 0);
  EXPECT_EQ(wait_for(start(disk / "run", {"--keep", "1000", "--on-save-error", "go_on"})), 0) << content(out_);
  const std::string result = said.substr(said.find("test accuracy"), 60);
  EXPECT_NE(content(out_).find(result), std::string::npos) << content(out_);
  EXPECT_NE(content(out_).find("going on without saving: "), std::string::npos) << content(out_);
  ::umount(disk.c_str());
}

#else

TEST(KilledTraining, EndsWithTheSameBytesAsAnUndisturbedOne) { GTEST_SKIP() << "needs RESIDUA_TEST_WHOLE and train_image_classifier"; }

#endif

}  // namespace
