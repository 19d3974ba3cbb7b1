// What must be true of labels.
#pragma once

#include <span>
#include <string_view>

#include <residua/core/error.hpp>
#include <residua/core/shape.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// Throws Error unless there is one label for each row of the logits.
inline void check_labels(std::string_view place, const Shape& logits, std::span<const Index> labels) {
  if (static_cast<Index>(labels.size()) != logits.rows()) {
    fail(place, "expected ", logits.rows(), " labels for logits ", logits, ", got ", labels.size());
  }
}

/// Throws Error unless the label of a row is one of the classes.
inline void check_label(std::string_view place, Index classes, Index label, std::size_t row) {
  if (label < 0 || label >= classes) {
    fail(place, "expected labels from 0 to ", classes - 1, ", got ", label, " at row ", row);
  }
}

}  // namespace residua::inline RESIDUA_ABI::detail
