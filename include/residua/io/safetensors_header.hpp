// What the header of a safetensors file says, and the check of every word of it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <residua/core/error.hpp>
#include <residua/core/shape.hpp>
#include <residua/io/dtype.hpp>
#include <residua/io/json.hpp>

namespace residua::inline RESIDUA_ABI {

/// A tensor in a safetensors file: what it is, and where its numbers stand.
struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::F32;
  Shape shape;
  std::uint64_t begin = 0, end = 0;  ///< of its bytes, counted from the end of the header
};

/// What a safetensors file holds.
struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<TensorInfo> tensors;   ///< in the order of their bytes
  std::vector<std::size_t> by_name;  ///< positions of the tensors in the order of their names

  /// The tensor of that name, or nullptr.
  const TensorInfo* find(std::string_view name) const {
    const auto before = [this](std::size_t i, std::string_view other) { return tensors[i].name < other; };
    const auto found = std::lower_bound(by_name.begin(), by_name.end(), name, before);
    return found != by_name.end() && tensors[*found].name == name ? &tensors[*found] : nullptr;
  }
};

namespace detail {

inline constexpr std::uint64_t largest_safetensors_header = 100'000'000;
/// Up to here every JSON reader counts exactly.
inline constexpr std::uint64_t largest_json_number = std::uint64_t{1} << 53;
inline constexpr std::string_view metadata_key = "__metadata__";

/// [2, 3], of numbers too large for a Shape.
inline std::string listed(const std::vector<std::uint64_t>& numbers) {
  std::string text = "[";
  for (std::uint64_t number : numbers) text += (text.size() > 1 ? ", " : "") + std::to_string(number);
  return text + "]";
}

/// Hears what the header says, word by word, and refuses the first wrong one.
class SafetensorsHeaderReader final : public JsonReader {
 public:
  SafetensorsHeaderReader(std::string_view place, std::uint64_t data_size)
      : JsonReader(place, "a header"), data_size_(data_size) {}

  /// Once all is heard, what holds between tensors: different names, and data without gap or overlap.
  SafetensorsHeader finish() && {
    std::vector<TensorInfo>& tensors = header_.tensors;
    std::stable_sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::vector<std::size_t>& by_name = header_.by_name;
    by_name.resize(tensors.size());
    std::iota(by_name.begin(), by_name.end(), std::size_t{0});
    std::sort(by_name.begin(), by_name.end(),
              [&](std::size_t a, std::size_t b) { return tensors[a].name < tensors[b].name; });
    const auto twice = std::adjacent_find(by_name.begin(), by_name.end(), [&](std::size_t a, std::size_t b) {
      return tensors[a].name == tensors[b].name;
    });
    if (twice != by_name.end()) {
      fail(place(), "expected names once, got tensor '", shown(tensors[*twice].name), "' twice");
    }

    std::uint64_t covered = 0;
    for (const TensorInfo& tensor : tensors) {
      if (tensor.begin != covered) {
        fail(place(), "expected tensors without gap or overlap, got '", shown(tensor.name), "' at bytes ", tensor.begin,
             " to ", tensor.end, " where the one before ends at ", covered);
      }
      covered = tensor.end;
    }
    if (covered != data_size_) fail(place(), "expected tensors for all ", data_size_, " bytes of data, got ", covered);
    return std::move(header_);
  }

  // --- what is heard -------------------------------------------------------------------------------------------------

  bool start_object(std::size_t) override {
    switch (next_) {
      case Next::header: object_ = Object::header; return true;
      case Next::metadata: object_ = Object::metadata; return true;
      case Next::tensor:
        object_ = Object::tensor;
        found_ = {};
        return true;
      default: refuse("an object");
    }
  }

  bool key(std::string& key) override {
    switch (object_) {
      case Object::header:
        if (key == metadata_key) {
          if (std::exchange(has_metadata_, true)) fail(place(), "expected names once, got '__metadata__' twice");
          next_ = Next::metadata;
        } else {
          tensor_.name = std::move(key);
          next_ = Next::tensor;
        }
        break;
      case Object::metadata:
        key_ = std::move(key);
        next_ = Next::text;
        if (header_.metadata.contains(key_)) fail(place(), where(), "expected names once, got this one twice");
        break;
      case Object::tensor: member(key);
    }
    return true;
  }

  bool end_object() override {
    if (object_ == Object::tensor) end_tensor();
    object_ = Object::header;
    return true;
  }

