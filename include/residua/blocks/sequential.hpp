// Sequential: layers one after another.
#pragma once

#include <concepts>
#include <string>
#include <utility>

#include <residua/blocks/children.hpp>
#include <residua/blocks/fuse.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = layer_n(… layer_2(layer_1(x))).
///
///     Sequential<float> net;
///     net.add("conv1", Conv2d<float>({.in_channels = 3, .out_channels = 16, .kernel_size = 3}, rng));
///     net.add("relu", ReLU<float>());
///
/// What names there may be, Children tells.
template <typename S>
class Sequential : public Children<Sequential<S>, S> {
  using typename Children<Sequential, S>::Child;
  using Children<Sequential, S>::children_;

 public:
  Sequential() = default;

  /// Layers called by their numbers: Sequential<float>(Conv2d<float>(…), ReLU<float>()).
  template <typename First, typename... Rest>
    requires(std::convertible_to<First, Layer<S>> &&
             (sizeof...(Rest) > 0 || !std::same_as<std::remove_cvref_t<First>, Sequential>))
  explicit Sequential(First&& first, Rest&&... rest) {
    this->add(std::forward<First>(first));
    (this->add(std::forward<Rest>(rest)), ...);
  }

  using Finishes = Sequential;

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");  // all of it, or nothing, is on the tape
    Finish<S>* const finish = tape.finish();
    for (auto child = children_.begin(); child != children_.end(); ++child) {
      const auto next = child + 1;
      const bool last = next == children_.end();
      Finish<S> relu{.relu = !last && next->layer.type() == typeid(ReLU<S>)};
      x = residua::forward(child->layer, child->name, std::move(x), tape, last ? finish : relu.relu ? &relu : nullptr);
      if (!relu.done) continue;
      auto inner = tape.scope((++child)->name);
      ReLU<S>::remember(x.shape(), std::move(relu.stopped), tape);
    }
    return x;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    for (auto child = children_.end(); child != children_.begin();) {
      --child;
      dy = residua::backward(child->layer, child->name, std::move(dy), tape);
    }
    return dy;
  }

  bool samplewise() const { return this->all_samplewise(); }

  /// The same function for prediction only: inner Sequentials are laid out flat, norms folded, activations fused.
  Layer<S> inference() const { return fused(); }

  Sequential fused() const {
    Sequential result;
    for (const Child& child : children_) {
      Layer<S> layer = child.layer.inference();
      if (const auto* inner = layer.template target<Sequential>()) {
        for (const Child& c : inner->children_) result.append_fused(joined(child.name, c.name), c.layer);
      } else {
        result.append_fused(child.name, std::move(layer));
      }
    }
    return result;
  }

  /// Removes the last layer and returns it.
  Layer<S> pop_back() {
    Layer<S> last = this->at(this->size() - 1).layer;
    children_.pop_back();
    return last;
  }

 private:
  static std::string joined(const std::string& outer, const std::string& inner) {
    return outer.empty() || inner.empty() ? outer + inner : outer + '.' + inner;
  }

  void append_fused(std::string name, Layer<S> layer) {
    if (children_.empty() || !detail::fuse(children_.back().layer, layer)) {
      children_.push_back({std::move(name), std::move(layer)});
    }
  }
};

}  // namespace residua::inline RESIDUA_ABI

#include <residua/blocks/inference.hpp>
