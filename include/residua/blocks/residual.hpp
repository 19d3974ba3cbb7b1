// Residual: a branch added to a shortcut.
#pragma once

#include <string>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/layers/identity.hpp>
#include <residua/layers/relu.hpp>

namespace residua::inline RESIDUA_ABI {

/// The names of a Residual's parts in paths. An empty name adds nothing to the path of what is inside.
struct ResidualNames {
  std::string branch = "branch";
  std::string shortcut = "shortcut";
  std::string activation = "activation";
};

/// y = activation(branch(x) + shortcut(x)).   Branch and shortcut give the same shape; Error otherwise.
///
///     Residual<float>(branch)                                   // y = branch(x) + x
///     Residual<float>(branch, shortcut, ReLU<float>())          // y = relu(branch(x) + shortcut(x))
///
/// He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition" (2015).
template <typename S>
class Residual : public Network<Residual<S>, S> {
 public:
  Layer<S> branch, shortcut, activation;
  ResidualNames names;

  explicit Residual(Layer<S> branch_layer, Layer<S> shortcut_layer = Identity<S>(),
                    Layer<S> activation_layer = Identity<S>(), ResidualNames part_names = {})
      : branch(std::move(branch_layer)), shortcut(std::move(shortcut_layer)), activation(std::move(activation_layer)),
        names(std::move(part_names)) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");
    const bool wanted = tape.input_gradient();
    Tensor<S> s = residua::forward(shortcut, names.shortcut, x, tape);
    const bool wanted_after_shortcut = tape.input_gradient();
    tape.set_input_gradient(wanted);
    Finish<S> sum{.sum = &s, .relu = activation.type() == typeid(ReLU<S>)};
    Tensor<S> y = residua::forward(branch, names.branch, std::move(x), tape, &sum);
    tape.set_input_gradient(tape.input_gradient() || wanted_after_shortcut);
    if (sum.done && sum.relu) {
      auto inner = tape.scope(names.activation);
      ReLU<S>::remember(y.shape(), std::move(sum.stopped), tape);
      return y;
    }
    if (sum.done) return residua::forward(activation, names.activation, std::move(y), tape);
    if (y.shape() != s.shape()) {
      tape.fail("Residual", "expected branch and shortcut to give the same shape, got ", y.shape(), " and ", s.shape());
    }
    // y = activation(branch(x) + shortcut(x))
    return residua::forward(activation, names.activation, detail::sum(std::move(y), std::move(s)), tape);
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    dy = residua::backward(activation, names.activation, std::move(dy), tape);
    // The gradient forks: dx = dbranch + dshortcut. Where one is empty nobody wants the sum.
    Tensor<S> dbranch = residua::backward(branch, names.branch, dy, tape);
    Tensor<S> dshortcut = residua::backward(shortcut, names.shortcut, std::move(dy), tape);
    if (dbranch.empty() || dshortcut.empty()) return {};
    if (dbranch.shape() != dshortcut.shape()) {
      tape.fail("Residual", "expected branch and shortcut to give input gradients of the same shape, got ", dbranch.shape(),
                " and ", dshortcut.shape());
    }
    return detail::sum(std::move(dbranch), std::move(dshortcut));
  }

  /// See blocks/fused_residual.hpp.
  Layer<S> inference() const;

  bool samplewise() const { return branch.samplewise() && shortcut.samplewise() && activation.samplewise(); }

  static void visit(auto& self, auto&& v) {
    v(self.names.branch, self.branch);
    v(self.names.shortcut, self.shortcut);
    v(self.names.activation, self.activation);
  }
};

}  // namespace residua::inline RESIDUA_ABI

#include <residua/blocks/fused_residual.hpp>
