// Reading ahead: a product of few operations a number waits for memory, unless it asks for what comes next in time.
#pragma once

#include <algorithm>

#include <residua/core/instruction_set.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Into the second-level cache: the first holds what loops read again and again.
RESIDUA_INLINE void ask_for_line(const char* line) { __builtin_prefetch(line, 0, 2); }

/// What an innermost loop asks for as it goes, two lines at a time: many at once would hold up its own reading.
struct AheadSteps {
  const char* at;
  Index step;  ///< bytes

  RESIDUA_INLINE void ask() {
    ask_for_line(at);
    ask_for_line(at + 64);
    at += step;
  }
};

/// The same for one run of the loop after the other.
struct AheadRuns {
  AheadSteps steps;
  Index each;  ///< bytes of a run

  AheadSteps next() {
    const AheadSteps now = steps;
    steps.at += each;
    return now;
  }
};

/// Memory that will be read later, asked for part by part, each beside a part of what is computed meanwhile.
class Ahead {
 public:
  Ahead() = default;
  template <typename S>
  Ahead(const S* data, Index size)
      : begin_(reinterpret_cast<const char*>(data)), end_(reinterpret_cast<const char*>(data + size)) {}

  Index bytes() const { return end_ - begin_; }

  /// The i-th of so many parts.
  Ahead part(Index i, Index parts) const {
    Ahead result;
    result.begin_ = begin_ + (end_ - begin_) * i / parts;
    result.end_ = begin_ + (end_ - begin_) * (i + 1) / parts;
    return result;
  }

  /// The next so many bytes, if there are.
  Ahead take(Index bytes) {
    Ahead result = *this;
    begin_ = result.end_ = begin_ + std::min(bytes, end_ - begin_);
    return result;
  }

  /// For so many runs of an innermost loop that asks so many times, for 128 bytes at most. Where there is nothing to ask
  /// for, it asks for what is there already.
  AheadRuns runs(Index count, Index asks) const {
    const char* const first = bytes() > 0 ? begin_ : reinterpret_cast<const char*>(this);
    const Index each = bytes() / std::max<Index>(1, count);
    return {{first, std::min<Index>(each / std::max<Index>(1, asks), 128)}, each};
  }

  void ask() const {
    for (Index line = 0; line < end_ - begin_; line += 64) ask_for_line(begin_ + line);
  }
  void ask_to_write() const {
    for (Index line = 0; line < end_ - begin_; line += 64) __builtin_prefetch(begin_ + line, 1);
  }

 private:
  const char *begin_ = nullptr, *end_ = nullptr;
};

}  // namespace residua::inline RESIDUA_ABI::kernels
