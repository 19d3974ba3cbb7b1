// A table of text, with its columns aligned.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <ostream>
#include <string>
#include <vector>

#include <residua/core/version.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// Lines of as many entries each as the heading.
class Table {
 public:
  explicit Table(std::initializer_list<std::string> heading) : columns_(heading.size()) { add(heading); }

  void add(std::initializer_list<std::string> line) {
    for (const std::string& entry : line) entries_.push_back(entry);
  }

  /// Of the columns the first `names` are left-aligned, the others right-aligned; the last `totals` lines stand below a rule.
  void write(std::ostream& out, std::size_t names, std::size_t totals) const {
    const std::size_t lines = entries_.size() / columns_;
    std::vector<std::size_t> width(columns_);
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      width[i % columns_] = std::max(width[i % columns_], entries_[i].size());
    }
    for (std::size_t i = 0; i < lines; ++i) {
      if (i == 1 || i + totals == lines) {
        for (std::size_t w : width) out << std::string(w, '-') << "  ";
        out << '\n';
      }
      for (std::size_t c = 0; c < columns_; ++c) {
        const std::string& entry = entries_[i * columns_ + c];
        const std::string space(width[c] - entry.size(), ' ');
        out << (c < names ? entry + space : space + entry) << "  ";
      }
      out << '\n';
    }
  }

 private:
  std::size_t columns_;
  std::vector<std::string> entries_;
};

}  // namespace residua::inline RESIDUA_ABI::detail
