// Runs side by side, each in a process of its own: as many as there are cores, each as alone as if it ran by itself.
#pragma once

#include "store.hpp"

#include <algorithm>
#include <csignal>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>

namespace study {

/// A process that does one run: this program once more, with `--only`. It writes the share that is done, line by line, and
/// at the end its result. It ends when its parent does.
class Worker {
 public:
  Worker(const Run& to_do, char** arguments) : run(to_do) {
    std::vector<char*> words;
    for (char** word = arguments; *word != nullptr; ++word) words.push_back(*word);
    std::string option = "--only", key = run.key();
    words.insert(words.end(), {option.data(), key.data(), nullptr});
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) fail("study", "could not make a pipe: ", std::strerror(errno));
    const pid_t parent = ::getpid();
    process_ = ::fork();
    if (process_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      ::signal(SIGINT, SIG_IGN);  // the parent decides what Ctrl-C means
      ::dup2(ends[1], STDOUT_FILENO);
      ::execv("/proc/self/exe", words.data());
      ::_exit(127);
    }
    out_ = detail::FileDescriptor(ends[0]);
    const detail::FileDescriptor written_by_the_other(ends[1]);
    if (process_ < 0) fail("study", "could not start a process: ", std::strerror(errno));
  }
  Worker(const Worker&) = delete;
  ~Worker() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }

  int out() const { return out_.get(); }

  /// Takes what was written. Returns whether the run is at its end; throws Error where it did not end well.
  bool read() {
    char buffer[4096];
    const auto count = ::read(out_.get(), buffer, sizeof buffer);
    if (count < 0) return false;
    text_.append(buffer, static_cast<std::size_t>(count));
    for (std::size_t end; (end = text_.find('\n')) != std::string::npos; text_.erase(0, end + 1)) {
      const std::string line = text_.substr(0, end);
      if (line.starts_with('{')) {
        result = json::parse(line);
      } else {
        done = std::atof(line.c_str());
      }
    }
    if (count > 0) return false;
    int status = 0;
    ::waitpid(std::exchange(process_, 0), &status, 0);
    if (WIFSIGNALED(status)) fail("study", "the run ", run.key(), " was ended by signal ", WTERMSIG(status));
    if (status != 0 || result.is_null()) fail("study", "the run ", run.key(), " failed");
    return true;
  }

  const Run run;
  double done = 0;
  json result;

 private:
  pid_t process_ = 0;
  detail::FileDescriptor out_;
  std::string text_;
};

/// Does what is missing of `runs`, the longest first, `jobs` at a time. Returns false where Ctrl-C came first. What is
/// finished stays in the store, whatever happens.
inline bool do_missing(const std::vector<Run>& runs, Store& store, const Settings& s, int jobs, char** arguments) {
  const auto work = [&](const Run& run) {
    return run.depth * (run.step_batch > 0 ? run.step_batch : s.train_images * s.epochs);
  };
  std::vector<Run> missing;
  Index total = 0, done = 0, finished = 0;
  for (const Run& run : runs) {
    total += work(run);
    if (store.has(run)) {
      done += work(run);
      ++finished;
    } else {
      missing.push_back(run);
    }
  }
  std::stable_sort(missing.begin(), missing.end(), [](const Run& a, const Run& b) { return a.depth > b.depth; });

  const Interrupt interrupt;
  Progress progress(missing.empty() ? nullptr : stderr, total, "image-layers", done);
  std::vector<std::unique_ptr<Worker>> workers;
  auto next = missing.begin();
  while (next != missing.end() || !workers.empty()) {
    while (next != missing.end() && static_cast<int>(workers.size()) < jobs) {
      workers.push_back(std::make_unique<Worker>(*next++, arguments));
    }
    std::vector<pollfd> ready;
    for (const auto& worker : workers) ready.push_back({worker->out(), POLLIN, 0});
    ::poll(ready.data(), ready.size(), 200);
    if (interrupt.requested()) {
      progress.clear();
      std::fprintf(stderr, "stopped with %ld of %ld runs finished; the same command goes on from here\n",
                   static_cast<long>(finished), static_cast<long>(runs.size()));
      return false;
    }
    for (std::size_t i = workers.size(); i-- > 0;) {
      if (ready[i].revents == 0 || !workers[i]->read()) continue;
      store.add(workers[i]->run, std::move(workers[i]->result));
      done += work(workers[i]->run);
      ++finished;
      workers.erase(workers.begin() + static_cast<std::ptrdiff_t>(i));
    }
    double now = static_cast<double>(done);
    for (const auto& worker : workers) now += worker->done * static_cast<double>(work(worker->run));
    progress.update(static_cast<Index>(now),
                    std::to_string(finished) + " of " + std::to_string(runs.size()) + " runs finished");
  }
  return true;
}

}  // namespace study
