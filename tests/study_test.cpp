// A study that is killed at any moment and begun again ends with the results of one that never was.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mount.h>

#include "io/folder.hpp"
#include "program.hpp"

namespace {

#ifdef STUDY

namespace fs = std::filesystem;

std::size_t count_lines(const fs::path& path) {
  const std::string text = content(path);
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

class Study : public InFolder {
 protected:
  /// A study of a few seconds, with `more` instead of or beside its flags.
  pid_t start(const fs::path& report, const std::vector<std::string>& more = {}) const {
    const std::vector<std::pair<std::string, std::string>> usual{
        {"--depths", "8,14"}, {"--norms", "none,batch"}, {"--seeds", "2"}, {"--sweep-lr", "0.1"}, {"--sweep-scale", "2"},
        {"--width", "2"}, {"--train-images", "64"}, {"--test-images", "20"}, {"--epochs", "2"},
        {"--memory-depths", "8,14"}, {"--jobs", "2"}, {"--report", report.string()}};
    std::vector<std::string> words{STUDY, "--quick"};
    for (const auto& [flag, value] : usual) {
      if (std::find(more.begin(), more.end(), flag) == more.end()) words.insert(words.end(), {flag, value});
    }
    words.insert(words.end(), more.begin(), more.end());
    return start_program(std::move(words), out_);
  }

  static int exit_code(pid_t child) {
    const int status = wait_for(child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  /// The exit code, with what was said in `said`.
  int run(const fs::path& report, const std::vector<std::string>& more = {}) {
    const int code = exit_code(start(report, more));
    said = content(out_);
    return code;
  }

  const fs::path out_ = folder_ / "out";
  std::string said;
};

TEST_F(Study, EndsTheSameHoweverOftenItIsKilled) {
  const fs::path whole = folder_ / "whole", killed = folder_ / "killed";
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_EQ(run(whole), 0) << said;
  const auto whole_time = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(count_lines(whole / "results.csv"), 25u);  // 16 of the grid, 8 of the sweeps and the heading
  EXPECT_EQ(count_lines(whole / "figures" / "memory.csv"), 9u);  // two depths in four curves, and the heading
  EXPECT_GT(content(whole / "report.html").size(), 10'000u);

  std::size_t finished = 0;
  for (int kills = 0; kills < 10; ++kills) {
    const pid_t child = start(killed);
    std::this_thread::sleep_for(whole_time / 20 * (1 + kills % 3));
    ::kill(child, SIGKILL);
    wait_for(child);
    EXPECT_GE(count_lines(killed / "runs.jsonl"), finished);  // what was finished stays so
    finished = count_lines(killed / "runs.jsonl");
  }
  ASSERT_EQ(run(killed), 0) << said;
  EXPECT_EQ(content(killed / "results.csv"), content(whole / "results.csv"));
  EXPECT_EQ(count_lines(killed / "runs.jsonl"), 28u);  // with 4 steps; none was done twice

  // With nothing left to do only the report is written anew.
  const std::string runs = content(killed / "runs.jsonl");
  fs::remove(killed / "report.html");
  ASSERT_EQ(run(killed), 0) << said;
  EXPECT_EQ(content(killed / "runs.jsonl"), runs);
  EXPECT_TRUE(fs::exists(killed / "report.html"));

  // A line that was cut off is done again.
  fs::resize_file(killed / "runs.jsonl", runs.size() - 100);
  ASSERT_EQ(run(killed), 0) << said;
  EXPECT_EQ(content(killed / "results.csv"), content(whole / "results.csv"));
}

TEST_F(Study, StopsAtAnInterruptAndGoesOn) {
  const fs::path report = folder_ / "report";
  const pid_t child = start(report);
  while (count_lines(report / "runs.jsonl") < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ::kill(child, SIGINT);
  EXPECT_EQ(exit_code(child), 130);
  EXPECT_NE(content(out_).find("of 28 runs finished; the same command goes on from here"), std::string::npos) << content(out_);
  EXPECT_GE(count_lines(report / "runs.jsonl"), 2u);
  EXPECT_EQ(run(report), 0) << said;
}

TEST_F(Study, OutlivesAFullDisk) {
  const fs::path whole = folder_ / "whole", disk = folder_ / "disk";
  fs::create_directories(disk);
  const auto resize = [&](const char* size, unsigned long how) { return ::mount("tmpfs", disk.c_str(), "tmpfs", how, size); };
  if (resize("size=40k", 0) != 0) GTEST_SKIP() << "needs the right to mount a tmpfs";
  EXPECT_EQ(run(disk / "report"), 1) << said;
  EXPECT_NE(said.find("runs.jsonl: could not write: No space left on device"), std::string::npos) << said;
  EXPECT_GE(count_lines(disk / "report" / "runs.jsonl"), 1u);
  EXPECT_EQ(resize("size=100m", MS_REMOUNT), 0);
  EXPECT_EQ(run(disk / "report"), 0) << said;
  EXPECT_EQ(run(whole), 0) << said;
  EXPECT_EQ(content(disk / "report" / "results.csv"), content(whole / "results.csv"));
  ::umount(disk.c_str());
}

TEST_F(Study, LetsOnlyOneAtATimeIntoAFolder) {
  const fs::path report = folder_ / "report";
  const pid_t first = start(report, {"--epochs", "100"});
  while (!fs::exists(report / "study.json")) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(run(report), 1);
  EXPECT_NE(said.find("expected a folder that no other study is using"), std::string::npos) << said;
  ::kill(first, SIGTERM);
  EXPECT_EQ(exit_code(first), 130);
}

TEST_F(Study, TellsWhatIsWrongInOneLine) {
  const fs::path report = folder_ / "report";
  const auto refused = [&](const std::vector<std::string>& flags, int code, const std::string& part) {
    EXPECT_EQ(run(report, flags), code) << said;
    EXPECT_NE(said.find(part), std::string::npos) << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  };
  refused({"--depths", "21"}, 2, "expected 8, 14, 20, ... (6n + 2), got 21");
  refused({"--depths", ""}, 2, "depths");
  refused({"--norms", "bach"}, 2, "bach");
  refused({"--seeds", "0"}, 2, "seeds");
  refused({"--unknown"}, 2, "--unknown");
  refused({"--report", "/proc/report"}, 1, "/proc/report: could not create the folder: ");
  refused({"--data", folder_.string()}, 1, "data_batch_1.bin");

  fs::create_directories(report);
  const auto settings = [&](const std::string& text) { std::ofstream(report / "study.json") << text; };
  settings(R"({"format": 99, "settings": {}})");
  refused({}, 1, "expected a report folder of format 1, found one of format 99");
  settings("not JSON");
  refused({}, 1, "expected the settings of a study, found something else");
  fs::remove_all(report);
  EXPECT_EQ(run(report, {"--depths", "8", "--no-sweeps"}), 0) << said;
  refused({"--epochs", "3"}, 1, "expected the settings that the folder was begun with, epochs 2, got 3");
  refused({"--report", (report / "study.json").string()}, 1, "could not create the folder: ");
  fs::resize_file(report / "runs.jsonl", 0);
  std::ofstream(report / "runs.jsonl") << "something else\n";
  refused({}, 1, "expected a finished run in each line, found something else at byte 0");
}

#endif

}  // namespace
