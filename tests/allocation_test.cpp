// What training and prediction ask of the system's memory.
//
// A program of its own, since it counts every call of malloc in the process (but not under a sanitizer, which has its own).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

#include <gtest/gtest.h>

#include <residua/optim/adam.hpp>
#include <residua/optim/averaged_model.hpp>
#include <residua/optim/clip_grad.hpp>
#include <residua/optim/rmsprop.hpp>

#include "small_net.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(__GLIBC__) && !defined(SANITIZED)
#define COUNTS_MALLOC 1

namespace {
std::atomic<long> mallocs{0};
}

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) {
  ++mallocs;
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  ++mallocs;
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  ++mallocs;
  return __libc_realloc(old, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  ++mallocs;
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** result, std::size_t alignment, std::size_t size) {
  *result = memalign(alignment, size);
  return *result == nullptr ? 12 : 0;
}
}
#endif

namespace {

using namespace residua;

struct Asked {
  long mallocs = 0;
  std::uint64_t requests = 0, copies = 0;
};

/// What `action` asks for.
template <typename Action>
Asked asked(Action&& action) {
  const auto before = memory_statistics();
#if defined(COUNTS_MALLOC)
  const long mallocs_before = mallocs;
  action();
  const long counted = mallocs - mallocs_before;
#else
  action();
  const long counted = 0;
#endif
  const auto after = memory_statistics();
  return {counted, after.system_requests - before.system_requests, after.copies - before.copies};
}

double resident_megabytes() {
  long pages = 0, resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  const int read = std::fscanf(file, "%ld %ld", &pages, &resident);
  std::fclose(file);
  return read == 2 ? static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 1048576.0 : 0;
}

TEST(Allocation, CountersCount) {
  const Asked tensors = asked([] {
    release_memory();
    Tensor<float> a(Shape{1 << 10});
    Tensor<float> b = a;
    b.array() = 1;
  });
  EXPECT_EQ(tensors.requests, 2u);
  EXPECT_EQ(tensors.copies, 1u);
#if defined(COUNTS_MALLOC)
  EXPECT_GE(tensors.mallocs, 2);
  EXPECT_GE(asked([] { std::vector<int> v(100); static_cast<volatile int*>(v.data())[0] = 1; }).mallocs, 1);
#endif
}

template <typename S>
void check_training_step(int threads, Index samples) {
  set_num_threads(threads);
  auto net = small_net::make<S>();
  auto optimizer = small_net::optimizer_of<S>(net);
  const small_net::SmallBatch<S> batch(samples);
  for (int i = 0; i < 10; ++i) small_net::step(net, optimizer, batch);
  const Asked training = asked([&] {
    for (int i = 0; i < 20; ++i) small_net::step(net, optimizer, batch);
  });
  EXPECT_EQ(training.requests, 0u);
  EXPECT_EQ(training.copies, 0u);
  EXPECT_EQ(training.mallocs, 0);

  if (samples > 8) return;  // which of the threads predicts which piece of a large batch is up to chance

  const auto& model = net;
  for (int i = 0; i < 5; ++i) model(batch.images);
  const Asked prediction = asked([&] {
    for (int i = 0; i < 20; ++i) model(batch.images);
  });
  EXPECT_EQ(prediction.requests, 0u);
  EXPECT_EQ(prediction.copies, 0u);
  EXPECT_EQ(prediction.mallocs, 0);
}

TEST(Allocation, TrainingStepAsksForNothing) {
  const int before = num_threads();
  for (int threads : {1, 2, 3}) {
    check_training_step<float>(threads, 8);
    check_training_step<double>(threads, 8);
  }
  check_training_step<float>(2, 150);  // tensors that are pieces of segments
  set_num_threads(before);
}

/// Gradients that are there, clipped and followed.
template <typename S>
void check_optimizer_steps(Optimizer<S>& optimizer) {
  const auto step = [&] {
    clip_grad_norm(optimizer.parameters(), 1e-3);
    optimizer.step();
  };
  for (int i = 0; i < 3; ++i) step();
  const Asked steps = asked([&] {
    for (int i = 0; i < 20; ++i) step();
  });
  EXPECT_EQ(steps.requests, 0u);
  EXPECT_EQ(steps.copies, 0u);
  EXPECT_EQ(steps.mallocs, 0);
}

TEST(Allocation, OptimizersAskForNothing) {
  const int before = num_threads();
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    auto net = small_net::make<float>();
    small_net::gradients(net, small_net::SmallBatch<float>(8));
    SGD<float> sgd(net.parameters(), {.lr = 1e-3, .momentum = 0.9});
    Adam<float> adam(net.parameters(), {.amsgrad = true});
    AdamW<float> adamw(net.parameters());
    RMSprop<float> rmsprop(net.parameters(), {.lr = 1e-3, .momentum = 0.9, .centered = true});
    check_optimizer_steps(sgd);
    check_optimizer_steps(adam);
    check_optimizer_steps(adamw);
    check_optimizer_steps(rmsprop);

    // An average walks by name, for which the system is asked, but neither for tensors nor for copies.
    AveragedModel average(net, {.decay = 0.99});
    average.update(net);
    const Asked updates = asked([&] {
      for (int i = 0; i < 5; ++i) {
        adam.step();
        average.update(net);
      }
    });
    EXPECT_EQ(updates.requests, 0u);
    EXPECT_EQ(updates.copies, 0u);
  }
  set_num_threads(before);
}

