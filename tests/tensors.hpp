// Tensors to try things on, and whether two are the same.
#pragma once

#include <cstdint>
#include <cstring>

#include <residua/core/random.hpp>
#include <residua/core/tensor.hpp>

/// Normally distributed, the same for the same seed.
template <typename S>
residua::Tensor<S> normal(const residua::Shape& shape, std::uint64_t seed = 7, double stddev = 1) {
  residua::Random random(seed);
  residua::Tensor<S> x(shape);
  for (S& value : x.array()) value = static_cast<S>(random.normal(0, stddev));
  return x;
}

/// NaN and the sign of zero count too, unlike with ==.
template <typename S>
bool same_bits(const residua::Tensor<S>& a, const residua::Tensor<S>& b) {
  if (a.shape() != b.shape()) return false;
  return a.empty() || std::memcmp(a.cdata(), b.cdata(), static_cast<std::size_t>(a.size()) * sizeof(S)) == 0;
}
