// How weights are drawn.
#pragma once

#include <cmath>

#include <residua/core/random.hpp>
#include <residua/core/tensor.hpp>

namespace residua::inline RESIDUA_ABI::init {

/// Fills with uniform numbers in [low, high). A Random::none() leaves the tensor zero.
template <typename S>
Tensor<S> uniform(const Shape& shape, double low, double high, Random& random) {
  Tensor<S> result(shape);
  if (random.is_none()) return result;
  for (S *x = result.data(), *end = x + result.size(); x != end; ++x) *x = static_cast<S>(random.uniform(low, high));
  return result;
}

/// Fills with normal numbers. A Random::none() leaves the tensor zero.
template <typename S>
Tensor<S> normal(const Shape& shape, double mean, double stddev, Random& random) {
  Tensor<S> result(shape);
  if (random.is_none()) return result;
  for (S *x = result.data(), *end = x + result.size(); x != end; ++x) *x = static_cast<S>(random.normal(mean, stddev));
  return result;
}

/// Kaiming-uniform with a = √5, PyTorch's default for convolutions and linear maps: uniform in ±1/√fan_in.
/// Also the default of their biases. (He et al. 2015, "Delving deep into rectifiers")
template <typename S>
Tensor<S> kaiming_uniform(const Shape& shape, Index fan_in, Random& random) {
  const double bound = 1 / std::sqrt(static_cast<double>(fan_in));
  return uniform<S>(shape, -bound, bound, random);
}

/// Fills with normal numbers of mean 0, those outside of [−bound, bound] drawn again. A Random::none() leaves the tensor
/// zero. Throws Error for a bound below the standard deviation, where that would take long.
template <typename S>
Tensor<S> truncated_normal(const Shape& shape, double stddev, double bound, Random& random) {
  if (!(bound >= stddev)) fail("truncated_normal", "expected a bound of at least ", stddev, ", got ", bound);
  Tensor<S> result(shape);
  if (random.is_none()) return result;
  for (S *x = result.data(), *end = x + result.size(); x != end; ++x) {
    double drawn;
    do drawn = random.normal(0, stddev); while (std::abs(drawn) > bound);
    *x = static_cast<S>(drawn);
  }
  return result;
}

/// Kaiming-normal for ReLU: normal with standard deviation √(2 / fan), the fan being the number of inputs of each output
/// or of outputs of each input. (He et al. 2015)
template <typename S>
Tensor<S> kaiming_normal(const Shape& shape, Index fan, Random& random) {
  return normal<S>(shape, 0, std::sqrt(2 / static_cast<double>(fan)), random);
}

}  // namespace residua::inline RESIDUA_ABI::init
