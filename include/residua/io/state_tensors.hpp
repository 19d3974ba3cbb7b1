// How remembered values stand in a file: each as one tensor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <residua/core/state.hpp>
#include <residua/io/layout.hpp>
#include <residua/io/safetensors_file.hpp>
#include <residua/io/write_safetensors.hpp>

namespace residua::inline RESIDUA_ABI::detail {

// A number is a tensor of no axes (true and false 1 and 0 as U8), a text and a row of numbers have one axis, a tensor is
// itself in PyTorch's order. A tensor that counts is one I64.

template <typename Value> struct StoredAs { using type = Value; };
template <> struct StoredAs<Index> { using type = std::int64_t; };
template <> struct StoredAs<bool> { using type = std::uint8_t; };
template <> struct StoredAs<std::string> { using type = std::uint8_t; };
template <> struct StoredAs<std::vector<double>> { using type = double; };
template <typename S> struct StoredAs<Tensor<S>> { using type = S; };

/// What reading a whole number may give: all that both sides count exactly.
inline constexpr std::int64_t largest_count = std::int64_t{1} << 53;

/// The value as the tensor of its file, and back; `place` and the entry's name go into errors.
template <typename Value>
struct ValueInFile {
  using Stored = typename StoredAs<Value>::type;

  static Tensor<Stored> write(const Value& value, const StateEntry&) {
    if constexpr (std::is_arithmetic_v<Value>) {
      return Tensor<Stored>(Shape{}, static_cast<Stored>(value));
    } else {
      Tensor<Stored> all(Shape{static_cast<Index>(value.size())}, uninitialized);
      std::copy(value.begin(), value.end(), all.data());
      return all;
    }
  }
  static Value read(const Tensor<Stored>& t, const StateEntry& entry, const std::string& place) {
    if constexpr (std::is_same_v<Value, Index>) {
      if (t() < 0 || t() > largest_count) {
        fail(place, "expected a count from 0 to 2^53 as ", entry.name, ", got ", t());
      }
    }
    if constexpr (std::is_arithmetic_v<Value>) {
      return static_cast<Value>(t());
    } else {
      return Value(t.cdata(), t.cdata() + t.size());
    }
  }
};

template <typename S>
struct ValueInFile<Tensor<S>> {
  using Stored = S;

  static Tensor<S> read(const Tensor<S>& t, const StateEntry& entry, const std::string&) {
    return from_file_layout(t, entry.layout);
  }
};

inline bool is_count(const StateEntry& entry) { return entry.layout == Layout::count; }

template <typename Value>
constexpr bool is_tensor = requires(Value& v) { v.cmatrix(); };

/// The entry as write_safetensors takes it.
inline TensorToWrite tensor_of(const StateEntry& entry) {
  return std::visit([&]<typename Value>(const Value* value) {
    if constexpr (is_tensor<Value>) {
      return to_write(entry.name, *value, entry.layout);
    } else {
      return to_write(entry.name, ValueInFile<Value>::write(*value, entry));
    }
  }, entry.value);
}

/// What a file must have for the entry, in words; empty where `info` is that.
inline std::string difference(const StateEntry& entry, const TensorInfo& info) {
  return std::visit([&]<typename Value>(const Value*) {
    Dtype dtype = dtype_of<typename ValueInFile<Value>::Stored>();
    std::ostringstream text;
    bool fits = true;
    if constexpr (is_tensor<Value>) {
      if (is_count(entry)) dtype = Dtype::I64;
      const Shape shape = file_shape(entry.shape, entry.layout);
      fits = info.shape == shape || (entry.may_be_empty && info.shape == Shape{0});
      text << "expected " << dtype << ' ' << shape << (entry.may_be_empty ? " or [0]" : "");
    } else if constexpr (std::is_arithmetic_v<Value>) {
      fits = info.shape == Shape{};
      text << "expected " << dtype << " []";
    } else {
      fits = info.shape.rank() == 1;
      text << "expected " << dtype << " with one axis";
    }
    if (fits && info.dtype == dtype) return std::string();
    text << ", got " << info.dtype << ' ' << info.shape;
    return text.str();
  }, entry.value);
}

/// Reads what the entry is to become. The value is changed by calling what is returned, which does not throw.
inline std::function<void()> read_entry(const StateEntry& entry, const SafetensorsFile& file, const TensorInfo& info,
                                        const std::string& place) {
  return std::visit([&]<typename Value>(Value* value) -> std::function<void()> {
    const auto keep = [&](Value fresh) -> std::function<void()> {
      auto held = std::make_shared<Value>(std::move(fresh));
      return [value, held] { *value = std::move(*held); };
    };
    if constexpr (is_tensor<Value>) {
      if (is_count(entry)) {
        return keep(file.read<std::int64_t>(info).template cast<typename Value::Scalar>());
      }
    }
    return keep(ValueInFile<Value>::read(file.read<typename ValueInFile<Value>::Stored>(info), entry, place));
  }, entry.value);
}

}  // namespace residua::inline RESIDUA_ABI::detail
