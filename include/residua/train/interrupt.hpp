// Interrupt: Ctrl-C as a wish to be asked for, not an end in the middle of a step.
#pragma once

#include <atomic>
#include <csignal>

#include <residua/core/version.hpp>

namespace residua::inline RESIDUA_ABI {

/// While it lives, Ctrl-C and SIGTERM are noted instead of ending the process; a second one ends it as ever.
///
///     Interrupt interrupt;
///     … if (interrupt.requested()) …
///
/// One at a time in a process, made by whoever owns the process: the library makes none by itself.
class Interrupt {
 public:
  Interrupt() {
    received() = 0;
    old_int_ = std::signal(SIGINT, note);
    old_term_ = std::signal(SIGTERM, note);
  }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  ~Interrupt() {
    std::signal(SIGINT, old_int_);
    std::signal(SIGTERM, old_term_);
  }

  /// Whether a signal came.
  bool requested() const { return received() != 0; }

  /// Which one; 0 for none.
  int signal() const { return received(); }

 private:
  static std::atomic<int>& received() {
    static std::atomic<int> signal = 0;
    return signal;
  }
  static void note(int signal) {
    received() = signal;
    std::signal(signal, SIG_DFL);
  }

  void (*old_int_)(int);
  void (*old_term_)(int);
};

}  // namespace residua::inline RESIDUA_ABI
