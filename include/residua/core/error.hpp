// Error: what the library throws at bad input.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <residua/core/version.hpp>

namespace residua::inline RESIDUA_ABI {

/// Thrown wherever an argument, a file or an order of calls breaks a rule. The text names the place (a layer's path, a
/// function, a file), the rule, and the value received:
///
///     layer2.0.conv1: expected 64 input channels, got 32 (input is [8, 56, 56, 32])
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Error("place: parts…"), the parts joined as `<<` writes them.
template <typename... Parts>
[[noreturn]] void fail(std::string_view place, const Parts&... parts) {
  std::ostringstream text;
  text << place << ": ";
  (text << ... << parts);
  throw Error(text.str());
}

}  // namespace residua::inline RESIDUA_ABI
