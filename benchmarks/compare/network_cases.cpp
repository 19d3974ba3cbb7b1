// Whole networks: training steps and predictions.
#include <filesystem>

#include "cases.hpp"
#include "networks.hpp"

namespace compare {

namespace {

/// The network with the weights of the file.
Sequential<float> our_network(const NetworkKind& kind, const std::string& file) {
  Random none = Random::none();
  Sequential<float> net = kind.make(none);
  copy_weights(torch::jit::load(file), net);
  return net;
}

/// Forward, cross-entropy, backward, SGD with momentum, gradients forgotten. What is compared is the first loss.
Comparison compare_step(const NetworkKind& kind, const std::string& file) {
  const Shape images = kind.images(kind.batch);
  const auto ours = std::make_shared<OurTraining>(our_network(kind, file), images, kind.classes);
  std::vector<std::shared_ptr<PeerTraining>> peers;
  Comparison c;
  c.ours = [ours] { return seconds([&] { ours->step(); }); };
  for (const Format format : formats(images)) {
    peers.push_back(std::make_shared<PeerTraining>(file, images, kind.classes, format));
    c.peer.push_back({format.name, [peer = peers.back()] { return seconds([&] { peer->step(); }); }});
  }
  c.difference = [=] {
    const double loss = ours->step();
    Difference worst;
    for (const auto& peer : peers) worst = worse(worst, difference(loss, peer->step(), network_tolerance));
    return worst;
  };
  return c;
}

/// What both sides make of a batch when they predict: net(x), or the forms that are for prediction only.
Comparison compare_prediction(const NetworkKind& kind, const std::string& file, Index batch, bool optimized) {
  const Tensor<float> x = random_tensor(kind.images(batch));
  const auto net = std::make_shared<Sequential<float>>(our_network(kind, file));
  const std::shared_ptr<const Layer<float>> fast = std::make_shared<Layer<float>>(inference(*net));
  const auto ours = [=] { return optimized ? (*fast)(x) : (*net)(x); };
  Comparison c;
  c.ours = [=] { return seconds([&] { ours(); }); };
  std::vector<std::function<at::Tensor()>> peers;
  for (const Format format : formats(x.shape())) {
    torch::jit::Module module = load_peer(file, format);
    module.eval();
    if (optimized) module = torch::jit::optimize_for_inference(module = torch::jit::freeze(module));
    peers.push_back([module, images = to_peer(x, format)]() mutable {
      const c10::InferenceMode inference_mode;
      return module.forward({images}).toTensor();
    });
    c.peer.push_back({format.name, [peer = peers.back()] { return seconds([&] { peer(); }); }});
  }
  c.difference = [=] {
    Difference worst;
    for (const auto& peer : peers) worst = worse(worst, difference(ours(), peer(), network_tolerance));
    return worst;
  };
  return c;
}

}  // namespace

std::vector<Case> network_cases(const std::string& models) {
  std::vector<Case> cases;
  for (const NetworkKind& kind : network_kinds()) {
    if (std::string(kind.name) == "cifar_resnet56") continue;  // of which only the memory is measured
    const std::string file = kind.file(models), missing = std::filesystem::exists(file) ? "" : file;
    const auto add = [&](Index batch, const char* pass, std::function<Comparison()> make) {
      const std::string side = std::to_string(kind.side);
      const std::string size = '/' + std::to_string(batch) + 'x' + side + 'x' + side + "x3/";
      cases.push_back({kind.name + size + pass, std::move(make), missing});
    };
    add(kind.batch, "step", [=] { return compare_step(kind, file); });
    for (const Index batch : {kind.batch, Index{1}}) {
      add(batch, "forward", [=] { return compare_prediction(kind, file, batch, false); });
    }
    for (const Index batch : {Index{8}, Index{1}}) {
      add(batch, "inference", [=] { return compare_prediction(kind, file, batch, true); });
    }
  }
  return cases;
}

}  // namespace compare
