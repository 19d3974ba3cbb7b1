// save_checkpoint and resume: a whole run in one file, from which it goes on as if nothing had happened.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include <residua/io/state_tensors.hpp>

namespace residua::inline RESIDUA_ABI {

/// The metadata of a file: texts by name.
using Metadata = std::map<std::string, std::string>;

namespace detail {

inline constexpr const char* checksum_key = "residua.checksum";

/// A number that depends on the names and every byte of some tensors, not on their order. It finds accidents, not
/// forgeries.
class Checksum {
 public:
  /// `bytes(sink)` hands a tensor's bytes to the sink, in any pieces that are multiples of 8 bytes but the last.
  template <typename Bytes>
  void add(std::string_view name, Bytes&& bytes) {
    std::uint64_t sum = 0;
    const auto mix = [&](std::span<const std::byte> piece) {
      for (; !piece.empty(); piece = piece.subspan(std::min<std::size_t>(8, piece.size()))) {
        std::uint64_t word = 0;
        std::memcpy(&word, piece.data(), std::min<std::size_t>(8, piece.size()));
        sum = (sum ^ word) * 0x9E3779B97F4A7C15u;
        sum ^= sum >> 32;
      }
    };
    mix(std::as_bytes(std::span(name)));
    bytes(mix);
    total_ += sum;
  }
  std::string text() const { return std::to_string(total_); }

 private:
  std::uint64_t total_ = 0;
};

/// Throws Error where the bytes are not those that were written. A file without a checksum is somebody else's: it passes.
inline void check_checksum(const SafetensorsFile& file, const std::string& place) {
  const auto written = file.metadata().find(checksum_key);
  if (written == file.metadata().end()) return;
  Checksum checksum;
  for (const TensorInfo& info : file.tensors()) {
    checksum.add(info.name, [&](auto&& sink) { file.read_bytes(info, sink); });
  }
  if (checksum.text() != written->second) {
    fail(place, "expected a checksum of ", shown(written->second), ", got ", checksum.text(), ": the file is damaged");
  }
}

}  // namespace detail

/// Writes all that `run` shows into one safetensors file, as a whole or not at all (see AtomicFile): tensors in PyTorch's
/// layout, those of the part without a name, usually the network, under PyTorch's names; numbers as tensors of no axes.
///
///     State run;
///     run.add("", net).add("optimizer", optimizer).add("rng", rng);
///     save_checkpoint(run, "run.safetensors");
///
/// Throws Error, naming the file, where it cannot be written; what was there before is there still then.
inline void save_checkpoint(const State& run, const std::filesystem::path& path, Metadata metadata = {}) {
  std::vector<TensorToWrite> tensors;
  for (const StateEntry& entry : run.entries()) tensors.push_back(detail::tensor_of(entry));
  detail::Checksum checksum;
  for (const TensorToWrite& tensor : tensors) checksum.add(tensor.name, tensor.bytes);
  metadata[detail::checksum_key] = checksum.text();
  write_safetensors(path, tensors, metadata);
}

struct ResumeOptions {
  bool ignore_other_parts = false;  ///< leave aside what belongs to parts the run does not have
};

/// Reads a file of save_checkpoint back into `run`, which must be made of the same parts, and returns its metadata.
///
/// Throws Error, with nothing changed, where the file cannot be read, is damaged, or is another network's or run's: all
/// names that are missing, unexpected or of another shape are told at once.
inline Metadata resume(const State& run, const std::filesystem::path& path, ResumeOptions options = {}) {
  const std::string place = path.string();
  const SafetensorsFile file(path);
  const std::vector<StateEntry> entries = run.entries();

  std::set<std::string, std::less<>> expected, parts;
  const auto part_of = [](const std::string& name) { return name.substr(0, name.find('/') + 1); };
  std::string missing, unexpected, different;
  const auto list = [](std::string& names, const std::string& name) { names += (names.empty() ? "" : ", ") + name; };
  for (const StateEntry& entry : entries) {
    expected.insert(entry.name);
    parts.insert(part_of(entry.name));
    const TensorInfo* info = file.find(entry.name);
    const std::string other = info != nullptr ? detail::difference(entry, *info) : "";
    if (info == nullptr) list(missing, entry.name);
    if (!other.empty()) list(different, entry.name + " (" + other + ")");
  }
  for (const TensorInfo& info : file.tensors()) {
    const bool other_part = options.ignore_other_parts && !parts.contains(part_of(info.name));
    if (!expected.contains(info.name) && !other_part) list(unexpected, detail::shown(info.name));
  }
  if (!(missing + unexpected + different).empty()) {
    std::string text;
    if (!missing.empty()) text += "; missing: " + missing;
    if (!unexpected.empty()) text += "; unexpected: " + unexpected;
    if (!different.empty()) text += "; different: " + different;
    fail(place, "expected a checkpoint of this run, got another one", text);
  }

  detail::check_checksum(file, place);
  std::vector<std::function<void()>> changes;
  for (const StateEntry& entry : entries) {
    changes.push_back(detail::read_entry(entry, file, *file.find(entry.name), place));
  }
  for (const auto& change : changes) change();
  return file.metadata();
}

}  // namespace residua::inline RESIDUA_ABI
