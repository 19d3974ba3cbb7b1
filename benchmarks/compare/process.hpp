// Each side of a comparison in a process of its own, and only one of them at a time.
#pragma once

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <string>

#include <residua/core/error.hpp>

namespace compare {

/// A process that is stopped but for its turns. Threads of a library that wait for more work may do so by spinning; in one
/// process, or one that is not stopped, they would take the cores of the side that is measured.
class Process {
 public:
  /// Runs `begin` there, and at each turn the function it returns, whose text is the turn's result. It must be made before
  /// this process has threads. Throws Error, naming `name`, where that fails there.
  Process(std::string name, const std::function<std::function<std::string()>()>& begin) : name_(std::move(name)) {
    int ends[2];
    if (::pipe(ends) != 0 || (id_ = ::fork()) < 0) {
      residua::fail(name_, "could not start a process: ", std::strerror(errno));
    }
    if (id_ == 0) {
      ::close(ends[0]);
      work(begin, ends[1]);
    }
    ::close(ends[1]);
    results_ = ::fdopen(ends[0], "r");
    wait_until_stopped();
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    std::fclose(results_);
    ::kill(id_, SIGKILL);
    ::waitpid(id_, nullptr, 0);
  }

  /// One turn's result.
  std::string turn() {
    ::kill(id_, SIGCONT);
    std::string line;
    for (int c = std::fgetc(results_); c != EOF && c != '\n'; c = std::fgetc(results_)) line += static_cast<char>(c);
    wait_until_stopped();
    return line;
  }

 private:
  [[noreturn]] static void work(const std::function<std::function<std::string()>()>& begin, int results) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    try {
      const auto turn = begin();
      for (;;) {
        std::raise(SIGSTOP);
        const std::string line = turn() + '\n';
        if (::write(results, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(1);
      }
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
  }

  void wait_until_stopped() const {
    int status = 0;
    if (::waitpid(id_, &status, WUNTRACED) != id_ || !WIFSTOPPED(status)) {
      residua::fail(name_, "expected a process that goes on, got one that ended");
    }
  }

  std::string name_;
  pid_t id_ = 0;
  std::FILE* results_ = nullptr;
};

}  // namespace compare
