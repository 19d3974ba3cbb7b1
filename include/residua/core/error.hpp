// Error: what the library throws at bad input.
#pragma once

#include <initializer_list>
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

namespace detail {

/// Anything that `<<` writes, seen without its type: error messages then cost the compiler almost nothing.
struct Printable {
  const void* value;
  void (*print)(std::ostream&, const void*);

  Printable(const char* text) : value(text), print(&print_text) {}
  template <typename T>
  Printable(const T& v) : value(&v), print(&print_as<T>) {}

  static void print_text(std::ostream& out, const void* p) { out << static_cast<const char*>(p); }
  template <typename T>
  static void print_as(std::ostream& out, const void* p) { out << *static_cast<const T*>(p); }
};

[[noreturn, gnu::cold, gnu::noinline]] inline void throw_error(std::string_view place,
                                                               std::initializer_list<Printable> parts) {
  std::ostringstream text;
  text << place << ": ";
  for (const Printable& part : parts) part.print(text, part.value);
  throw Error(text.str());
}

}  // namespace detail

/// Throws Error("place: parts…"), the parts joined as `<<` writes them.
template <typename... Parts>
[[noreturn, gnu::cold]] void fail(std::string_view place, const Parts&... parts) {
  detail::throw_error(place, {detail::Printable(parts)...});
}

}  // namespace residua::inline RESIDUA_ABI
