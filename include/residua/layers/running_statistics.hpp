// Fold: how the running statistics of a norm follow those of its batches.
#pragma once

#include <optional>

#include <residua/core/parameter.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// One batch's statistics on their way into the running ones:  running ← (1 − momentum) · running + momentum · batch.
template <typename S>
struct Fold {
  BufferHandle<S> running_mean, running_var, num_batches_tracked;
  bool counted;                    ///< whether num_batches_tracked goes up by one
  std::optional<double> momentum;  ///< none: the average of all batches counted so far
  Tensor<S> batch;                 ///< (2, C): mean, variance

  void operator()() {
    const S batches = counted ? *num_batches_tracked->value.data() += S(1) : S(1);
    const S share = momentum ? static_cast<S>(*momentum) : S(1) / batches;
    blend(running_mean->value, batch.cdata(), share);
    blend(running_var->value, batch.cdata() + batch.features(), share);
  }

 private:
  static void blend(Tensor<S>& running, const S* of_batch, S share) {
    S* const to = running.data();
    for (Index c = 0; c < running.size(); ++c) to[c] = to[c] * (S(1) - share) + of_batch[c] * share;
  }
};

}  // namespace residua::inline RESIDUA_ABI::detail
