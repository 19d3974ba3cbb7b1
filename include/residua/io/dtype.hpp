// Dtype: the types of numbers in files, and how they become numbers of ours.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <ostream>
#include <string_view>
#include <type_traits>
#include <utility>

#include <residua/core/version.hpp>

namespace residua::inline RESIDUA_ABI {

static_assert(std::endian::native == std::endian::little, "residua: reads and writes files on little-endian machines");

/// The types of numbers a safetensors file holds, by the names it gives them.
enum class Dtype { F64, F32, F16, BF16, I64, I32, I16, I8, U64, U32, U16, U8, BOOL };

namespace detail {

struct DtypeTraits {
  std::string_view name;
  std::size_t size;  // in bytes
};
inline constexpr std::array<DtypeTraits, 13> dtypes{{{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                                                     {"I32", 4}, {"I16", 2}, {"I8", 1}, {"U64", 8}, {"U32", 4},
                                                     {"U16", 2}, {"U8", 1}, {"BOOL", 1}}};
constexpr const DtypeTraits& traits(Dtype dtype) { return dtypes[static_cast<std::size_t>(dtype)]; }

}  // namespace detail

/// Bytes of one number.
constexpr std::size_t size_of(Dtype dtype) { return detail::traits(dtype).size; }
constexpr std::string_view name_of(Dtype dtype) { return detail::traits(dtype).name; }
constexpr bool is_floating_point(Dtype dtype) { return dtype <= Dtype::BF16; }
inline std::ostream& operator<<(std::ostream& out, Dtype dtype) { return out << name_of(dtype); }

/// The type of that name, or none.
constexpr std::optional<Dtype> dtype_named(std::string_view name) {
  for (std::size_t i = 0; i < detail::dtypes.size(); ++i) {
    if (detail::dtypes[i].name == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

/// The type that holds the numbers of a Tensor<T>.
template <typename T>
constexpr Dtype dtype_of() {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8, "residua: no file holds numbers of this type");
  if constexpr (std::is_same_v<T, bool>) return Dtype::BOOL;
  constexpr int halvings = 3 - std::countr_zero(sizeof(T));
  constexpr Dtype widest = std::is_floating_point_v<T> ? Dtype::F64 : std::is_signed_v<T> ? Dtype::I64 : Dtype::U64;
  return static_cast<Dtype>(static_cast<int>(widest) + halvings);
}

/// The value of an IEEE half: 1 bit sign, 5 exponent, 10 fraction. All of them are floats too.
inline float float_from_f16(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16, exponent = (bits >> 10) & 0x1Fu, fraction = bits & 0x3FFu;
  if (exponent == 0) {  // zero and subnormals: fraction · 2⁻²⁴
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24f));
  }
  const std::uint32_t rebiased = exponent == 0x1F ? 0xFFu : exponent + (127 - 15);  // infinity and NaN stay so
  return std::bit_cast<float>(sign | rebiased << 23 | fraction << 13);
}

/// The value of a bfloat16: the upper half of a float.
inline float float_from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

namespace detail {

/// Whether a number keeps its value as a T, rounding apart.
template <typename T, typename Stored>
bool holds(Stored value) {
  if constexpr (std::is_floating_point_v<T> || std::is_same_v<Stored, bool>) {
    return true;
  } else if constexpr (std::is_floating_point_v<Stored> || std::is_same_v<T, bool>) {
    return false;
  } else {
    return std::in_range<T>(value);
  }
}

template <typename Stored, typename T, typename Meaning = std::identity>
std::size_t convert_each(const std::byte* bytes, std::size_t count, T* to, Meaning meaning = {}) {
  for (std::size_t i = 0; i < count; ++i) {
    Stored stored;
    std::memcpy(&stored, bytes + i * sizeof(Stored), sizeof(Stored));
    const auto value = meaning(stored);
    if (!holds<T>(value)) return i;
    to[i] = static_cast<T>(value);
  }
  return count;
}

/// Converts `count` numbers as they stand in a file. Stops at the first that is none of T's, and returns its position.
template <typename T>
std::size_t convert(Dtype dtype, const std::byte* bytes, std::size_t count, T* to) {
  switch (dtype) {
    case Dtype::F64: return convert_each<double>(bytes, count, to);
    case Dtype::F32: return convert_each<float>(bytes, count, to);
    case Dtype::F16: return convert_each<std::uint16_t>(bytes, count, to, float_from_f16);
    case Dtype::BF16: return convert_each<std::uint16_t>(bytes, count, to, float_from_bf16);
    case Dtype::I64: return convert_each<std::int64_t>(bytes, count, to);
    case Dtype::I32: return convert_each<std::int32_t>(bytes, count, to);
    case Dtype::I16: return convert_each<std::int16_t>(bytes, count, to);
    case Dtype::I8: return convert_each<std::int8_t>(bytes, count, to);
    case Dtype::U64: return convert_each<std::uint64_t>(bytes, count, to);
    case Dtype::U32: return convert_each<std::uint32_t>(bytes, count, to);
    case Dtype::U16: return convert_each<std::uint16_t>(bytes, count, to);
    case Dtype::U8: return convert_each<std::uint8_t>(bytes, count, to);
    case Dtype::BOOL: return convert_each<std::uint8_t>(bytes, count, to, [](std::uint8_t byte) { return byte != 0; });
  }
  return 0;
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
