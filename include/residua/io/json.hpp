// JsonReader: hears a JSON text from nlohmann-json, word by word.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// A text from a file as a message shows it: its beginning, without what would control a terminal.
inline std::string shown(std::string_view text) {
  std::size_t length = std::min<std::size_t>(text.size(), 160);
  while (length < text.size() && length > 0 && (text[length] & 0xC0) == 0x80) --length;  // not within a character
  std::string result(text.substr(0, length));
  std::replace_if(result.begin(), result.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7F; }, '?');
  return length < text.size() ? result + "…" : result;
}

/// Who reads a file overrides what it may say; every other word goes to other(). (The tree that nlohmann-json would build
/// keeps the last of several equal names, in silence, and takes a user's compiler longer.)
class JsonReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return other("null"); }
  bool boolean(bool value) override { return other(value ? "true" : "false"); }
  bool number_integer(std::int64_t number) override {
    return other("-" + std::to_string(0 - static_cast<std::uint64_t>(number)));
  }
  bool number_unsigned(std::uint64_t number) override { return other(std::to_string(number)); }
  bool number_float(double, const std::string& text) override { return other(shown(text)); }
  bool string(std::string&) override { return other("a string"); }
  bool binary(nlohmann::json::binary_t&) override { return other("bytes"); }
  bool start_array(std::size_t) override { return other("an array"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& error) override {
    fail(place_, "expected ", what_, " of well-formed JSON, got one that is not: ", shown(error.what()));
  }

  /// Hears the whole text.
  void read(std::string_view text) {
    // nlohmann-json takes a zero for the end of the text.
    if (text.find('\0') != text.npos) fail(place_, "expected ", what_, " of well-formed JSON, got a zero byte in it");
    nlohmann::json::sax_parse(text, static_cast<nlohmann::json_sax<nlohmann::json>*>(this));
  }

 protected:
  /// Of `place`, a file, that holds `what`, such as "a header".
  JsonReader(std::string_view place, std::string_view what) : place_(place), what_(what) {}

  /// What is done with every other word, told as a message tells it: throws Error, or returns true to pass it over.
  virtual bool other(std::string_view got) = 0;

  const std::string& place() const { return place_; }

 private:
  std::string place_;
  std::string_view what_;
};

}  // namespace residua::inline RESIDUA_ABI::detail
