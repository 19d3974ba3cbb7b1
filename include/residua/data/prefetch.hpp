// Prefetch: results made ahead in threads of their own, handed over in order.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// make(first), …, make(last − 1), one after each next(). Without workers they are made when they are asked for, in the
/// caller; with some, in their threads, each of which makes the next one that nobody has begun, as long as fewer than
/// `ahead` are made or being made. The workers leave the pool of parallel_for to the caller.
template <typename T>
class Prefetch {
 public:
  Prefetch(Index first, Index last, Index workers, Index ahead, std::function<T(Index)> make)
      : make_(std::move(make)), begun_(first), taken_(first), last_(last) {
    workers = std::min(workers, last - first);
    if (workers < 1) return;
    made_.resize(static_cast<std::size_t>(std::min(ahead, last - first)));
    workers_.reserve(static_cast<std::size_t>(workers));
    try {
      for (Index i = 0; i < workers; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::exception&) {  // the system has no more threads: fewer, or the caller, do the same work
    }
  }

  /// What is being made is finished, nothing else is begun.
  ~Prefetch() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    room_.notify_all();
    for (auto& worker : workers_) worker.join();
  }
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  /// Goes on to the next result, or to nothing after the last. Throws what making it threw.
  void next() {
    current_.reset();
    if (taken_ == last_) return;
    if (workers_.empty()) {
      current_ = make_(taken_++);
      return;
    }
    Made made;
    {
      std::unique_lock lock(mutex_);
      Made& place = place_of(taken_);
      ready_.wait(lock, [&] { return place.result || place.error; });
      made = std::exchange(place, {});
      ++taken_;
    }
    room_.notify_one();
    if (made.error) std::rethrow_exception(std::move(made.error));
    current_ = std::move(made.result);
  }
  std::optional<T>& current() { return current_; }

 private:
  struct Made {
    std::optional<T> result;
    std::exception_ptr error;
  };

  Made& place_of(Index i) { return made_[static_cast<std::size_t>(i) % made_.size()]; }

  void work() {
    const OffPool off_pool;
    std::unique_lock lock(mutex_);
    while (true) {
      room_.wait(lock, [&] {
        return stopping_ || begun_ == last_ || begun_ < taken_ + static_cast<Index>(made_.size());
      });
      if (stopping_ || begun_ == last_) return;
      const Index i = begun_++;
      lock.unlock();
      Made made;
      try {
        made.result = make_(i);
      } catch (...) {
        made.error = std::current_exception();
      }
      lock.lock();
      place_of(i) = std::move(made);
      ready_.notify_one();
    }
  }

  std::function<T(Index)> make_;
  std::vector<std::thread> workers_;
  std::optional<T> current_;

  std::mutex mutex_;  // guards all below
  std::condition_variable ready_, room_;
  std::vector<Made> made_;  // result i stands at i modulo its size
  Index begun_, taken_, last_;
  bool stopping_ = false;
};

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
