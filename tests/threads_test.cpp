// The pool of threads.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <residua/core/threads.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

class Threads : public testing::Test {
 protected:
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = num_threads();
};

TEST_F(Threads, EachBlockRunsOnce) {
  for (int threads = 1; threads <= 4; ++threads) {
    set_num_threads(threads);
    EXPECT_EQ(num_threads(), threads);
    for (const Index blocks : {0, 1, 2, 3, 17, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(blocks));
      parallel_for(blocks, [&](Index block) { ++runs[static_cast<std::size_t>(block)]; });
      for (const auto& count : runs) ASSERT_EQ(count, 1);
    }
  }
}

TEST_F(Threads, ManyShortCallsInARow) {
  set_num_threads(3);
  for (int call = 0; call < 5000; ++call) {
    Index results[4] = {};
    parallel_for(4, [&](Index block) { results[block] = block + call; });
    for (Index block = 0; block < 4; ++block) ASSERT_EQ(results[block], block + call);
  }
}

TEST_F(Threads, RangesCoverEverythingOnce) {
  set_num_threads(3);
  for (const Index count : {0, 1, 9, 10, 11, 1001}) {
    std::vector<std::atomic<int>> seen(static_cast<std::size_t>(count));
    parallel_ranges(count, 10, [&](Index first, Index last) {
      ASSERT_LE(last - first, 10);
      for (Index i = first; i < last; ++i) ++seen[static_cast<std::size_t>(i)];
    });
    for (const auto& times : seen) ASSERT_EQ(times, 1);
  }
}

TEST_F(Threads, WorkIsDoneByMoreThanOne) {
  set_num_threads(3);
  std::atomic<int> waiting{0};
  std::set<std::thread::id> ids;
  std::mutex mutex;
  parallel_for(3, [&](Index) {  // each block waits for the others: only three threads can end this
    ++waiting;
    while (waiting < 3) std::this_thread::yield();
    std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQ(ids.size(), 3u);
}

#if defined(__linux__)
TEST_F(Threads, ThatSleptMayRunOnAnyCoreAgain) {
  set_num_threads(2);
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  for (int i = 0; i < 5; ++i) {
    std::atomic<int> waiting{0};
    parallel_for(2, [&](Index) {
      ++waiting;
      while (waiting < 2) std::this_thread::yield();
      cpu_set_t here;
      ASSERT_EQ(sched_getaffinity(0, sizeof here, &here), 0);
      EXPECT_TRUE(CPU_EQUAL(&here, &all));
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}
#endif

TEST_F(Threads, ExceptionReachesTheCaller) {
  for (int threads = 1; threads <= 3; ++threads) {
    set_num_threads(threads);
    for (Index bad = 0; bad < 20; ++bad) {
      EXPECT_EQ(message([&] {
        parallel_for(20, [&](Index block) {
          if (block == bad) fail("body", block);
        });
      }), "body: " + std::to_string(bad));
      std::atomic<int> runs{0};
      parallel_for(20, [&](Index) { ++runs; });
      EXPECT_EQ(runs, 20);
    }
    EXPECT_THROW(parallel_for(100, [](Index) { throw 1; }), int);
  }
}

TEST_F(Threads, NestedCallsRunInTheirCaller) {
  set_num_threads(3);
  std::vector<std::atomic<int>> runs(100);
  parallel_for(10, [&](Index outer) {
    const auto self = std::this_thread::get_id();
    parallel_for(10, [&](Index inner) {
      EXPECT_EQ(std::this_thread::get_id(), self);
      ++runs[static_cast<std::size_t>(10 * outer + inner)];
    });
  });
  for (const auto& count : runs) EXPECT_EQ(count, 1);
}

TEST_F(Threads, CallsFromManyThreadsAtOnce) {
  set_num_threads(2);
  std::vector<std::thread> callers;
  std::atomic<Index> total{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int call = 0; call < 200; ++call) {
        std::atomic<Index> sum{0};
        parallel_for(20, [&](Index block) { sum += block; });
        total += sum;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(total, 4 * 200 * 190);
}

TEST_F(Threads, NumberMayChangeWhileOthersCall) {
  std::atomic<bool> done{false};
  std::thread other([&] {
    for (int i = 0; i < 100; ++i) set_num_threads(1 + i % 4);
    done = true;
  });
  while (!done) {
    std::atomic<Index> sum{0};
    parallel_for(20, [&](Index block) { sum += block; });
    ASSERT_EQ(sum, 190);
  }
  other.join();
}

// Its parent's threads are not there, nor will they ever leave what they wait on.
TEST_F(Threads, AForkedChildHasItsOwn) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "ThreadSanitizer has no threads in a forked child";
#endif
  set_num_threads(3);
  parallel_for(100, [](Index) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // they go to sleep
  const pid_t child = fork();
  if (child == 0) {
    int ran = num_threads() == 3;
    for (int threads : {3, 2, 4}) {
      set_num_threads(threads);
      std::mutex mutex;
      std::set<std::thread::id> seen;
      std::atomic<int> blocks = 0;
      parallel_for(40, [&](Index) {
        ++blocks;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        std::lock_guard lock(mutex);
        seen.insert(std::this_thread::get_id());
      });
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      ran += blocks == 40 && seen.size() > 1;
    }
    std::exit(ran);
  }
  int status = 0;
  pid_t ended = 0;
  for (int tenths = 0; ended == 0 && tenths < 300; ++tenths) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ended = waitpid(child, &status, WNOHANG);
  }
  if (ended == 0) kill(child, SIGKILL);
  ASSERT_EQ(ended, child) << "it hangs";
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 4);
  parallel_for(100, [](Index) {});  // the parent goes on
}

TEST_F(Threads, NumberIsChecked) {
  EXPECT_EQ(message([] { set_num_threads(0); }), "set_num_threads: expected at least 1 thread, got 0");
  EXPECT_THROW(set_num_threads(-2), Error);
  set_num_threads(2);
  EXPECT_THROW(parallel_for(2, [](Index) { set_num_threads(1); }), Error);  // and not a wait without end
  EXPECT_EQ(num_threads(), 2);
}

}  // namespace
