// randperm: numbers in random order.
#pragma once

#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

#include <residua/core/eigen.hpp>
#include <residua/core/random.hpp>

namespace residua::inline RESIDUA_ABI {

/// The numbers 0 … count − 1 in random order (Fisher and Yates), as torch.randperm. Throws Error for a negative count.
inline std::vector<Index> randperm(Index count, Random& random) {
  if (count < 0) fail("randperm", "expected a count of at least 0, got ", count);
  std::vector<Index> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), Index{0});
  for (std::size_t left = order.size(); left > 1; --left) {
    std::swap(order[left - 1], order[static_cast<std::size_t>(random.below(static_cast<Index>(left)))]);
  }
  return order;
}

}  // namespace residua::inline RESIDUA_ABI
