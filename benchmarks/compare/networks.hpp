// Whole networks: ours, and the same as TorchScript files, which script_models.py writes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include <residua/models/cifar_resnet.hpp>
#include <residua/models/convnext.hpp>
#include <residua/models/resnet.hpp>

#include "peer.hpp"

namespace compare {

struct NetworkKind {
  const char* name;    ///< of the file too, with .pt
  Index batch, side;   ///< of the images a training step takes
  Index classes;
  Sequential<float> (*make)(Random& random);

  Shape images(Index count) const { return {count, side, side, 3}; }
  std::string file(const std::string& models) const { return models + '/' + name + ".pt"; }
};

inline const std::vector<NetworkKind>& network_kinds() {
  static const std::vector<NetworkKind> kinds{
      {"cifar_resnet20", 128, 32, 10, [](Random& random) { return cifar_resnet20<float>({}, random); }},
      {"cifar_resnet56", 128, 32, 10, [](Random& random) { return cifar_resnet56<float>({}, random); }},
      {"resnet18", 8, 224, 1000, [](Random& random) { return resnet18<float>({}, random); }},
      {"resnet50", 8, 224, 1000, [](Random& random) { return resnet50<float>({}, random); }},
      {"convnext_tiny", 8, 224, 1000,
       [](Random& random) { return convnext_tiny<float>({.stochastic_depth_prob = 0}, random); }},
  };
  return kinds;
}

/// The network of a file, with its weights in one format.
inline torch::jit::Module load_peer(const std::string& file, Format format) {
  torch::jit::Module module = torch::jit::load(file);
  for (at::Tensor p : module.parameters()) {
    if (p.dim() == 4) p.set_data(p.contiguous(format.memory));
  }
  return module;
}

/// Parameters and buffers by name.
inline void copy_weights(const torch::jit::Module& from, Sequential<float>& to) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& p : from.named_parameters()) tensors[p.name] = p.value;
  for (const auto& b : from.named_buffers()) tensors[b.name] = b.value;
  const auto copy = [&](const auto& named) {
    for (const auto& [name, target] : named) {
      const auto found = tensors.find(name);
      if (found == tensors.end()) fail(name, "expected a tensor of this name in the TorchScript file, found none");
      Tensor<float> value = from_peer(found->second, target->layout);
      if (value.shape() != target->value.shape()) {
        fail(name, "expected the shape ", target->value.shape(), ", got ", value.shape());
      }
      target->value = std::move(value);
    }
  };
  copy(to.named_parameters());
  copy(to.named_buffers());
}

inline constexpr double learning_rate = 1e-3, momentum = 0.9;

/// A training run on one batch; a step returns its loss.
class OurTraining {
 public:
  OurTraining(Sequential<float> net, const Shape& images, Index classes)
      : net_(std::move(net)), optimizer_(net_.parameters(), {.lr = learning_rate, .momentum = momentum}),
        x_(random_tensor(images)), labels_(random_labels(images[0], classes)) {}

  double step() {
    Random random(1);
    Tape<float> tape(random, {.input_gradient = false});
    Loss<float> loss = cross_entropy(net_.forward(x_, tape), labels_);
    net_.backward(std::move(loss.gradient), tape);
    optimizer_.step();
    optimizer_.zero_grad();
    return loss.value;
  }

 private:
  Sequential<float> net_;
  SGD<float> optimizer_;
  Tensor<float> x_;
  std::vector<Index> labels_;
};

/// The same run on libtorch's side.
class PeerTraining {
 public:
  PeerTraining(const std::string& file, const Shape& images, Index classes, Format format)
      : net_(load_peer(file, format)),
        optimizer_(parameters(net_), torch::optim::SGDOptions(learning_rate).momentum(momentum)),
        x_(to_peer(random_tensor(images), format)), labels_(to_peer(random_labels(images[0], classes))) {
    net_.train();
  }

  double step() {
    // Operation by operation, as in Python: what TorchScript makes of a backward pass takes a fifth longer.
    const torch::jit::GraphOptimizerEnabledGuard as_it_is(false);
    const at::Tensor loss = at::cross_entropy_loss(net_.forward({x_}).toTensor(), labels_);
    loss.backward();
    optimizer_.step();
    for (at::Tensor p : net_.parameters()) p.mutable_grad() = at::Tensor();  // zero_grad, with set_to_none
    return loss.item<double>();
  }

 private:
  static std::vector<at::Tensor> parameters(const torch::jit::Module& net) {
    std::vector<at::Tensor> all;
    for (const at::Tensor& p : net.parameters()) all.push_back(p);
    return all;
  }

  torch::jit::Module net_;
  torch::optim::SGD optimizer_;
  at::Tensor x_, labels_;
};

}  // namespace compare
