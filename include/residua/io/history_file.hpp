// HistoryFile: fit's history as a CSV file.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>

#include <residua/io/atomic_file.hpp>
#include <residua/io/on_save_error.hpp>

namespace residua::inline RESIDUA_ABI {

/// A callback for fit: after each epoch it writes the history as CSV, the whole file anew, so that after a resume it is
/// as if nothing had happened. Seconds depend on the machine and the hour and go to a file of their own, `times.csv`
/// instead of `.csv`, a line for each epoch that this process did.
///
///     .callbacks = {checkpoints, HistoryFile("run/history.csv")}         // behind the callback that resumes
class HistoryFile {
 public:
  explicit HistoryFile(std::filesystem::path path, OnSaveError on_error = OnSaveError::stop)
      : path_(std::move(path)), times_(path_), on_error_(on_error) {
    times_.replace_extension(".times.csv");
  }

  void operator()(FitEvent& event) {
    if (event.at == FitEvent::At::step) return;
    if (event.at == FitEvent::At::start) watch_ = Stopwatch();
    if (event.history.rows() == 0) return;
    detail::try_to_save(event, on_error_, [&] { write_file_atomically(path_, event.history.csv()); });
    if (event.at == FitEvent::At::epoch) detail::try_to_save(event, on_error_, [&] { add_time(event); });
  }

 private:
  void add_time(const FitEvent& event) {
    const double seconds = std::exchange(watch_, Stopwatch()).seconds();
    const bool fresh = !std::filesystem::exists(times_);
    std::FILE* const file = std::fopen(times_.c_str(), "a");
    bool written = file != nullptr;
    if (written && fresh) written = std::fputs("epoch,seconds\n", file) >= 0;
    if (written) written = std::fprintf(file, "%ld,%.3f\n", static_cast<long>(event.epoch), seconds) > 0;
    if (file != nullptr) written = std::fclose(file) == 0 && written;
    if (!written) fail(times_.string(), "could not write the time of epoch ", event.epoch);
  }

  std::filesystem::path path_, times_;
  OnSaveError on_error_;
  Stopwatch watch_;
};

}  // namespace residua::inline RESIDUA_ABI
