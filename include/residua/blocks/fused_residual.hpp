// FusedResidual: what inference(net) makes of a Residual.
#pragma once

#include <string>
#include <utility>

#include <residua/blocks/residual.hpp>
#include <residua/blocks/sequential.hpp>
#include <residua/layers/fused_conv2d.hpp>
#include <residua/layers/identity.hpp>
#include <residua/layers/prediction_only.hpp>
#include <residua/layers/relu.hpp>

namespace residua::inline RESIDUA_ABI {

/// relu?(branch(x) + shortcut(x)), the sum and the ReLU done by the branch's last convolution as it stores its result.
template <typename S>
class FusedResidual : public PredictionOnly<FusedResidual<S>, S> {
 public:
  FusedResidual(Sequential<S> branch, Layer<S> shortcut, bool relu, ResidualNames names)
      : last_name_(branch.name(branch.size() - 1)), last_(*branch[branch.size() - 1].template target<FusedConv2d<S>>()),
        branch_(std::move(branch)), shortcut_(std::move(shortcut)), relu_(relu), names_(std::move(names)) {
    branch_.pop_back();
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    Tensor<S> sum = residua::forward(shortcut_, names_.shortcut, x, tape);
    Tensor<S> inner = residua::forward(branch_, names_.branch, std::move(x), tape);
    return residua::forward(Last{last_, sum, relu_}, last_name_, std::move(inner), tape);
  }

  bool samplewise() const { return branch_.samplewise() && shortcut_.samplewise(); }

  static void visit(auto& self, auto&& v) {
    v(self.names_.branch, self.branch_);
    v(self.last_name_, self.last_);
    v(self.names_.shortcut, self.shortcut_);
  }

 private:
  /// The last convolution together with the sum it ends in.
  struct Last {
    const FusedConv2d<S>& convolution;
    Tensor<S>& sum;
    bool relu;

    Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
      return convolution.forward_onto(std::move(sum), x, relu, tape);
    }
    Index multiply_adds(const Shape& input) const { return convolution.multiply_adds(input); }
  };

  std::string last_name_;
  FusedConv2d<S> last_;
  Sequential<S> branch_;
  Layer<S> shortcut_;
  bool relu_;
  ResidualNames names_;
};

template <typename S>
Layer<S> Residual<S>::inference() const {
  Sequential<S> flat = Sequential<S>().add("", branch).fused();
  const auto* last = flat.size() > 0 ? flat[flat.size() - 1].template target<FusedConv2d<S>>() : nullptr;
  const bool relu = activation.type() == typeid(ReLU<S>);
  const bool linear = activation.type() == typeid(Identity<S>);
  if (last == nullptr || last->relu || !(relu || linear)) {
    return Residual(std::move(flat), shortcut.inference(), activation.inference(), names);
  }
  return FusedResidual<S>(std::move(flat), shortcut.inference(), relu, names);
}

}  // namespace residua::inline RESIDUA_ABI
