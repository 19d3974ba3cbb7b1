// A table of text: columns as wide as their widest entry.
#pragma once

#include <algorithm>
#include <iomanip>
#include <ostream>
#include <string>
#include <vector>

#include <residua/core/version.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// Writes the lines, all of as many entries as the first, which is the heading. Of the columns the first `names` are
/// left-aligned, the others right-aligned; the last `totals` lines stand below a rule.
inline void write_table(std::ostream& out, const std::vector<std::vector<std::string>>& lines, std::size_t names,
                        std::size_t totals) {
  std::vector<std::size_t> width(lines[0].size());
  for (const auto& line : lines) {
    for (std::size_t c = 0; c < width.size(); ++c) width[c] = std::max(width[c], line[c].size());
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i == 1 || i + totals == lines.size()) {
      for (std::size_t w : width) out << std::string(w, '-') << "  ";
      out << '\n';
    }
    for (std::size_t c = 0; c < width.size(); ++c) {
      out << (c < names ? std::left : std::right) << std::setw(static_cast<int>(width[c])) << lines[i][c] << "  ";
    }
    out << '\n';
  }
}

}  // namespace residua::inline RESIDUA_ABI::detail
