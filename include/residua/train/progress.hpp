// Progress: how far a long piece of work is.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <time.h>  // <chrono> would cost every user's compiler a third of a second
#include <unistd.h>
#include <utility>

#include <residua/core/eigen.hpp>

namespace residua::inline RESIDUA_ABI {

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return now() - start_; }

 private:
  static double now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  double start_ = now();
};

/// Tells how much of `total` is done, how fast, and how long the rest will take. On a terminal one line is written over
/// and over, ten times a second at most; elsewhere a line for every tenth. Without an `out` nothing is written.
///
///     Progress progress(stderr, images, "images");
///     progress.update(done, "epoch 3  loss 0.412");
class Progress {
 public:
  /// `done` is where work begins: more than 0 where it goes on.
  Progress(std::FILE* out, Index total, std::string unit, Index done = 0)
      : out_(out), total_(std::max<Index>(total, 1)), begun_(done), tenths_(10 * done / total_), unit_(std::move(unit)),
        terminal_(out != nullptr && isatty(fileno(out)) != 0) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }

  void update(Index done, const std::string& text) {
    if (out_ == nullptr) return;
    const bool last = done >= total_;
    const double seconds = watch_.seconds();
    if (terminal_ ? !last && shown_ && seconds < next_ : 10 * done / total_ == tenths_) return;
    tenths_ = 10 * done / total_;
    next_ = seconds + 0.1;
    const double rate = static_cast<double>(done - begun_) / std::max(seconds, 1e-9);
    const double left = rate > 0 ? static_cast<double>(total_ - done) / rate : 0;
    std::fprintf(out_, "%s%3ld%%  %s  %.0f %s/s  %s%s", terminal_ ? "\r\033[K" : "", static_cast<long>(100 * done / total_),
                 text.c_str(), rate, unit_.c_str(), clock(last ? seconds : left).c_str(), last ? " in all" : " left");
    if (!terminal_) std::fputc('\n', out_);
    std::fflush(out_);
    shown_ = terminal_;
  }

  /// Makes room for a line of other output.
  void clear() {
    if (!std::exchange(shown_, false)) return;
    std::fputs("\r\033[K", out_);
    std::fflush(out_);
  }

 private:
  static std::string clock(double seconds) {
    const auto whole = static_cast<long>(seconds + 0.5);
    char text[48];
    if (whole < 3600) {
      std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
    } else {
      std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
    }
    return text;
  }

  std::FILE* out_;
  Index total_, begun_, tenths_;
  std::string unit_;
  bool terminal_, shown_ = false;
  double next_ = 0;
  Stopwatch watch_;
};

}  // namespace residua::inline RESIDUA_ABI
