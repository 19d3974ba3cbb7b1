// Sequential: layers one after another.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <residua/blocks/fuse.hpp>
#include <residua/core/layer.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = layer_n(… layer_2(layer_1(x))).
///
///     Sequential<float> net;
///     net.add("conv1", Conv2d<float>({.in_channels = 3, .out_channels = 16, .kernel_size = 3}, rng));
///     net.add("relu", ReLU<float>());
///
/// Layers without a name are called by their number, "0", "1", …, as in PyTorch. Throws Error for a name that is taken or
/// that contains a dot.
template <typename S>
class Sequential : public Network<Sequential<S>, S> {
 public:
  Sequential() = default;
  Sequential(const Sequential&) = default;
  Sequential(Sequential&&) noexcept = default;

  /// Layers called by their numbers: Sequential<float>(Conv2d<float>(…), ReLU<float>()).
  template <typename First, typename... Rest>
    requires(std::convertible_to<First, Layer<S>> &&
             (sizeof...(Rest) > 0 || !std::same_as<std::remove_cvref_t<First>, Sequential>))
  explicit Sequential(First&& first, Rest&&... rest) {
    add(std::forward<First>(first));
    (add(std::forward<Rest>(rest)), ...);
  }

  /// A network with the same names is assigned layer by layer, into the parameters that are there; any other replaces all.
  Sequential& operator=(Sequential other) {
    if (!same_names(other)) {
      children_ = std::move(other.children_);
      return *this;
    }
    for (std::size_t i = 0; i < children_.size(); ++i) children_[i].layer = std::move(other.children_[i].layer);
    return *this;
  }

  Sequential& add(std::string name, Layer<S> layer) {
    if (name.find('.') != std::string::npos) fail("Sequential", "expected a name without dots, got '", name, "'");
    for (const Child& child : children_) {
      if (child.name == name) fail("Sequential", "expected a name that is not taken, got '", name, "'");
    }
    children_.push_back({std::move(name), std::move(layer)});
    return *this;
  }
  Sequential& add(Layer<S> layer) { return add(std::to_string(children_.size()), std::move(layer)); }

  Index size() const { return static_cast<Index>(children_.size()); }
  const std::string& name(Index i) const { return at(i).name; }
  Layer<S>& operator[](Index i) { return const_cast<Layer<S>&>(at(i).layer); }
  const Layer<S>& operator[](Index i) const { return at(i).layer; }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");  // all of it, or nothing, is on the tape
    for (const Child& child : children_) x = residua::forward(child.layer, child.name, std::move(x), tape);
    return x;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    for (auto child = children_.rbegin(); child != children_.rend(); ++child) {
      dy = residua::backward(child->layer, child->name, std::move(dy), tape);
    }
    return dy;
  }

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
    Layer<S> last = at(size() - 1).layer;
    children_.pop_back();
    return last;
  }

  static void visit(auto& self, auto&& v) {
    for (auto& child : self.children_) v(child.name, child.layer);
  }

 private:
  struct Child {
    std::string name;
    Layer<S> layer;
  };

  const Child& at(Index i) const {
    if (i < 0 || i >= size()) fail("Sequential", "expected a position below ", size(), ", got ", i);
    return children_[static_cast<std::size_t>(i)];
  }

  static std::string joined(const std::string& outer, const std::string& inner) {
    return outer.empty() || inner.empty() ? outer + inner : outer + '.' + inner;
  }

  void append_fused(std::string name, Layer<S> layer) {
    if (children_.empty() || !detail::fuse(children_.back().layer, layer)) {
      children_.push_back({std::move(name), std::move(layer)});
    }
  }

  bool same_names(const Sequential& other) const {
    return std::equal(children_.begin(), children_.end(), other.children_.begin(), other.children_.end(),
                      [](const Child& a, const Child& b) { return a.name == b.name; });
  }

  std::vector<Child> children_;
};

}  // namespace residua::inline RESIDUA_ABI
