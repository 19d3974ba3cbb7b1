// Norms, pooling, activations and the loss of a classifier: forward and backward as in training.
#include "cases.hpp"
#include "layer_pass.hpp"

namespace compare {

namespace {

Case training(const std::string& name, const Shape& shape, const Layer<float>& layer, const PeerLayer& peer) {
  std::string sizes;
  for (Index axis = 0; axis < shape.rank(); ++axis) sizes += (axis > 0 ? "x" : "/") + std::to_string(shape[axis]);
  return {name + sizes + "/training", [=] { return compare_layer(layer, shape, peer, Pass::training); }};
}

Case batch_norm(const Shape& shape) {
  const auto mean = at::zeros(shape[-1]), var = at::ones(shape[-1]);
  return training("batch_norm", shape, BatchNorm<float>({.num_features = shape[-1]}),
                  [=](const at::Tensor& x, const auto& p) {
                    return at::batch_norm(x, p[0], p[1], mean, var, true, 0.1, 1e-5, false);
                  });
}

/// The loss and the gradient by the logits.
Comparison compare_cross_entropy(Index rows, Index classes) {
  const Tensor<float> logits = random_tensor({rows, classes});
  const std::vector<Index> labels = random_labels(rows, classes);
  const at::Tensor x = to_peer(logits).requires_grad_(), target = to_peer(labels);
  const auto ours = [=] { return cross_entropy(logits, labels); };
  const auto peer = [=] {
    const at::Tensor loss = at::cross_entropy_loss(x, target);
    return std::pair(loss, torch::autograd::grad({loss}, {x})[0]);
  };
  Comparison c;
  c.ours = [=] { return seconds(ours); };
  c.peer.push_back({contiguous.name, [=] { return seconds(peer); }});
  c.difference = [=] {
    const auto [loss, gradient] = peer();
    return worse(difference(ours().value, loss.template item<double>(), output_tolerance),
                 difference(ours().gradient, gradient, gradient_tolerance));
  };
  c.bytes = 4.0 * 2 * static_cast<double>(logits.size());
  return c;
}

}  // namespace

std::vector<Case> layer_cases() {
  const Shape activations{8, 56, 56, 256}, logits{4096, 1000};
  return {
      batch_norm({8, 56, 56, 64}),
      training("layer_norm", {4096, 768}, LayerNorm<float>({.normalized_shape = {768}}),
               [](const at::Tensor& x, const auto& p) { return at::layer_norm(x, {768}, p[0], p[1]); }),
      training("group_norm32", {8, 28, 28, 256}, GroupNorm<float>({.num_groups = 32, .num_channels = 256}),
               [](const at::Tensor& x, const auto& p) { return at::group_norm(x, 32, p[0], p[1]); }),
      training("max_pool3x3s2", {8, 112, 112, 64}, MaxPool2d<float>({.kernel_size = 3, .stride = 2, .padding = 1}),
               [](const at::Tensor& x, const auto&) { return at::max_pool2d(x, 3, 2, 1); }),
      training("global_avg_pool", {8, 7, 7, 2048}, GlobalAvgPool2d<float>(),
               [](const at::Tensor& x, const auto&) { return at::adaptive_avg_pool2d(x, {1, 1}).flatten(1); }),
      training("relu", activations, ReLU<float>(), [](const at::Tensor& x, const auto&) { return at::relu(x); }),
      training("gelu", activations, GELU<float>(), [](const at::Tensor& x, const auto&) { return at::gelu(x); }),
      training("softmax", logits, Softmax<float>(),
               [](const at::Tensor& x, const auto&) { return at::softmax(x, -1); }),
      {"cross_entropy/4096x1000/training", [] { return compare_cross_entropy(4096, 1000); }},
  };
}

}  // namespace compare
