// One layer beside the function of libtorch that does the same.
#pragma once

#include "peer.hpp"

namespace compare {

enum class Pass {
  forward,    ///< prediction, nothing recorded
  gradients,  ///< those by the input and by all parameters, forward not counted
  training,   ///< forward and gradients
};

/// libtorch's function of an input and the layer's parameters, in their order.
using PeerLayer = std::function<at::Tensor(const at::Tensor& x, const std::vector<at::Tensor>& parameters)>;

/// A layer's passes on our side.
class OurPass {
 public:
  OurPass(Layer<float> layer, const Shape& shape)
      : layer_(std::move(layer)), x_(random_tensor(shape)), dy_(random_tensor(layer_(x_).shape(), 2)),
        parameters_(layer_.parameters()) {}

  const Tensor<float>& x() const { return x_; }
  const Tensor<float>& dy() const { return dy_; }
  const std::vector<ParameterHandle<float>>& parameters() const { return parameters_; }
  Index multiply_adds() const { return layer_.multiply_adds(x_.shape()); }

  Tensor<float> predict() const { return layer_(x_); }

  double run(Pass pass) {
    if (pass == Pass::forward) return seconds([&] { predict(); });
    for (const auto& p : parameters_) p->grad = {};
    Random random(1);
    Tape<float> tape(random);
    const double forward = seconds([&] { y = layer_.forward(x_, tape); });
    const double backward = seconds([&] { dx = layer_.backward(dy_, tape); });
    return pass == Pass::gradients ? backward : forward + backward;
  }

  Tensor<float> y, dx;  ///< of the last run

 private:
  Layer<float> layer_;
  Tensor<float> x_, dy_;
  std::vector<ParameterHandle<float>> parameters_;
};

/// The same on libtorch's, with tensors in one format.
class PeerPass {
 public:
  PeerPass(PeerLayer layer, const OurPass& ours, Format format) : layer_(std::move(layer)) {
    x_ = to_peer(ours.x(), format).requires_grad_();
    dy_ = to_peer(ours.dy(), format);
    inputs_.push_back(x_);
    for (const auto& p : ours.parameters()) {
      parameters_.push_back(to_peer(p->value, format).requires_grad_());
      inputs_.push_back(parameters_.back());
    }
  }

  at::Tensor predict() const {
    const c10::InferenceMode inference;
    return layer_(x_, parameters_);
  }

  double run(Pass pass) {
    if (pass == Pass::forward) return seconds([&] { predict(); });
    double forward = 0;
    if (pass == Pass::training || !y.defined()) forward = seconds([&] { y = layer_(x_, parameters_); });
    const bool keep_graph = pass == Pass::gradients;
    const double backward = seconds([&] { gradients = torch::autograd::grad({y}, inputs_, {dy_}, keep_graph); });
    return pass == Pass::gradients ? backward : forward + backward;
  }

  at::Tensor y;
  torch::autograd::variable_list gradients;  ///< by the input, then by each parameter

 private:
  PeerLayer layer_;
  at::Tensor x_, dy_;
  std::vector<at::Tensor> parameters_, inputs_;
};

/// How far outputs, or gradients, or both are apart.
inline Difference difference(OurPass& ours, PeerPass& peer, Pass pass) {
  if (pass == Pass::forward) return difference(ours.predict(), peer.predict(), output_tolerance);
  ours.run(pass);
  peer.run(pass);
  Difference worst = worse(difference(ours.y, peer.y, output_tolerance),
                           difference(ours.dx, peer.gradients[0], gradient_tolerance));
  for (std::size_t i = 0; i < ours.parameters().size(); ++i) {
    worst = worse(worst, difference(ours.parameters()[i]->grad, peer.gradients[i + 1], gradient_tolerance));
  }
  return worst;
}

/// One pass of a layer on random numbers. Bytes are counted as if every tensor went to memory and back once.
inline Comparison compare_layer(const Layer<float>& layer, const Shape& shape, const PeerLayer& peer, Pass pass) {
  const auto ours = std::make_shared<OurPass>(layer, shape);
  std::vector<std::shared_ptr<PeerPass>> peers;
  Comparison c;
  c.ours = [ours, pass] { return ours->run(pass); };
  for (const Format format : formats(shape)) {
    peers.push_back(std::make_shared<PeerPass>(peer, *ours, format));
    c.peer.push_back({format.name, [side = peers.back(), pass] { return side->run(pass); }});
  }
  c.difference = [=] {
    Difference worst;
    for (const auto& side : peers) worst = worse(worst, difference(*ours, *side, pass));
    return worst;
  };
  Index parameters = 0;
  for (const auto& p : ours->parameters()) parameters += p->value.size();
  const auto forward = static_cast<double>(ours->x().size() + ours->dy().size() + parameters);
  const auto backward = static_cast<double>(2 * ours->x().size() + ours->dy().size() + 2 * parameters);
  const double products = static_cast<double>(ours->multiply_adds()) * 2;
  c.bytes = 4 * (pass == Pass::forward ? forward : pass == Pass::gradients ? backward : forward + backward);
  c.flops = products * (pass == Pass::forward ? 1 : pass == Pass::gradients ? 2 : 3);
  return c;
}

}  // namespace compare
