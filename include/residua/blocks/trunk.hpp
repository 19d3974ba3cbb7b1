// Trunk: layers one after another, with outputs taken from between them.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <residua/blocks/children.hpp>
#include <residua/blocks/fork.hpp>
#include <residua/blocks/sequential.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = layer_n(… layer_1(x)), as Sequential, and further outputs: head_i(what comes out of one of the layers).
///
///     Trunk<float> net;
///     net.add("stage1", …).add("stage2", …).add("fc", …);
///     net.add_head("aux", head, "stage1");                     // aux(stage1(x))
///
///     Tensor<float> y = net.forward(x, tape);                  // the main output alone: no head runs
///     auto outputs = net.forward_all(x, tape);                 // the main output, then the heads' in the order of adding
///     net.backward_all({dy, daux}, tape);                      // after forward_all; sums where a head branches off
///
/// With Identity as heads it is the bottom-up half of a feature pyramid or a U-Net. In paths heads and layers stand in the
/// order of adding; what names there may be, Children tells.
template <typename S>
class Trunk : public Children<Trunk<S>, S> {
  using Base = Children<Trunk, S>;

 public:
  /// Adds a head to the layer `after`, or to the last one added. Throws Error where there is no such layer.
  Trunk& add_head(std::string name, Layer<S> head, const std::string& after = "") {
    const Index position = after.empty() ? last_layer() : layer_named(after);
    this->add(std::move(name), std::move(head));
    heads_.push_back({this->size() - 1, position});
    return *this;
  }

  /// The main output alone.
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");
    for (Index i = 0; i < this->size(); ++i) {
      if (!is_head(i)) x = forward_child(i, std::move(x), tape);
    }
    return x;
  }

  /// After forward: dy by the main output.
  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    for (Index i = this->size(); i-- > 0;) {
      if (!is_head(i)) dy = backward_child(i, std::move(dy), tape);
    }
    return dy;
  }

  /// The main output, then those of the heads in the order of adding.
  std::vector<Tensor<S>> forward_all(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");
    std::vector<Tensor<S>> outputs(1 + heads_.size());
    for (Index i = 0; i < this->size(); ++i) {
      if (is_head(i)) continue;
      x = forward_child(i, std::move(x), tape);
      const bool wanted = tape.input_gradient();
      for (std::size_t h = 0; h < heads_.size(); ++h) {
        if (heads_[h].after != i) continue;
        tape.set_input_gradient(wanted);
        outputs[1 + h] = forward_child(heads_[h].at, x, tape);
      }
      tape.set_input_gradient(wanted);
    }
    outputs[0] = std::move(x);
    return outputs;
  }

  /// After forward_all: the gradients by its outputs. Throws Error for another number of them.
  Tensor<S> backward_all(std::vector<Tensor<S>> gradients, Tape<S>& tape) {
    if (gradients.size() != 1 + heads_.size()) {
      tape.fail("Trunk", "expected ", 1 + heads_.size(), " output gradients, got ", gradients.size());
    }
    auto scope = tape.scope("");
    Tensor<S> dy = std::move(gradients[0]);
    for (Index i = this->size(); i-- > 0;) {
      if (is_head(i)) continue;
      std::vector<Tensor<S>> ways{std::move(dy)};
      for (std::size_t h = heads_.size(); h-- > 0;) {
        if (heads_[h].after == i) ways.push_back(backward_child(heads_[h].at, std::move(gradients[1 + h]), tape));
      }
      dy = backward_child(i, detail::sum_of_fork(std::move(ways), "Trunk", tape), tape);
    }
    return dy;
  }

  bool samplewise() const { return this->all_samplewise(); }

  /// The main output for prediction only; without the heads.
  Layer<S> inference() const {
    Sequential<S> main;
    for (Index i = 0; i < this->size(); ++i) {
      if (!is_head(i)) main.add(this->name(i), (*this)[i]);
    }
    return main.fused();
  }

  /// The same structure, each layer and head replaced by what `f` makes of it.
  template <typename T, typename F>
  Trunk<T> transformed(F&& f) const {
    Trunk<T> result;
    for (Index i = 0; i < this->size(); ++i) result.add(this->name(i), f((*this)[i]));
    for (const Head& head : heads_) result.heads_.push_back({head.at, head.after});
    return result;
  }

 private:
  template <typename> friend class Trunk;

  struct Head {
    Index at, after;  // the positions of the head and of the layer it is added to
  };

  bool is_head(Index i) const {
    return std::any_of(heads_.begin(), heads_.end(), [&](const Head& head) { return head.at == i; });
  }

  Index last_layer() const {
    Index i = this->size() - 1;
    while (i >= 0 && is_head(i)) --i;
    if (i < 0) fail("Trunk", "expected a layer to add a head to, got none");
    return i;
  }

  Index layer_named(const std::string& name) const {
    for (Index i = 0; i < this->size(); ++i) {
      if (!is_head(i) && this->name(i) == name) return i;
    }
    fail("Trunk", "there is no layer named '", name, "' to add a head to");
  }

  Tensor<S> forward_child(Index i, Tensor<S> x, Tape<S>& tape) const {
    return residua::forward((*this)[i], this->name(i), std::move(x), tape);
  }
  Tensor<S> backward_child(Index i, Tensor<S> dy, Tape<S>& tape) {
    return residua::backward((*this)[i], this->name(i), std::move(dy), tape);
  }

  std::vector<Head> heads_;
};

}  // namespace residua::inline RESIDUA_ABI
