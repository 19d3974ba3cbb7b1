// FusedResidual: what inference(net) makes of a Residual.
#pragma once

#include <utility>

#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>

namespace residua::inline RESIDUA_ABI {

/// relu?(branch(x) + shortcut(x)), the sum and the ReLU done by the branch's last convolution as it stores its result.
template <typename S>
class FusedResidual : public PredictionOnly<FusedResidual<S>, S> {
 public:
  FusedResidual(Sequential<S> branch, FusedConv2d<S> last, Layer<S> shortcut, bool relu)
      : branch_(std::move(branch)), last_(std::move(last)), shortcut_(std::move(shortcut)), relu_(relu) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    Tensor<S> sum = shortcut_.forward(x, tape);
    const Tensor<S> inner = branch_.forward(std::move(x), tape);
    return last_.forward_onto(std::move(sum), inner, relu_, tape);
  }

 private:
  Sequential<S> branch_;
  FusedConv2d<S> last_;
  Layer<S> shortcut_;
  bool relu_;
};

template <typename S>
Layer<S> Residual<S>::inference() const {
  const Sequential<S> outer(branch);
  Sequential<S> flat = outer.fused();
  const auto* last = flat.size() > 0 ? flat[flat.size() - 1].template target<FusedConv2d<S>>() : nullptr;
  const bool relu = activation.type() == typeid(ReLU<S>);
  const bool linear = activation.type() == typeid(Identity<S>);
  if (last == nullptr || last->relu || !(relu || linear)) {
    return Residual(std::move(flat), shortcut.inference(), activation.inference(), names);
  }
  FusedConv2d<S> convolution = *last;
  flat.pop_back();
  return FusedResidual<S>(std::move(flat), std::move(convolution), shortcut.inference(), relu);
}

}  // namespace residua::inline RESIDUA_ABI
