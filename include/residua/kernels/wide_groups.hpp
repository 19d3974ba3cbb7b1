// Groups of a convolution that are too narrow to fill a vector, taken together.
//
// Groups that are neighbours are one group with more channels, whose weights are zero between a channel of one and a
// channel of another. The zeros cost nothing as long as all fits in one vector, which would be multiplied anyway.
// Except that zero times an infinity, or NaN, is NaN: one in a group reaches those that it is taken together with.
#pragma once

#include <algorithm>

#include <residua/core/tensor.hpp>
#include <residua/kernels/convolution_shape.hpp>
#include <residua/kernels/microkernel.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

/// The same convolution with as many groups taken together as fit in a vector; as it is where none do, or where it is
/// depthwise, which has a way of its own.
template <typename S>
ConvolutionShape with_wide_groups(ConvolutionShape s) {
  if (s.depthwise() && s.algorithm != ConvAlgorithm::winograd) return s;
  const Index widest = std::max(s.C, s.K) / s.groups, room = micro_kernels<S>().lanes / std::max<Index>(1, widest);
  for (Index together = std::min(room, s.groups); together > 1; --together) {
    if (s.groups % together != 0) continue;
    s.groups /= together;
    break;
  }
  return s;
}

/// Calls visit(narrow, wide) for the beginning of each run of channels: where it is in weights (K, R, S, C/G) of `s`, and
/// where in those of `wide`.
template <typename Visit>
void for_each_run(const ConvolutionShape& s, const ConvolutionShape& wide, Visit&& visit) {
  const Index cg = s.C / s.groups, kg = s.K / s.groups, wide_cg = wide.C / wide.groups, together = s.groups / wide.groups;
  for (Index k = 0; k < s.K; ++k) {
    const Index column = k / kg % together * cg;
    for (Index row = k * s.taps(); row < (k + 1) * s.taps(); ++row) visit(row * cg, row * wide_cg + column);
  }
}

/// Weights of `s` as those of `wide`.
template <typename S>
Tensor<S> widened(const S* weight, const ConvolutionShape& s, const ConvolutionShape& wide) {
  Tensor<S> result(wide.weight());
  S* const to = result.data();
  for_each_run(s, wide, [&](Index n, Index w) { std::copy_n(weight + n, s.C / s.groups, to + w); });
  return result;
}

/// Weights of `wide` as those of `s`: what stands between the groups is left out.
template <typename S>
void narrow(const S* weight, const ConvolutionShape& wide, const ConvolutionShape& s, S* result) {
  for_each_run(s, wide, [&](Index n, Index w) { std::copy_n(weight + w, s.C / s.groups, result + n); });
}

}  // namespace residua::inline RESIDUA_ABI::kernels
