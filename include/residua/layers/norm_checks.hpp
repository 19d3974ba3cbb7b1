// What norms ask of their options and inputs.
#pragma once

#include <string_view>

#include <residua/core/options.hpp>
#include <residua/core/parameter.hpp>
#include <residua/core/tape.hpp>

namespace residua::inline RESIDUA_ABI::detail {

inline void require_eps(std::string_view layer, double eps) {
  if (!(eps >= 0)) fail(layer, "expected eps of at least 0, got ", eps);
}

inline void require_normalized_shape(std::string_view layer, const Shape& shape) {
  if (shape.rank() < 1) fail(layer, "expected normalized_shape of at least one axis, got ", shape);
  for (Index size : shape) require_at_least(layer, "normalized_shape", 1, size);
}

/// Throws Error unless x ends with the axes that are normalised.
template <typename S>
void check_normalized(std::string_view layer, const Shape& normalized, const Shape& x, const Tape<S>& tape) {
  const Index rank = normalized.rank();
  if (x.rank() < rank || x.part(x.rank() - rank, x.rank()) != normalized) {
    tape.fail(layer, "expected an input whose last axes are ", normalized, ", got ", x);
  }
  if (x.size() == 0) tape.fail(layer, "expected an input that is not empty, got ", x);
}

/// Throws Error unless x is (N, …, features), of `least_rank` or more axes, and not empty.
template <typename S>
void check_features(std::string_view layer, Index features, Index least_rank, const Shape& x, const Tape<S>& tape) {
  if (x.rank() < least_rank) tape.fail(layer, "expected an input of at least ", least_rank, " axes, got ", x);
  if (x[-1] != features) {
    tape.fail(layer, "expected ", features, " input features, got ", x[-1], " (input is ", x, ")");
  }
  if (x.size() == 0) tape.fail(layer, "expected a batch that is not empty, got ", x);
}

/// Memory for a parameter's gradient; none where it is frozen or absent.
template <typename S>
Tensor<S> gradient_memory(const Parameter<S>& p) {
  return Tensor<S>(p.trainable() ? p.value.shape() : Shape{0}, uninitialized);
}

}  // namespace residua::inline RESIDUA_ABI::detail
