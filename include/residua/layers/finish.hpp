// What a layer does beyond its own result, because the block around it does it next. See Tape::finish.
#pragma once

#include <cstdint>
#include <utility>

#include <residua/core/elementwise.hpp>
#include <residua/core/tape.hpp>
#include <residua/kernels/relu.hpp>

namespace residua::inline RESIDUA_ABI::detail {

/// result = relu?(result + sum?)
template <typename S>
struct Ending {
  Tensor<S> sum;  // empty where there is none
  bool relu = false;
  std::uint8_t* stopped = nullptr;  // where to write what the ReLU stops, unless null
};

/// Takes on what comes next, for a layer with results of shape y. `run`: so many numbers it writes before it writes down
/// what a ReLU stopped of them; 0: it cannot.
template <typename S>
Ending<S> take_finish(const Shape& y, const Tape<S>& tape, Index run = 0) {
  Finish<S>* const finish = tape.finish();
  if (finish == nullptr || (finish->sum != nullptr && finish->sum->shape() != y)) return {};
  const bool writes_down = finish->relu && tape.recording();
  if (writes_down && run == 0) return {};
  finish->done = true;
  Ending<S> end{.sum = finish->sum != nullptr ? std::move(*finish->sum) : Tensor<S>(), .relu = finish->relu};
  if (writes_down) {
    finish->stopped = {run, Tensor<std::uint8_t>(Shape{kernels::relu_bytes(y.size(), run)}, uninitialized)};
    end.stopped = finish->stopped.bits.data();
  }
  return end;
}

/// Likewise for a layer that can only end in a ReLU, and only where nothing is recorded.
template <typename S>
bool take_relu(const Tape<S>& tape) {
  Finish<S>* const finish = tape.finish();
  if (finish == nullptr || finish->sum != nullptr || tape.recording()) return false;
  finish->done = true;
  return finish->relu;
}

/// Memory for a norm's result: x's where nothing is recorded; else the sum's, since backward needs x. Of either only where
/// nobody else holds it.
template <typename S>
Tensor<S> memory_for_norm(Tensor<S>& x, Tensor<S>& sum, const Tape<S>& tape) {
  if (!tape.recording()) return take_over(x);
  return sum.empty() ? Tensor<S>(x.shape(), uninitialized) : take_over(sum);
}

}  // namespace residua::inline RESIDUA_ABI::detail
