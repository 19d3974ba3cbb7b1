// The state of a network as PyTorch's state_dict has it.
#pragma once

#include <functional>
#include <sstream>
#include <string>

#include <residua/core/tensor_ops.hpp>
#include <residua/core/visit.hpp>

namespace state {

using namespace residua;

/// A tensor as files have it.
template <typename S>
Tensor<S> in_files(const Tensor<S>& x, Layout layout) {
  return layout == Layout::convolution || layout == Layout::image ? to_channels_first(x) : x;
}
/// And back.
template <typename S>
Tensor<S> in_memory(const Tensor<S>& x, Layout layout) {
  return layout == Layout::convolution || layout == Layout::image ? to_channels_last(x) : x;
}

/// Calls f(path, tensor, layout) for all parameters and buffers, in the order of visiting.
template <typename S>
struct EachTensor : Visitor<S> {
  std::function<void(const std::string&, Tensor<S>&, Layout)> f;
  void parameter(const std::string& path, Parameter<S>& p) override { f(path, p.value, p.layout); }
  void buffer(const std::string& path, Buffer<S>& b) override { f(path, b.value, b.layout); }
};
template <typename S, typename Net>
void for_each_tensor(Net& net, std::function<void(const std::string&, Tensor<S>&, Layout)> f) {
  EachTensor<S> each;
  each.f = std::move(f);
  walk<S>(net, each);
}

/// "conv1.weight 64x3x7x7", a line for each tensor, its shape that in files.
template <typename S, typename Net>
std::string names(Net& net) {
  std::ostringstream text;
  for_each_tensor<S>(net, [&](const std::string& path, Tensor<S>& x, Layout layout) {
    text << path << ' ';
    const Shape shape = in_files(x, layout).shape();
    for (Index axis = 0; axis < shape.rank(); ++axis) text << (axis == 0 ? "" : "x") << shape[axis];
    text << '\n';
  });
  return text.str();
}

}  // namespace state
