// save_weights and load_weights: a network's parameters and buffers in PyTorch's names and layouts.
#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <residua/core/state.hpp>
#include <residua/io/layout.hpp>
#include <residua/io/sharded_file.hpp>
#include <residua/io/write_safetensors.hpp>

namespace residua::inline RESIDUA_ABI {

struct LoadOptions {
  bool strict = true;       ///< every tensor of the file has its place, and every place its tensor
  std::string prefix = "";  ///< what the file has in front of every name, such as "module."; names without it are left aside
  std::function<std::string(const std::string&)> rename = {};  ///< from a name in the file, the prefix gone, to one in the
                                                               ///< network; "" leaves the tensor aside
};

/// What did not find its counterpart.
struct LoadReport {
  std::vector<std::string> missing;     ///< in the network, not in the file
  std::vector<std::string> unexpected;  ///< in the file, not in the network
};

namespace detail {

/// A tensor of the network, under all its names: a layer that is used under two has its tensors once.
template <typename S>
struct NamedTensor {
  Tensor<S>* value;
  Shape shape;
  Layout layout;
  std::vector<std::string> names;
};

template <typename S, typename Net>
std::vector<NamedTensor<S>> named_tensors(Net& net) {
  State state;
  state.add("", net);
  std::vector<NamedTensor<S>> tensors;
  std::map<const void*, std::size_t> places;
  for (const StateEntry& entry : state.entries()) {
    Tensor<S>* const value = std::get<Tensor<S>*>(entry.value);
    const auto [place, fresh] = places.emplace(value, tensors.size());
    if (fresh) tensors.push_back({value, entry.shape, entry.layout, {}});
    tensors[place->second].names.push_back(entry.name);
  }
  return tensors;
}

inline std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + std::string(shown(name));
  return text;
}

/// The file's tensors by the names they have in the network.
template <typename File>
std::map<std::string, const TensorInfo*> renamed_tensors(const File& file, const LoadOptions& options,
                                                         const std::string& place) {
  std::map<std::string, const TensorInfo*> found;
  for (const TensorInfo& info : file.tensors()) {
    if (!info.name.starts_with(options.prefix)) continue;
    std::string name = info.name.substr(options.prefix.size());
    if (options.rename) name = options.rename(name);
    if (name.empty()) continue;
    const auto [other, fresh] = found.emplace(name, &info);
    if (!fresh) {
      fail(place, "expected names that stay different, got '", shown(name), "' for both '", shown(other->second->name),
           "' and '", shown(info.name), "'");
    }
  }
  return found;
}

}  // namespace detail

/// Writes a network's parameters and buffers as PyTorch's safetensors has them: names, shapes and orders of a state_dict,
/// num_batches_tracked included, so that `load_state_dict(load_file(path))` takes them. Tensors that have two names are
/// written once, under the first; metadata tells the others, as PyTorch's save_model does.
///
///     save_weights(net, "resnet18.safetensors");
///
/// The file is replaced as a whole or not at all. Throws Error, naming it, where it cannot be written.
template <typename Net, typename S = typename Net::Scalar>
void save_weights(const Net& net, const std::filesystem::path& path, std::map<std::string, std::string> metadata = {}) {
  std::vector<TensorToWrite> tensors;
  for (const auto& tensor : detail::named_tensors<S>(const_cast<Net&>(net))) {  // to be read only
    tensors.push_back(to_write(tensor.names[0], *tensor.value, tensor.layout));
    for (std::size_t i = 1; i < tensor.names.size(); ++i) metadata[tensor.names[i]] = tensor.names[0];
  }
  metadata.emplace("format", "pt");
  write_safetensors(path, tensors, metadata);
}

/// Reads a network's parameters and buffers from a safetensors file with PyTorch's names and layouts, or from the shards
/// that a `….safetensors.index.json` lists. Numbers of other precisions are converted.
///
///     load_weights(net, "resnet18.safetensors");
///     load_weights(net, "ddp.safetensors", {.prefix = "module."});
///     load_weights(net, "backbone.safetensors", {.strict = false,        // all but the head
///         .rename = [](const std::string& name) { return name.starts_with("fc.") ? "" : name; }});
///
/// A tensor with two names is found under either. A `num_batches_tracked` that the file lacks, as old files do, stays as
/// it is. Returns what had no counterpart; with `strict` that is an Error. Throws Error, with the network as it was, where
/// the file cannot be read or breaks a rule, and for tensors of other shapes: all names at once.
template <typename Net, typename S = typename Net::Scalar>
LoadReport load_weights(Net& net, const std::filesystem::path& path, const LoadOptions& options = {}) {
  const std::string place = path.string();
  const ShardedFile file(path);
  auto found = detail::renamed_tensors(file, options, place);
  auto tensors = detail::named_tensors<S>(net);

  LoadReport report;
  std::vector<std::string> misshaped;
  std::vector<std::pair<const TensorInfo*, const detail::NamedTensor<S>*>> matches;
  for (const auto& tensor : tensors) {
    const TensorInfo* match = nullptr;
    for (const std::string& name : tensor.names) {
      const auto entry = found.find(name);
      if (entry == found.end()) continue;
      match = entry->second;
      found.erase(entry);
    }
    const Shape expected = file_shape(tensor.shape, tensor.layout);
    if (match == nullptr) {
      if (tensor.layout != Layout::count) report.missing.push_back(tensor.names[0]);
    } else if (match->shape != expected) {
      std::ostringstream text;
      text << tensor.names[0] << " (expected " << expected << ", got " << match->shape << ')';
      misshaped.push_back(text.str());
    } else {
      matches.emplace_back(match, &tensor);
    }
  }
  for (const auto& [name, info] : found) report.unexpected.push_back(name);
  if (!misshaped.empty() || (options.strict && !(report.missing.empty() && report.unexpected.empty()))) {
    std::string text;
    if (!report.missing.empty()) text += "; missing: " + detail::joined(report.missing);
    if (!report.unexpected.empty()) text += "; unexpected: " + detail::joined(report.unexpected);
    if (!misshaped.empty()) text += "; of another shape: " + detail::joined(misshaped);
    fail(place, "expected the weights of this network, got others", text);
  }

  std::vector<Tensor<S>> values;
  for (const auto& [info, tensor] : matches) {
    values.push_back(from_file_layout(file.template read<S>(*info), tensor->layout));
  }
  for (std::size_t i = 0; i < matches.size(); ++i) *matches[i].second->value = std::move(values[i]);
  return report;
}

}  // namespace residua::inline RESIDUA_ABI
