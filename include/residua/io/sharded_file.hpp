// ShardedFile: one safetensors file, or several that an index lists, read as one.
#pragma once

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <residua/io/json.hpp>
#include <residua/io/safetensors_file.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// Hears what an index says: of its weight_map the names of the tensors in each file; the rest is passed over.
class IndexReader final : public JsonReader {
 public:
  explicit IndexReader(std::string_view place) : JsonReader(place, "an index") {}

  /// The names of tensors by the file that has them.
  std::map<std::string, std::set<std::string>> finish() && {
    if (!found_) fail(place(), "expected an index with a weight_map, got none");
    return std::move(names_of_);
  }

  bool start_object(std::size_t) override {
    if (at_map()) {
      if (std::exchange(found_, true)) fail(place(), "expected weight_map once, got it twice");
    } else {
      other("an object");
    }
    ++depth_;
    return true;
  }
  bool key(std::string& key) override {
    (depth_ == 1 ? member_ : name_) = std::move(key);
    return true;
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool string(std::string& file) override {
    if (!in_map()) return other("a string");
    if (!names_.insert(name_).second) fail(place(), "expected names once, got '", shown(name_), "' twice");
    names_of_[file].insert(name_);
    return true;
  }
  bool start_array(std::size_t) override {
    other("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

 private:
  bool at_map() const { return depth_ == 1 && member_ == "weight_map"; }
  bool in_map() const { return depth_ == 2 && member_ == "weight_map"; }

  bool other(std::string_view got) override {
    if (at_map()) fail(place(), "expected an object as weight_map, got ", got);
    if (in_map()) fail(place(), "expected the name of a file for '", shown(name_), "', got ", got);
    return true;
  }

  int depth_ = 0;
  bool found_ = false;
  std::string member_, name_;  // of the index; of the object in it
  std::set<std::string> names_;
  std::map<std::string, std::set<std::string>> names_of_;
};

}  // namespace detail

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
    const std::string text(std::istreambuf_iterator<char>(in), {});
    detail::IndexReader index(place);
    index.read(text);
    for (const auto& [file, names] : std::move(index).finish()) {
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
