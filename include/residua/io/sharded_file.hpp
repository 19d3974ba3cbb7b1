// ShardedFile: one safetensors file, or several that an index lists, read as one.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include <residua/io/safetensors_file.hpp>

namespace residua::inline RESIDUA_ABI {

/// A safetensors file; or, for a path that ends in .json, the shards of a model that did not fit into one file: the index
/// `model.safetensors.index.json` has a `weight_map` from each tensor's name to the file, in the same folder, that has it.
class ShardedFile {
 public:
  /// Throws Error, naming the file, where one cannot be read or breaks a rule: an index without a weight_map of texts, a
  /// shard whose name leads outside of the folder, a tensor that its shard does not have, or that the index does not list.
  explicit ShardedFile(const std::filesystem::path& path) {
    if (path.extension() != ".json") {
      shards_.emplace_back(path);
      tensors_ = shards_[0].tensors();
      shard_of_.assign(tensors_.size(), 0);
      return;
    }
    read_index(path);
  }

  const std::vector<TensorInfo>& tensors() const { return tensors_; }

  /// The numbers of one of tensors(), as SafetensorsFile::read gives them.
  template <typename T>
  Tensor<T> read(const TensorInfo& info) const {
    return shards_[shard_of_[static_cast<std::size_t>(&info - tensors_.data())]].template read<T>(info);
  }

 private:
  static constexpr std::uintmax_t largest_index = 100'000'000;

  void read_index(const std::filesystem::path& path) {
    const std::string place = path.string();
    std::error_code error;
    const std::uintmax_t size = std::filesystem::file_size(path, error);
    if (error) fail(place, "could not open: ", error.message());
    if (size > largest_index) fail(place, "expected an index of at most ", largest_index, " bytes, got ", size);
    std::ifstream in(path, std::ios::binary);
    const auto index = nlohmann::json::parse(in, nullptr, false);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
      fail(place, "expected an index: a JSON object with a weight_map");
    }
    std::map<std::string, std::set<std::string>> names_of;  // by file
    for (const auto& [name, file] : index["weight_map"].items()) {
      if (!file.is_string()) fail(place, "expected the name of a file for '", detail::shown(name), "', got something else");
      names_of[file.template get<std::string>()].insert(name);
    }
    for (const auto& [file, names] : names_of) {
      if (file.empty() || file == "." || file == ".." || file.find('/') != std::string::npos ||
          file.find('\0') != std::string::npos) {
        fail(place, "expected shards in the index's own folder, got '", detail::shown(file), "'");
      }
      add_shard(path.parent_path() / file, names);
    }
  }

  void add_shard(const std::filesystem::path& path, const std::set<std::string>& names) {
    const SafetensorsFile& shard = shards_.emplace_back(path);
    for (const TensorInfo& info : shard.tensors()) {
      if (!names.contains(info.name)) {
        fail(path.string(), "expected the tensors that the index lists, got '", detail::shown(info.name), "' too");
      }
      tensors_.push_back(info);
      shard_of_.push_back(shards_.size() - 1);
    }
    for (const std::string& name : names) {
      if (shard.find(name) == nullptr) {
        fail(path.string(), "expected the tensors that the index lists, found no '", detail::shown(name), "'");
      }
    }
  }

  std::vector<SafetensorsFile> shards_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::size_t> shard_of_;  // by tensor
};

}  // namespace residua::inline RESIDUA_ABI
