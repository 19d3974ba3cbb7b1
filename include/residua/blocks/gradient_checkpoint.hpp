// Checkpoint: a layer that is run again in backward, instead of keeping what happened inside it.
#pragma once

#include <cmath>
#include <utility>

#include <residua/blocks/sequential.hpp>
#include <residua/core/layer.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = layer(x). Between forward and backward only x is kept, and where the random numbers were; backward runs the layer
/// again, then its backward: less memory for one more forward.
///
///     net.add("features", Checkpoint<float>(features));
///
/// Gradients, running statistics and what is drawn are the same, bit for bit, as without. In paths it adds nothing to its
/// layer's, so files of weights fit with and without. Where nothing is recorded it is the layer itself.
///
/// Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost" (2016).
template <typename S>
class Checkpoint : public Network<Checkpoint<S>, S> {
 public:
  Layer<S> layer;

  explicit Checkpoint(Layer<S> run_again) : layer(std::move(run_again)) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    if (!tape.recording()) return layer.forward(std::move(x), tape);
    auto scope = tape.scope("");
    const auto start = tape.start();
    Tensor<S> y = tape.without_recording([&] { return layer.forward(x, tape); });
    // What is trainable inside makes the gradient by y wanted, and not the one by x.
    const bool wanted = tape.input_gradient();
    tape.set_input_gradient(start.input_gradient);
    tape.push_for(wanted, std::move(x), start);
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    auto [kept, start] = tape.template pop<Tensor<S>, typename Tape<S>::Start>();
    tape.again(start, [&, x = std::move(kept)]() mutable { return layer.forward(std::move(x), tape); });
    return layer.backward(std::move(dy), tape);
  }

  Layer<S> inference() const { return layer.inference(); }
  Index multiply_adds(const Shape& input) const { return layer.multiply_adds(input); }
  bool samplewise() const { return layer.samplewise(); }

  static void visit(auto& self, auto&& v) { v("", self.layer); }
};

/// The same layers, in groups one after another, each a Checkpoint; names stay as they are. Without `segments` there are
/// about √n of them for n layers: then memory grows with √n, as both the inputs that are kept and the layers that are
/// run again at a time are about √n. Throws Error for a number of segments below 0 or above n.
///
///     Sequential<float> stage = checkpointed(std::move(blocks));
template <typename S>
Sequential<S> checkpointed(Sequential<S> layers, Index segments = 0) {
  const Index n = layers.size();
  if (segments < 0 || segments > n) {
    fail("checkpointed", "expected a number of segments from 0 to ", n, " for as many layers, got ", segments);
  }
  if (segments == 0) segments = static_cast<Index>(std::lround(std::sqrt(static_cast<double>(n))));
  Sequential<S> result;
  for (Index segment = 0; segment < segments; ++segment) {
    Sequential<S> group;
    for (Index i = segment * n / segments; i < (segment + 1) * n / segments; ++i) {
      group.add(layers.name(i), std::move(layers[i]));
    }
    result.add("", Checkpoint<S>(std::move(group)));
  }
  return result;
}

}  // namespace residua::inline RESIDUA_ABI