// Sizes are drawn to be of every order of magnitude up to a few megabytes.
TEST(Allocation, ManyRandomShapesStaySmall) {
  release_memory();
  Random random(1);
  std::vector<Tensor<float>> kept(8);
  [[maybe_unused]] double early = 0;
  for (int i = 0; i < 10000; ++i) {
    const double size = std::exp(random.uniform(0, std::log(1e6)));
    auto& slot = kept[static_cast<std::size_t>(random.below(8))];
    slot = Tensor<float>(Shape{1 + random.below(4), 1 + static_cast<Index>(size) / 4}, 1.0f);
    if (i == 2000) early = resident_megabytes();
  }
  const auto statistics = memory_statistics();
  EXPECT_LE(statistics.live + statistics.cached, statistics.peak * 3 / 2 + (std::size_t{64} << 20));
#if !defined(SANITIZED)
  EXPECT_LT(resident_megabytes(), early + 32);
#endif
}

// What was two tensors becomes one, and again two of other sizes, without more of the system's memory.
TEST(Allocation, LargeTensorsShareMemoryWhateverTheirSizes) {
  release_memory();
  const Index million = Index{1} << 20;
  const auto held = [] { return memory_statistics().live + memory_statistics().cached; };
  const auto halves = [=] {
    Tensor<float> a(Shape{million}, uninitialized), b(Shape{million}, uninitialized);
    a = Tensor<float>();  // the first one before the other
  };
  halves();
  const std::size_t before = held();
  const Asked later = asked([=] {
    { const Tensor<float> whole(Shape{2 * million}, uninitialized); }
    { const Tensor<float> small(Shape{million / 2}, uninitialized), large(Shape{million * 3 / 2}, uninitialized); }
    halves();
  });
  EXPECT_EQ(later.requests, 0u);
  EXPECT_EQ(held(), before);
  // Nothing of the segment got lost on the way: a tensor may still have all of it.
  EXPECT_EQ(asked([=] { const Tensor<float> all(Shape{16 * million - 32}, uninitialized); }).requests, 0u);
  const Tensor<float> kept(Shape{million}, 3.0f);
  release_memory();  // the segment stays, but what is free in it is given back
  EXPECT_LT(held(), std::size_t{9} << 19);
  EXPECT_EQ(kept, Tensor<float>(Shape{million}, 3.0f));
}

// Each tensor keeps what was written to it, whatever is cut and joined around it.
TEST(Allocation, LargeTensorsKeepToThemselves) {
  Random random(3);
  std::vector<Tensor<float>> kept(30);
  std::vector<float> written(30);
  for (int i = 0; i < 3000; ++i) {
    const auto place = static_cast<std::size_t>(random.below(30));
    ASSERT_TRUE((kept[place].carray() == written[place]).all());
    written[place] = static_cast<float>(i);
    kept[place] = random.below(3) == 0 ? Tensor<float>() : Tensor<float>(Shape{50000 + random.below(400000)}, written[place]);
    if (i % 500 == 0) release_memory();
  }
  kept.clear();
  release_memory();
  EXPECT_EQ(memory_statistics().cached, 0u);
}

// Also where more threads work than have lists of their own, and where others give back what a thread took.
TEST(Allocation, ThreadsKeepTheirTensorsApart) {
  const int threads = num_threads();
  const std::size_t before = memory_statistics().live;
  for (const int wanted : {2, 70}) {
    set_num_threads(wanted);
    std::vector<Tensor<float>> kept(500);
    for (int round = 0; round < 2; ++round) {
      parallel_for(500, [&](Index block) {
        const float value = static_cast<float>(block + 1000 * round);
        const Tensor<float> scratch(Shape{1 + block * 37 % 4000}, value);
        kept[static_cast<std::size_t>(block)] = Tensor<float>(Shape{1 + block * 91 % 3000}, -value);
        EXPECT_TRUE((scratch.carray() == value).all());
      });
      for (Index block = 0; block < 500; ++block) {
        EXPECT_TRUE((kept[static_cast<std::size_t>(block)].carray() == -static_cast<float>(block + 1000 * round)).all());
      }
    }
    kept.clear();
    EXPECT_EQ(memory_statistics().live, before);
  }
  release_memory();
  EXPECT_EQ(memory_statistics().cached, 0u);
  set_num_threads(threads);
}

