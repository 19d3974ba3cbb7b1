// parallel_for: where threads come from. The one other place is data/prefetch.hpp, whose workers make batches ahead.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#include <residua/core/eigen.hpp>
#include <residua/core/error.hpp>
#include <residua/core/memory.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// True in a thread that leaves the pool to others.
inline bool& off_pool() {
  thread_local bool off = false;
  return off;
}

/// As long as one lives, each parallel_for of its thread does all the work there: a thread beside the training step
/// must not hold the pool just when the step wants it, and to wake other threads takes longer than a small piece of work;
/// `off` tells whether it is one.
class OffPool {
 public:
  explicit OffPool(bool off = true) : before_(std::exchange(off_pool(), off_pool() || off)) {}
  ~OffPool() { off_pool() = before_; }
  OffPool(const OffPool&) = delete;
  OffPool& operator=(const OffPool&) = delete;

 private:
  bool before_;
};

/// A call to be made: a body's address and how to call it. Costs no memory.
struct BlockBody {
  void* body;
  void (*call)(void* body, Index block);

  // No lambda: it would be three functions for each body.
  template <typename Body>
  static void call_as(void* body, Index block) { (*static_cast<Body*>(body))(block); }
};

/// Has a sleeping thread wake up on another core than its caller's. To the kernel of a virtual machine a core that rests
/// may look busy: it would wake the thread behind its caller, where it waits until the caller has done all the work.
class OtherCore {
 public:
#if defined(__linux__)
  /// By the caller, before it wakes the thread.
  void ask(std::thread& thread) {
    const int here = sched_getcpu();
    const pthread_t handle = thread.native_handle();
    if (asked_ || here < 0 || here >= CPU_SETSIZE || pthread_getaffinity_np(handle, sizeof all_, &all_) != 0) return;
    cpu_set_t others = all_;
    CPU_CLR(here, &others);
    asked_ = CPU_COUNT(&others) > 0 && pthread_setaffinity_np(handle, sizeof others, &others) == 0;
  }
  /// By the thread, once awake: from now on any core will do.
  void arrive() {
    if (std::exchange(asked_, false)) pthread_setaffinity_np(pthread_self(), sizeof all_, &all_);
  }

 private:
  cpu_set_t all_;
  bool asked_ = false;
#else
  void ask(std::thread&) {}
  void arrive() {}
#endif
};

/// Workers that wait for a job, and the caller, which works too. A job is a count of blocks, of which each thread has a
/// share of neighbours: from layer to layer the same part of a batch stays in the caches of the same core. Whoever is
/// done with its own takes from the others' shares, so the blocks may run anywhere and in any order.
class ThreadPool {
 public:
  // Not inlined: how a pool is made would stand wherever one is used.
  [[gnu::noinline]] static ThreadPool& instance() { return *owner().pool; }

