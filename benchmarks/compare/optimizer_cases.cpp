// One step of an optimizer over the parameters of ResNet-50, 25.6 million numbers.
#include "cases.hpp"
#include "peer.hpp"

#include <residua/models/resnet.hpp>

namespace compare {

namespace {

/// The same parameters and gradients on both sides.
struct Parameters {
  Sequential<float> net;
  std::vector<ParameterHandle<float>> ours;
  std::vector<at::Tensor> peer;
  Index count = 0;

  explicit Parameters(Random random) : net(resnet50<float>({}, random)), ours(net.parameters()) {
    for (const auto& p : ours) {
      p->grad = random_tensor(p->value.shape());
      peer.push_back(to_peer(p->value).requires_grad_());
      peer.back().mutable_grad() = to_peer(p->grad);
      count += p->value.size();
    }
  }
};

/// `passes`: how often a step reads or writes a number for each parameter.
template <typename Ours, typename Peer, typename OurOptions, typename PeerOptions>
Comparison compare_steps(const OurOptions& our_options, const PeerOptions& peer_options, int passes) {
  const auto parameters = std::make_shared<Parameters>(Random(1));
  const auto ours = std::make_shared<Ours>(parameters->ours, our_options);
  const auto peer = std::make_shared<Peer>(parameters->peer, peer_options);
  Comparison c;
  c.ours = [=] { return seconds([&] { ours->step(); }); };
  c.peer.push_back({contiguous.name, [=] { return seconds([&] { peer->step(); }); }});
  c.difference = [=] {
    Difference worst;
    for (int step = 0; step < 2; ++step) {
      ours->step();
      peer->step();
    }
    for (std::size_t i = 0; i < parameters->ours.size(); ++i) {
      worst = worse(worst, difference(parameters->ours[i]->value, parameters->peer[i], output_tolerance));
    }
    return worst;
  };
  c.bytes = 4.0 * passes * static_cast<double>(parameters->count);
  return c;
}

}  // namespace

std::vector<Case> optimizer_cases() {
  return {
      {"sgd_momentum/resnet50/step", [] {
        return compare_steps<SGD<float>, torch::optim::SGD>(
            SGDOptions{.lr = 1e-3, .momentum = 0.9}, torch::optim::SGDOptions(1e-3).momentum(0.9), 5);
      }},
      {"adamw/resnet50/step", [] {
        return compare_steps<AdamW<float>, torch::optim::AdamW>(AdamWOptions{}, torch::optim::AdamWOptions(), 7);
      }},
  };
}

}  // namespace compare
