// Checkpoints: fit's run on disk, saved as it goes, the last few kept.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <residua/io/checkpoint.hpp>
#include <residua/io/on_save_error.hpp>

namespace residua::inline RESIDUA_ABI {

struct CheckpointsOptions {
  bool resume = false;                           ///< go on from the newest one, where there is one
  Index keep = 3;                                ///< how many stay; older ones are removed
  Index every_steps = 0;                         ///< save after so many steps too; 0: after each epoch only
  OnSaveError on_error = OnSaveError::stop;
  Metadata metadata = {};
};

/// A callback for fit: saves the run into a folder after each epoch and when fit returns.
///
///     fit(net, optimizer, loader, loss, rng, {.callbacks = {Checkpoints("run", {.resume = true})}});
///
/// Each file is written atomically and named after its step: step-000000000120.safetensors. A run that goes on from one ends
/// with the same bytes as one that was never stopped. Networks with weights that are not finite are not saved: that is an
/// Error. So is a damaged newest file with nothing older that is whole; and, without `resume`, a folder that has
/// checkpoints already.
class Checkpoints {
 public:
  explicit Checkpoints(std::filesystem::path folder, CheckpointsOptions options = {})
      : folder_(std::move(folder)), options_(std::move(options)) {
    if (options_.keep < 1) fail("Checkpoints", "expected keep of at least 1, got ", options_.keep);
    if (options_.every_steps < 0) fail("Checkpoints", "expected every_steps of at least 0, got ", options_.every_steps);
  }

  void operator()(FitEvent& event) {
    const bool due = options_.every_steps > 0 && event.step % options_.every_steps == 0;
    if (event.at == FitEvent::At::start) return start(event);
    if (event.at == FitEvent::At::step && !due) return;
    if (event.at == FitEvent::At::end && saved_ == event.step && saved_epoch_ == event.epoch) return;
    check_finite(event.state);
    detail::try_to_save(event, options_.on_error, [&] { save(event); });
  }

  /// The checkpoints of a folder, the newest first; none where there is no such folder.
  static std::vector<std::filesystem::path> in(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> found;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
      if (is_named(entry->path(), ".safetensors")) found.push_back(entry->path());
    }
    std::sort(found.begin(), found.end(), std::greater<>());
    return found;
  }

 private:
  static constexpr std::size_t digits = 12;

  static bool is_named(const std::filesystem::path& file, const std::string& ending) {
    const std::string name = file.filename().string();
    return name.size() == 5 + digits + ending.size() && name.starts_with("step-") && name.ends_with(ending) &&
           std::all_of(name.begin() + 5, name.begin() + 5 + digits, [](char c) { return c >= '0' && c <= '9'; });
  }

  void start(const FitEvent& event) {
    const auto found = in(folder_);
    if (!options_.resume) {
      if (!found.empty()) {
        fail(folder_.string(), "expected a folder without checkpoints, or resume = true, found ",
             found.front().filename().string());
      }
      return make_folder();
    }
    for (std::size_t i = 0; i < found.size(); ++i) {
      try {
        // An older one takes the place of one that is damaged, but not of one that is another run's.
        detail::check_checksum(SafetensorsFile(found[i]), found[i].string());
      } catch (const Error& error) {
        if (i + 1 == found.size()) throw;
        tell(event, "left aside: " + std::string(error.what()));
        continue;
      }
      residua::resume(event.state, found[i]);
      saved_ = event.step;
      saved_epoch_ = event.epoch;
      tell(event, "going on from " + found[i].string());
      return;
    }
    make_folder();
  }

  void make_folder() const {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) fail(folder_.string(), "could not make the folder: ", error.message());
  }

  void save(const FitEvent& event) {
    std::string number = std::to_string(event.step);
    number.insert(0, digits - std::min(digits, number.size()), '0');
    save_checkpoint(event.state, folder_ / ("step-" + number + ".safetensors"), options_.metadata);
    saved_ = event.step;
    saved_epoch_ = event.epoch;

    const auto found = in(folder_);
    std::error_code error;  // one that cannot be removed is no reason to end a run
    for (auto i = static_cast<std::size_t>(options_.keep); i < found.size(); ++i) std::filesystem::remove(found[i], error);
    remove_left_over();
  }

  /// What a killed process was writing.
  void remove_left_over() const {
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder_, error), end; !error && entry != end; entry.increment(error)) {
      std::error_code ignored;
      if (is_named(entry->path(), ".safetensors.tmp")) std::filesystem::remove(entry->path(), ignored);
    }
  }

  /// Throws Error where the network, the part of the run without a name, has weights that are not finite.
  static void check_finite(const State& run) {
    for (const StateEntry& entry : run.entries()) {
      if (entry.name.find('/') != std::string::npos) continue;
      std::visit([&](const auto* value) {
        if constexpr (detail::is_tensor<std::remove_cvref_t<decltype(*value)>>) {
          if (!value->carray().allFinite()) {
            fail("Checkpoints", "expected finite numbers to save, found others in ", entry.name);
          }
        }
      }, entry.value);
    }
  }

  static void tell(const FitEvent& event, const std::string& text) {
    if (event.progress != nullptr) std::fprintf(event.progress, "%s\n", text.c_str());
  }

  std::filesystem::path folder_;
  CheckpointsOptions options_;
  Index saved_ = -1, saved_epoch_ = -1;  // the step and epoch of the newest one
};

}  // namespace residua::inline RESIDUA_ABI