  explicit ThreadPool(int threads, ThreadPool* parents = nullptr) : parents_(parents), threads_(threads) {}
  ~ThreadPool() { stop(); }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_.load(std::memory_order_relaxed); }

  void resize(int threads) {
    if (inside()) fail("set_num_threads", "expected a call from outside of parallel_for, got one from inside");
    std::lock_guard busy(busy_);
    stop();
    threads_.store(threads, std::memory_order_relaxed);
    MemoryCache::instance().clear_scratch();
  }

  void run(Index blocks, BlockBody body) {
    std::unique_lock busy(busy_, std::defer_lock);
    if (blocks < 2 || threads() == 1 || inside() || off_pool() || !busy.try_lock()) {
      for (Index block = 0; block < blocks; ++block) body.call(body.body, block);
      return;
    }
    if (workers_ == 0) start();
    {
      std::lock_guard lock(mutex_);
      body_ = body;
      deal_out(blocks);
      error_ = nullptr;
      open_ = true;
      for (Index i = 1; i <= workers_; ++i) {
        if (member(i).asleep) member(i).core.ask(member(i).thread);
      }
      job_.fetch_add(1, std::memory_order_release);  // last: who waits for it takes the mutex at once
    }
    wake_.notify_all();
    take_blocks(body, {0, static_cast<std::uint32_t>(threads())});
    {
      std::unique_lock lock(mutex_);
      open_ = false;
      lock.unlock();
      spin_while([&] { return working_.load(std::memory_order_acquire) != 0; });
      lock.lock();
      idle_.wait(lock, [&] { return working_.load(std::memory_order_acquire) == 0; });
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  /// Number 0 is the caller, whose thread is none of ours.
  struct alignas(64) Member {
    std::atomic<Index> next;  // of its share of a job, blocks next … end - 1: in a cache line of its own
    Index end;

    alignas(64) std::thread thread;
    OtherCore core;
    bool asleep = false;
  };

  /// The process's pool. A forked child gets one of its own, and leaves its parent's as it was: there the threads are, and to
  /// wait for them, or to destroy what they wait on, would be to wait for ever.
  struct Owner {
    ThreadPool* pool = new ThreadPool(default_threads());

    Owner() {
#if defined(__unix__) || defined(__APPLE__)
      pthread_atfork(nullptr, nullptr, [] { owner().pool = new ThreadPool(owner().pool->threads(), owner().pool); });
#endif
    }
    ~Owner() { delete pool; }
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;
  };
  static Owner& owner() {
    static Owner the_owner;
    return the_owner;
  }

  static int default_threads() {
    if (const char* wanted = std::getenv("OMP_NUM_THREADS")) {
      const int threads = std::atoi(wanted);
      if (threads > 0) return threads;
    }
#if defined(__linux__)
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0) return std::max(1, CPU_COUNT(&cpus));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }

  static bool inside() { return parallel_place().of > 0; }

  Member& member(Index i) { return members_[static_cast<std::size_t>(i)]; }

  void start() {
    stopping_ = false;
    const std::uint64_t job = job_.load(std::memory_order_relaxed);
    const auto all = static_cast<std::uint32_t>(threads());
    members_.reset(new Member[all]);
    all_ = all;
    try {
      for (std::uint32_t i = 1; i < all; ++i, ++workers_) {
        member(i).thread = std::thread([this, job, i, all] { work(job, {i, all}); });
      }
    } catch (const std::system_error&) {  // the system has no more threads: fewer do the same work
    }
  }

  void stop() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      job_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (Index i = 1; i <= workers_; ++i) member(i).thread.join();
    workers_ = 0;
  }

  void work(std::uint64_t seen, ParallelPlace place) {
    while (true) {
      spin_while([&] { return job_.load(std::memory_order_acquire) == seen; });
      std::unique_lock lock(mutex_);
      Member& self = member(place.number);
      self.asleep = true;
      wake_.wait(lock, [&] { return job_.load(std::memory_order_relaxed) != seen; });
      self.asleep = false;
      self.core.arrive();
      seen = job_.load(std::memory_order_relaxed);
      if (stopping_) return;
      if (!open_) continue;
      working_.fetch_add(1, std::memory_order_relaxed);
      const BlockBody body = body_;
      lock.unlock();
      take_blocks(body, place);
      if (working_.fetch_sub(1, std::memory_order_acq_rel) > 1) continue;
      lock.lock();  // the caller is either before its look at working_ or waits
      idle_.notify_one();
    }
  }

  void deal_out(Index blocks) {
    for (Index i = 0; i < all_; ++i) {
      member(i).end = (i + 1) * blocks / all_;
      member(i).next.store(i * blocks / all_, std::memory_order_relaxed);
    }
  }

  void take_blocks(BlockBody body, ParallelPlace place) {
    parallel_place() = place;
    try {
      for (Index i = 0; i < all_; ++i) {
        Member& share = member((place.number + i) % all_);
        for (Index block; (block = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) {
          body.call(body.body, block);
        }
      }
    } catch (...) {
      for (Index i = 0; i < all_; ++i) member(i).next.store(member(i).end, std::memory_order_relaxed);
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    parallel_place() = {};
  }

  /// Looks for a while before its caller goes to sleep: the end of a job, and the next job of a network, come within
  /// microseconds, and to be woken takes longer.
  template <typename Condition>
  static void spin_while(Condition&& condition) {
    for (int spin = 0; spin < 10'000 && condition(); ++spin) pause_briefly();
  }

  [[maybe_unused]] ThreadPool* parents_;  // in a forked child, so that it is not lost
  std::mutex busy_;  // held by the one caller whose job the pool runs
  std::atomic<int> threads_;
  std::unique_ptr<Member[]> members_;
  Index all_ = 0, workers_ = 0;  // members; those whose threads run, numbers 1 … workers

  std::mutex mutex_;  // guards all below but the atomics
  std::condition_variable wake_, idle_;
  std::atomic<std::uint64_t> job_{0};
  bool open_ = false, stopping_ = false;
  std::atomic<int> working_{0};  // workers on the job; grows under the mutex alone
  BlockBody body_{};
  std::exception_ptr error_;
};

/// How many threads a parallel_for called here has, where no other is running: one, inside of another or off the pool.
inline int threads_here() { return parallel_place().of > 0 || off_pool() ? 1 : ThreadPool::instance().threads(); }

}  // namespace detail

/// How many threads work on one call. Changes speed, never a bit of a result.
/// Default: OMP_NUM_THREADS where it is set, else the number of cores the process may use. A forked child has as many, of its
/// own.
inline int num_threads() { return detail::ThreadPool::instance().threads(); }

/// Throws Error for fewer than one thread, or from inside a parallel_for. Waits for a running call to end.
inline void set_num_threads(int threads) {
  if (threads < 1) fail("set_num_threads", "expected at least 1 thread, got ", threads);
  detail::ThreadPool::instance().resize(threads);
}

/// Calls body(0), …, body(blocks - 1), each once, on the pool's threads and the caller's. Called from inside a body, or
/// while another thread's call is running, or by a worker of a DataLoader, it does all the work in its caller. An
/// exception of a body reaches the caller. What a block computes must depend on its number alone: that is what keeps
/// results the same for any thread count.
template <typename Body>
void parallel_for(Index blocks, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  detail::ThreadPool::instance().run(
      blocks, {const_cast<std::remove_const_t<Plain>*>(std::addressof(body)), &detail::BlockBody::call_as<Plain>});
}

/// Cuts 0 … count - 1 into runs of `grain` and calls body(first, last) for each, in parallel.
template <typename Body>
void parallel_ranges(Index count, Index grain, Body&& body) {
  parallel_for((count + grain - 1) / grain, [&](Index block) {
    body(block * grain, std::min(count, (block + 1) * grain));
  });
}

}  // namespace residua::inline RESIDUA_ABI