  bool string(std::string& text) override {
    if (next_ == Next::text) {
      header_.metadata.emplace(std::move(key_), std::move(text));
    } else if (next_ == Next::dtype) {
      const std::optional<Dtype> dtype = dtype_named(text);
      if (!dtype) refuse("'" + shown(text) + "'");
      tensor_.dtype = *dtype;
    } else {
      refuse("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (next_ != Next::shape && next_ != Next::offsets) refuse("an array");
    next_ = next_ == Next::shape ? Next::size : Next::offset;
    numbers_.clear();
    return true;
  }

  bool number_unsigned(std::uint64_t number) override {
    const bool expected = next_ == Next::size || next_ == Next::offset;
    if (!expected || number > largest_json_number) refuse(std::to_string(number));
    const Index most = next_ == Next::size ? Shape::max_rank : 2;
    if (static_cast<Index>(numbers_.size()) == most) fail(place(), where(), "expected ", rule(), ", got more");
    numbers_.push_back(number);
    return true;
  }

  bool end_array() override {
    if (next_ == Next::size) {
      end_shape();
    } else if (numbers_.size() == 2) {
      tensor_.begin = numbers_[0];
      tensor_.end = numbers_[1];
    } else {
      refuse(listed(numbers_));
    }
    return true;
  }

 private:
  enum class Object { header, metadata, tensor };
  enum class Next { header, metadata, text, tensor, dtype, shape, size, offsets, offset };

  std::string_view rule() const {
    static constexpr std::string_view rules[] = {
        "an object",
        "an object",
        "a string",
        "an object",
        "a dtype among F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8 and BOOL",
        "an array as shape",
        "a shape of at most 8 whole numbers from 0 to 9007199254740992",
        "an array as data_offsets",
        "data_offsets of two whole numbers from 0 to 9007199254740992"};
    return rules[static_cast<std::size_t>(next_)];
  }

  /// What an error is about, where it is about a part of the header.
  std::string where() const {
    if (next_ == Next::header) return "";
    if (next_ == Next::metadata) return "__metadata__: ";
    if (next_ == Next::text) return "__metadata__ '" + shown(key_) + "': ";
    return "tensor '" + shown(tensor_.name) + "': ";
  }

  [[noreturn]] void refuse(std::string_view got) const { fail(place(), where(), "expected ", rule(), ", got ", got); }
  bool other(std::string_view got) override { refuse(got); }

  void member(std::string_view key) {
    static constexpr std::array<std::pair<std::string_view, Next>, 3> members{
        {{"dtype", Next::dtype}, {"shape", Next::shape}, {"data_offsets", Next::offsets}}};
    for (std::size_t i = 0; i < members.size(); ++i) {
      if (key != members[i].first) continue;
      if (std::exchange(found_[i], true)) fail(place(), where(), "expected names once, got ", key, " twice");
      next_ = members[i].second;
      return;
    }
    fail(place(), where(), "expected dtype, shape and data_offsets, got '", shown(key), "'");
  }

  void end_shape() {
    std::uint64_t extent = 1;  // of the sizes that are not zero: no order of multiplication overflows
    for (std::uint64_t size : numbers_) {
      if (size > 0 && extent > largest_json_number / size) {
        fail(place(), where(), "expected a shape of at most ", largest_json_number, " elements, got ", listed(numbers_));
      }
      extent *= std::max<std::uint64_t>(size, 1);
    }
    tensor_.shape = {};
    for (std::uint64_t size : numbers_) tensor_.shape.append(static_cast<Index>(size));
  }

  void end_tensor() {
    if (!std::all_of(found_.begin(), found_.end(), [](bool found) { return found; })) {
      fail(place(), where(), "expected dtype, shape and data_offsets, got ", found_[0] ? "" : "no dtype ",
           found_[1] ? "" : "no shape ", found_[2] ? "" : "no data_offsets");
    }
    const TensorInfo& t = tensor_;
    if (t.begin > t.end || t.end > data_size_) {
      fail(place(), where(), "expected data_offsets within the ", data_size_, " bytes of data, got [", t.begin, ", ",
           t.end, "]");
    }
    const std::uint64_t bytes = static_cast<std::uint64_t>(t.shape.size()) * size_of(t.dtype);
    if (t.end - t.begin != bytes) {
      fail(place(), where(), "expected ", bytes, " bytes for ", t.dtype, " ", t.shape, ", got ", t.end - t.begin,
           " (data_offsets [", t.begin, ", ", t.end, "])");
    }
    header_.tensors.push_back(std::move(tensor_));
  }

  std::uint64_t data_size_;
  SafetensorsHeader header_;

  Object object_ = Object::header;  // the one we are in
  Next next_ = Next::header;        // the value that comes next
  bool has_metadata_ = false;
  std::string key_;                       // of __metadata__
  TensorInfo tensor_;                     // the one that is being heard
  std::array<bool, 3> found_{};           // its dtype, shape, data_offsets
  std::vector<std::uint64_t> numbers_;    // of its shape or data_offsets
};

}  // namespace detail

/// Reads the header of a safetensors file, given as its JSON text, for `data_size` bytes of data after it.
///
/// A header is accepted where it is a JSON object in UTF-8 that gives each tensor by name exactly a dtype, a shape and
/// data_offsets [begin, end]; as many bytes as the shape asks for; one tensor's bytes after the other's, and no other
/// bytes; and under `__metadata__` nothing but strings. No name comes twice. Everything else throws Error that says
/// `place`, the tensor, the rule and what stands there. Takes memory in proportion to the text, whatever it says.
/// Source: https://huggingface.co/docs/safetensors, "Format".
inline SafetensorsHeader parse_safetensors_header(std::string_view text, std::uint64_t data_size,
                                                  std::string_view place) {
  if (!text.starts_with('{')) {
    const std::string got = text.empty() ? "nothing" : detail::shown(text.substr(0, 1));
    fail(place, "expected a header that begins with '{', got ", got);
  }
  detail::SafetensorsHeaderReader reader(place, data_size);
  reader.read(text);
  return std::move(reader).finish();
}

}  // namespace residua::inline RESIDUA_ABI
