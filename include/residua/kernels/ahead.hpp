// Reading ahead: a product of few operations a number waits for memory, unless it asks for what comes next in time.
#pragma once

#include <algorithm>

#include <residua/core/eigen.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// Memory that will be read later, asked for in some steps of what is computed meanwhile.
class Ahead {
 public:
  Ahead() = default;
  template <typename S>
  Ahead(const S* data, Index size)
      : at_(reinterpret_cast<const char*>(data)), end_(reinterpret_cast<const char*>(data + size)) {}

  /// It is asked for in so many steps.
  void divide(Index steps) { step_ = (end_ - at_) / std::max<Index>(1, steps) + 1; }

  void step() {
    if (at_ == end_) return;  // changes nothing: many threads may share an empty one
    const Ahead now = next_step();
    for (const char* line = now.at_; line < now.end_; line += 64) __builtin_prefetch(line);
  }

  /// What the next step would ask for, to be divided further.
  Ahead next_step() {
    Ahead now = *this;
    now.end_ = at_ = std::min(end_ - at_, step_) + at_;
    return now;
  }

 private:
  const char *at_ = nullptr, *end_ = nullptr;
  Index step_ = 0;
};

}  // namespace residua::inline RESIDUA_ABI::kernels
