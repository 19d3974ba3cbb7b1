// What options of layers are made of.
#pragma once

#include <algorithm>
#include <concepts>
#include <ostream>
#include <string_view>

#include <residua/core/eigen.hpp>
#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI {

/// Height and width: one number for both, or a pair. `.stride = 2`, `.stride = {2, 1}`.
struct Pair {
  Index height = 0, width = 0;

  Pair() = default;
  template <std::integral I>
  Pair(I both) : height(static_cast<Index>(both)), width(static_cast<Index>(both)) {}
  Pair(Index h, Index w) : height(h), width(w) {}

  friend bool operator==(Pair, Pair) = default;
  friend std::ostream& operator<<(std::ostream& out, Pair p) { return out << '(' << p.height << ", " << p.width << ')'; }
};

namespace detail {

/// No option of a layer is larger than this: sums and products of a few of them stay in range.
inline constexpr Index largest_option = Index{1} << 31;

// Not inlined: each constructor would compile the making of both messages for each of its options.
[[gnu::noinline]] inline void require_at_least(std::string_view layer, std::string_view option, Index least, Index value) {
  if (value < least) fail(layer, "expected ", option, " of at least ", least, ", got ", value);
  if (value > largest_option) fail(layer, "expected ", option, " of at most ", largest_option, ", got ", value);
}
[[gnu::noinline]] inline void require_at_least(std::string_view layer, std::string_view option, Index least, Pair value) {
  if (std::min(value.height, value.width) < least) {
    fail(layer, "expected ", option, " of at least ", least, ", got ", value);
  }
  if (std::max(value.height, value.width) > largest_option) {
    fail(layer, "expected ", option, " of at most ", largest_option, ", got ", value);
  }
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
