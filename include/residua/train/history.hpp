// History: what was measured, epoch by epoch.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <residua/core/error.hpp>

namespace residua::inline RESIDUA_ABI {

/// Named numbers, like {{"loss", 0.41}, {"accuracy", 0.87}}.
using Measures = std::vector<std::pair<std::string, double>>;

/// A row of numbers for each epoch, the columns named. Holds no times: a run that is done again has the same history.
class History {
 public:
  /// Adds a row. Throws Error where its names are not those of the rows before, or a name has a comma or a line break.
  void add(const Measures& row) {
    std::string names;
    for (const auto& [name, value] : row) {
      if (name.empty() || name.find_first_of(",\"\n\r") != std::string::npos) {
        fail("History", "expected names without commas, quotes and line breaks, got '", name, "'");
      }
      names += (names.empty() ? "" : ",") + name;
    }
    if (!numbers_.empty() && names != columns_) {
      fail("History", "expected the columns ", columns_, ", got ", names);
    }
    columns_ = std::move(names);
    for (const auto& [name, value] : row) numbers_.push_back(value);
  }

  std::size_t rows() const { return numbers_.size() / std::max<std::size_t>(width(), 1); }

  /// The names, in the order of the columns.
  std::vector<std::string> columns() const {
    std::vector<std::string> names;
    for (std::size_t begin = 0; begin < columns_.size();) {
      const std::size_t end = std::min(columns_.find(',', begin), columns_.size());
      names.push_back(columns_.substr(begin, end - begin));
      begin = end + 1;
    }
    return names;
  }

  /// One column, a number for each row. Throws Error for a name that is not there.
  std::vector<double> column(std::string_view name) const {
    const std::vector<std::string> names = columns();
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) fail("History", "expected one of the columns ", columns_, ", got ", name);
    std::vector<double> values;
    for (auto i = static_cast<std::size_t>(found - names.begin()); i < numbers_.size(); i += names.size()) {
      values.push_back(numbers_[i]);
    }
    return values;
  }

  /// The table as CSV, a line of names first. A number is written with the fewest digits that give it back exactly.
  std::string csv() const {
    std::string text = columns_ + '\n';
    const std::size_t columns = width();
    for (std::size_t i = 0; i < numbers_.size(); ++i) {
      char digits[32];
      const auto end = std::to_chars(digits, digits + sizeof digits, numbers_[i]).ptr;
      text.append(digits, static_cast<std::size_t>(end - digits)) += (i + 1) % columns == 0 ? '\n' : ',';
    }
    return text;
  }

  /// Whether names and numbers fit together: what was read from a file may not.
  bool whole() const { return numbers_.size() % std::max<std::size_t>(width(), 1) == 0 && !(columns_.empty() && !numbers_.empty()); }

  static void visit(auto& self, auto&& v) {
    v("columns", self.columns_);
    v("numbers", self.numbers_);
  }

 private:
  std::size_t width() const {
    return columns_.empty() ? 0 : static_cast<std::size_t>(std::count(columns_.begin(), columns_.end(), ',')) + 1;
  }

  std::string columns_;          // names with commas between
  std::vector<double> numbers_;  // row by row
};

}  // namespace residua::inline RESIDUA_ABI
