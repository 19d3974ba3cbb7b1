// What the examples share: arguments, and a line that tells how far a long piece of work is.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <unistd.h>

#include <residua/residua.hpp>

namespace examples {

using residua::Index;

/// Parses the arguments, then runs the program. A wrong argument is told in one line and ends with exit code 2, an
/// error in the program with 1.
template <typename Program>
int run(CLI::App& app, int argc, char** argv, Program&& program) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s (see --help)\n", argv[0], error.what());
    return 2;
  }
  try {
    program();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}

/// Seconds since it was made.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// How much of `total` is done, how fast, and how long the rest will take; on stderr. On a terminal one line is written
/// over and over, elsewhere a line for every tenth.
class Progress {
 public:
  Progress(Index total, std::string unit) : total_(total), unit_(std::move(unit)) {}

  void update(Index done, const std::string& text) {
    const bool last = done >= total_;
    if (!terminal_ && 10 * done / total_ == tenths_) return;
    tenths_ = 10 * done / total_;
    const double seconds = watch_.seconds(), rate = static_cast<double>(done) / seconds;
    const double left = static_cast<double>(total_ - done) / rate;
    std::fprintf(stderr, "%s%3ld%%  %s  %.0f %s/s  %s%s", terminal_ ? "\r\033[K" : "",
                 static_cast<long>(100 * done / total_), text.c_str(), rate, unit_.c_str(),
                 clock(last ? seconds : left).c_str(), last ? " in all" : " left");
    if (!terminal_ || last) std::fputc('\n', stderr);
  }

  /// Makes room for a line of output.
  void clear() {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  static std::string clock(double seconds) {
    const auto whole = static_cast<long>(seconds + 0.5);
    char text[32];
    std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
    return text;
  }

  Index total_, tenths_ = 0;
  std::string unit_;
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  Stopwatch watch_;
};

/// How many rows of logits are largest at their label.
inline Index count_right(const residua::Tensor<float>& logits, const std::vector<Index>& labels) {
  Index right = 0, best = 0;
  for (Index n = 0; n < logits.rows(); ++n) {
    logits.cmatrix().row(n).maxCoeff(&best);
    right += best == labels[static_cast<std::size_t>(n)];
  }
  return right;
}

}  // namespace examples
