// Tensors to try things on, and whether two are the same.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

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

/// Numbers whose sums and products are exact.
template <typename S>
residua::Tensor<S> whole_numbers(const residua::Shape& shape, residua::Random& random) {
  residua::Tensor<S> x(shape);
  for (S& value : x.array()) value = static_cast<S>(random.below(9) - 4);
  return x;
}

template <typename S>
residua::Tensor<S> normal_numbers(const residua::Shape& shape, residua::Random& random) {
  residua::Tensor<S> x(shape);
  for (S& value : x.array()) value = static_cast<S>(random.normal());
  return x;
}

/// The largest |x|, NaN where one is: so that it is within no tolerance.
template <typename Derived>
typename Derived::Scalar largest(const Eigen::ArrayBase<Derived>& x) {
  typename Derived::Scalar most = 0;
  for (residua::Index i = 0; i < x.size(); ++i) {
    const auto size = std::abs(x.coeff(i));
    if (std::isnan(size)) return size;
    most = std::max(most, size);
  }
  return most;
}

/// Whatever is not written will show.
template <typename S>
residua::Tensor<S> unwritten(const residua::Shape& shape) {
  residua::detail::MemoryCache::instance().poison();
  return residua::Tensor<S>(shape, std::numeric_limits<S>::quiet_NaN());
}

/// NaN and the sign of zero count too, unlike with ==.
template <typename S>
bool same_bits(const residua::Tensor<S>& a, const residua::Tensor<S>& b) {
  if (a.shape() != b.shape()) return false;
  return a.empty() || std::memcmp(a.cdata(), b.cdata(), static_cast<std::size_t>(a.size()) * sizeof(S)) == 0;
}
