// What a training run does when something cannot be saved.
#pragma once

#include <cstdio>

#include <residua/train/fit.hpp>

namespace residua::inline RESIDUA_ABI {

/// When the disk is full or the folder gone: end the run with the Error, or say so and train on without the file.
enum class OnSaveError { stop, go_on };

namespace detail {

/// Calls save(); an Error of it is thrown on or told where the run's messages go.
template <typename F>
void try_to_save(const FitEvent& event, OnSaveError on_error, F&& save) {
  try {
    save();
  } catch (const Error& error) {
    if (on_error == OnSaveError::stop) throw;
    if (event.progress != nullptr) std::fprintf(event.progress, "going on without saving: %s\n", error.what());
  }
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
