// clip_grad_norm: gradients scaled down together where they are too long.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <residua/core/elementwise.hpp>
#include <residua/core/parameter.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// Σ x² in eight sums of every eighth number each: what is added to what depends on the length alone.
template <typename S>
double sum_of_squares(const S* x, Index size) {
  std::array<double, 8> sums{};
  Index i = 0;
  for (; i + 8 <= size; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) {
      const double value = static_cast<double>(x[i + static_cast<Index>(lane)]);
      sums[lane] += value * value;
    }
  }
  for (; i < size; ++i) sums[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double sum = 0;
  for (double s : sums) sum += s;
  return sum;
}

/// In parallel, block by block.
template <typename S>
double sum_of_squares(const Tensor<S>& x) {
  constexpr Index block = 16384;
  Tensor<double> sums(Shape{(x.size() + block - 1) / block}, uninitialized);
  double* const to = sums.data();
  parallel_ranges(x.size(), block, [&](Index first, Index last) {
    to[first / block] = sum_of_squares(x.cdata() + first, last - first);
  });
  double sum = 0;
  for (Index i = 0; i < sums.size(); ++i) sum += to[i];
  return sum;
}

}  // namespace detail

struct ClipGradNormOptions {
  bool error_if_nonfinite = false;  ///< throw Error for a norm that is infinite or NaN, with nothing changed
};

/// Scales all gradients by min(1, max_norm / (norm + 1e-6)), norm the length of all of them taken as one vector, and
/// returns it as it was before; as PyTorch's clip_grad_norm_. Call it between backward and the optimizer's step.
///
/// Throws Error for a max_norm that is negative or NaN. Pascanu et al., "On the difficulty of training recurrent neural
/// networks", 2013.
template <typename S>
double clip_grad_norm(const std::vector<Handle<ParameterData<S>>>& parameters, double max_norm,
                      const ClipGradNormOptions& options = {}) {
  if (!(max_norm >= 0)) fail("clip_grad_norm", "expected max_norm of at least 0, got ", max_norm);
  double sum = 0;
  for (const auto& p : parameters) sum += detail::sum_of_squares(p->grad);
  const double norm = std::sqrt(sum);
  if (options.error_if_nonfinite && !std::isfinite(norm)) {
    fail("clip_grad_norm", "expected gradients with a finite norm, got ", norm);
  }
  const double scale = max_norm / (norm + 1e-6);
  if (scale >= 1) return norm;
  const S factor = static_cast<S>(scale);
  for (const auto& p : parameters) {
    if (p->grad.empty()) continue;
    S* const g = p->grad.data();
    kernels::map(p->grad.size(), g, [=](auto x) { return x * factor; }, g);
  }
  return norm;
}

}  // namespace residua::inline RESIDUA_ABI
