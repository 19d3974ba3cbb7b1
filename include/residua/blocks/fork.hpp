// What blocks whose input goes several ways share.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include <residua/core/layer.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// The gradient by a tensor that went several ways: the sum of theirs, in their order; empty where one of them is,
/// because nobody wants it then.
template <typename S>
Tensor<S> sum_of_fork(std::vector<Tensor<S>> gradients, std::string_view block, const Tape<S>& tape) {
  Tensor<S> total;
  for (const Tensor<S>& gradient : gradients) {
    if (gradient.empty()) return {};
  }
  for (Tensor<S>& gradient : gradients) {
    if (!total.empty() && gradient.shape() != total.shape()) {
      tape.fail(block, "expected input gradients of the same shape, got ", total.shape(), " and ", gradient.shape());
    }
    total = sum(std::move(total), std::move(gradient));
  }
  return total;
}

}  // namespace residua::inline RESIDUA_ABI::detail
