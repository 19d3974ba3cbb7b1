// What the losses that compare element with element have in common.
#pragma once

#include <string_view>
#include <utility>

#include <residua/core/threads.hpp>
#include <residua/loss/loss.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// The loss of one element, and its derivative by the input.
struct ElementLoss {
  double value, slope;
};

/// The sum or the mean of f(input[i], target[i], i) over all elements, computed in double, a fixed block at a time.
/// Throws Error for no elements, or a target of another shape than the input.
template <typename S, typename F>
Loss<S> elementwise_loss(std::string_view place, const Tensor<S>& input, const Tensor<S>& target, Reduction reduction,
                         F&& f) {
  if (input.empty()) fail(place, "expected at least one element, got input ", input.shape());
  if (target.shape() != input.shape()) {
    fail(place, "expected a target of shape ", input.shape(), ", got ", target.shape());
  }
  const Index size = input.size(), grain = 4096;
  const double divisor = reduction == Reduction::mean ? static_cast<double>(size) : 1;
  Tensor<S> gradient(input.shape(), uninitialized);
  Tensor<double> sums(Shape{(size + grain - 1) / grain}, uninitialized);
  const S *const x = input.cdata(), *const t = target.cdata();
  S* const dx = gradient.data();
  double* const sum_of = sums.data();

  parallel_ranges(size, grain, [&](Index first, Index last) {
    double sum = 0;
    for (Index i = first; i < last; ++i) {
      const ElementLoss loss = f(static_cast<double>(x[i]), static_cast<double>(t[i]), i);
      sum += loss.value;
      dx[i] = static_cast<S>(loss.slope / divisor);
    }
    sum_of[first / grain] = sum;
  });

  double total = 0;
  for (Index block = 0; block < sums.size(); ++block) total += sum_of[block];
  return {total / divisor, std::move(gradient)};
}

}  // namespace residua::inline RESIDUA_ABI::detail