#if !defined(SANITIZED)  // there it does not
// A processor that foresees strides would fetch what another thread is writing.
TEST(Allocation, ScratchOfThreadsLiesApart) {
  const int threads = num_threads();
  set_num_threads(2);
  for (const Index bytes : {Index{1} << 10, Index{1} << 17, Index{1} << 20}) {
    const Index apart = std::clamp<Index>(4 * bytes, Index{16} << 10, Index{512} << 10);
    std::vector<std::pair<std::uint32_t, std::uintptr_t>> taken(20);  // by which thread, and where
    parallel_for(20, [&](Index block) {
      const detail::Scratch<char> own(bytes);
      taken[static_cast<std::size_t>(block)] = {detail::parallel_place().number, reinterpret_cast<std::uintptr_t>(own.data())};
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // for the other thread to join in
    });
    for (const auto& [thread, at] : taken) {
      for (const auto& [other, behind] : taken) {
        if (thread == other || behind < at) continue;
        EXPECT_GE(behind - at, static_cast<std::uintptr_t>(bytes + apart));
      }
    }
  }
  set_num_threads(threads);
}
#endif

TEST(Allocation, ScratchOfThreadsIsCapped) {
  const int threads = num_threads();
  set_num_threads(2);
  release_memory();
  const auto start = memory_statistics();
  const std::size_t mebibyte = std::size_t{1} << 20;
  parallel_for(2, [&](Index block) {
    if (block == 0) Tensor<float>(Shape{static_cast<Index>(4 * mebibyte)}, uninitialized);
  });
  EXPECT_LE(memory_statistics().peak, start.peak + 17 * mebibyte);  // what the other thread did not use is not counted
  parallel_for(2, [&](Index) {
    for (Index size = 1; size < 40; ++size) Tensor<float>(Shape{size * (Index{1} << 18)}, uninitialized);
  });
  const auto statistics = memory_statistics();
  EXPECT_LE(statistics.live + statistics.cached, statistics.peak * 3 / 2 + 64 * mebibyte + 2 * 40 * mebibyte);
  EXPECT_EQ(statistics.live, start.live);
  set_num_threads(threads);
}

// One worker each: with several, how many blocks are in use at the same moment is up to chance.
TEST(Allocation, ShortLivedThreadsLeaveNothingBehind) {
  const int before = num_threads();
  set_num_threads(1);
  const auto net = small_net::make<float>();
  const small_net::SmallBatch<float> batch(2);
  const Tensor<float> wanted = net(batch.images);
  [[maybe_unused]] double early = 0;
  std::size_t held = 0;
  for (int i = 0; i < 600; ++i) {
    std::thread([&] { EXPECT_EQ(net(batch.images), wanted); }).join();
    if (i != 100) continue;
    early = resident_megabytes();
    held = memory_statistics().live + memory_statistics().cached;
  }
  EXPECT_EQ(memory_statistics().live + memory_statistics().cached, held);
#if !defined(SANITIZED)
  EXPECT_LT(resident_megabytes(), early + 4);
#endif
  set_num_threads(before);
}

TEST(Allocation, CacheIsCapped) {
  release_memory();
  { const Tensor<float> large(Shape{Index{64} << 20}, uninitialized); }
  release_memory();  // forgets the peak
  EXPECT_EQ(memory_statistics().cached, 0u);
  for (int i = 0; i < 50; ++i) Tensor<float>(Shape{(Index{1} << 20) * (1 + i)}, uninitialized);
  const auto statistics = memory_statistics();
  EXPECT_LE(statistics.live + statistics.cached, statistics.peak * 3 / 2 + (std::size_t{64} << 20));
}

#if !defined(SANITIZED)  // sanitizers end the program instead
TEST(Allocation, RequestThatCannotBeMetLeavesThingsGood) {
  const auto net = small_net::make<float>();
  const small_net::SmallBatch<float> batch(2);
  const Tensor<float> wanted = net(batch.images);
  const auto before = memory_statistics();
  Tensor<float> kept(Shape{3}, 1.0f);
  for (const Index size : {Index{1} << 50, std::numeric_limits<Index>::max() / 64}) {
    EXPECT_THROW(Tensor<float>(Shape{size}, uninitialized), std::bad_alloc);
    EXPECT_THROW(kept = Tensor<float>(Shape{size}), std::bad_alloc);
  }
  EXPECT_EQ(kept, Tensor<float>(Shape{3}, 1.0f));
  EXPECT_EQ(net(batch.images), wanted);
  const auto after = memory_statistics();
  EXPECT_LE(after.live, before.live + 1024);
  EXPECT_LE(after.peak, std::max(before.peak, before.live + (std::size_t{16} << 20)));
}
#endif

}  // namespace
