// Probes see what is there, by its name, and lr_range_test what a network bears; neither leaves a trace.
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include <residua/blocks/gradient_checkpoint.hpp>
#include <residua/data/data_loader.hpp>
#include <residua/data/textured_shapes.hpp>
#include <residua/models/cifar_resnet.hpp>
#include <residua/train/fit.hpp>
#include <residua/train/lr_range_test.hpp>
#include <residua/train/probes.hpp>

#include "errors.hpp"
#include "small_net.hpp"

namespace {

using namespace residua;
using small_net::SmallBatch;

constexpr auto loss = [](const auto& outputs, const auto& targets) { return cross_entropy(outputs, targets); };

/// What probes saw, each layer once.
template <typename S>
struct Seen {
  std::map<std::string, Tensor<S>> activations, gradients;

  Probes<S> probes() {
    const auto into = [](std::map<std::string, Tensor<S>>& map) {
      return [&map](const std::string& path, const Tensor<S>& values) {
        EXPECT_TRUE(map.emplace(path, values).second) << path << " was seen twice";
      };
    };
    return {.activation = into(activations), .gradient = into(gradients)};
  }
};

template <typename S, typename Net>
Seen<S> seen_in(Net& net, const SmallBatch<S>& batch, TapeOptions options = {}) {
  Seen<S> seen;
  Random random(7);
  Tape<S> tape(random, options);
  tape.observe(seen.probes());
  const auto result = cross_entropy(net.forward(batch.images, tape), batch.labels);
  net.backward(result.gradient, tape);
  return seen;
}

template <typename S>
std::set<std::string> names_of(const std::map<std::string, Tensor<S>>& map) {
  std::set<std::string> names;
  for (const auto& [name, values] : map) names.insert(name);
  return names;
}

// --- names -----------------------------------------------------------------------------------------------------------

TEST(Probes, SeeEveryLayerThatHasParametersByItsName) {
  for (const Order order : {Order::post_activation, Order::pre_activation}) {
    for (const bool checkpoint : {false, true}) {
      Random random(1);
      auto net = cifar_resnet<float>(20, {.num_classes = 5, .shortcut = Shortcut::projection, .order = order, .channels = 4,
                                          .checkpoint = checkpoint}, random);
      const auto seen = seen_in(net, SmallBatch<float>(2));
      for (const auto& [name, p] : net.named_parameters()) {
        const std::string layer = name.substr(0, name.rfind('.'));
        EXPECT_TRUE(seen.activations.contains(layer)) << layer;
        EXPECT_TRUE(seen.gradients.contains(layer)) << layer;
      }
      EXPECT_EQ(names_of(seen.activations), names_of(seen.gradients));
      EXPECT_TRUE(seen.activations.contains("layer1.0"));  // blocks too
    }
  }
}

// --- values ----------------------------------------------------------------------------------------------------------

TEST(Probes, SeeTheActivationsAndGradientsThatThereAre) {
  auto net = small_net::make<double>();
  const SmallBatch<double> batch;
  for (const Mode mode : {Mode::train, Mode::evaluate}) {
    const auto seen = seen_in(net, batch, {.mode = mode});

    // The same layer by layer.
    Random random(7);
    Tape<double> tape(random, {.mode = mode});
    Tensor<double> x = batch.images;
    for (Index i = 0; i < net.size(); ++i) {
      x = residua::forward(net[i], net.name(i), x, tape);
      EXPECT_TRUE(same_bits(seen.activations.at(net.name(i)), x)) << net.name(i);
    }
    Tensor<double> dy = cross_entropy(x, batch.labels).gradient;
    for (Index i = net.size(); i-- > 0;) {
      EXPECT_TRUE(same_bits(seen.gradients.at(net.name(i)), dy)) << net.name(i);
      dy = residua::backward(net[i], net.name(i), dy, tape);
    }
  }
}

TEST(Probes, SeeGradientsThatDifferenceQuotientsConfirm) {
  auto net = small_net::make<double>();
  const SmallBatch<double> batch(3);
  const auto seen = seen_in(net, batch, {.mode = Mode::evaluate});
  Random random(3);
  for (Index layer = 0; layer < net.size(); ++layer) {
    const Tensor<double>& y = seen.activations.at(net.name(layer));
    const Tensor<double>& dy = seen.gradients.at(net.name(layer));
    ASSERT_EQ(dy.shape(), y.shape());
    const auto loss_with = [&](Index element, double step) {
      Tensor<double> x = y;
      x.array()[element] += step;
      Tape<double> tape;
      for (Index i = layer + 1; i < net.size(); ++i) x = net[i].forward(x, tape);
      return cross_entropy(x, batch.labels).value;
    };
    for (int i = 0; i < 10; ++i) {
      const Index element = random.below(y.size());
      const double quotient = (loss_with(element, 1e-6) - loss_with(element, -1e-6)) / 2e-6;
      EXPECT_NEAR(dy.carray()[element], quotient, 1e-8) << net.name(layer) << ", element " << element;
    }
  }
}

TEST(Probes, DoNotSeeWhatNobodyWants) {
  auto net = small_net::make<float>();
  for (auto& [name, p] : net.named_parameters()) p->requires_grad = name.starts_with("fc");
  const auto seen = seen_in(net, SmallBatch<float>(), {.input_gradient = false});
  EXPECT_EQ(names_of(seen.gradients), std::set<std::string>{"fc"});
  EXPECT_TRUE(seen.activations.contains("stem.conv"));
}

// --- traces ----------------------------------------------------------------------------------------------------------

TEST(Probes, ChangeNoBitOfTheTraining) {
  auto watched = small_net::make<float>(), alone = small_net::make<float>();
  const SmallBatch<float> batch;
  const auto seen = seen_in(watched, batch);
  small_net::gradients(alone, batch);
  small_net::expect_same(small_net::all_gradients<float>(watched), small_net::all_gradients<float>(alone));
  small_net::expect_same(small_net::state<float>(watched), small_net::state<float>(alone));
}

TEST(Probes, MayThrowAndTheNetworkStaysUsable) {
  for (const bool checkpoint : {false, true}) {
    for (const bool backward : {false, true}) {
      auto net = checkpoint ? checkpointed(small_net::make<float>(), 3) : small_net::make<float>();
      const auto before = small_net::state<float>(net);
      const SmallBatch<float> batch;
      Random random(7);
      Tape<float> tape(random);
      const auto refuse = [](const std::string& path, const Tensor<float>&) {
        if (path == "layer1.1") throw std::runtime_error(path);
      };
      tape.observe(backward ? Probes<float>{.gradient = refuse} : Probes<float>{.activation = refuse});
      const auto step = [&] {
        const auto result = cross_entropy(net.forward(batch.images, tape), batch.labels);
        net.backward(result.gradient, tape);
      };
      EXPECT_THROW(step(), std::runtime_error);
      EXPECT_EQ(tape.empty(), !backward);  // a forward that throws leaves the tape as it was
      small_net::expect_same(small_net::state<float>(net), before);

      tape.clear();
      tape.observe(nullptr);
      for (auto& p : net.parameters()) p->grad = {};
      auto other = small_net::make<float>();
      step();
      small_net::gradients(other, batch);
      small_net::expect_same(small_net::all_gradients<float>(net), small_net::all_gradients<float>(other));
      small_net::expect_same(small_net::state<float>(net), small_net::state<float>(other));
    }
  }
}

// --- with fit, and before it -----------------------------------------------------------------------------------------

struct Learner {
  Random rng{5};
  Sequential<float> net = cifar_resnet<float>(8, {.channels = 4}, rng);
  DataLoader<float> loader{textured_shapes(32, Random(1)), {.batch_size = 8, .shuffle = true}, Random(3)};
};

TEST(Probes, WatchATrainingByFit) {
  Learner by;
  SGD<float> optimizer(by.net.parameters(), {.lr = 0.01});
  int activations = 0, gradients = 0;
  fit(by.net, optimizer, by.loader, loss, by.rng,
      {.epochs = 2, .observe = Probes<float>{
           .activation = [&](const std::string& path, const Tensor<float>&) { activations += path == "conv1"; },
           .gradient = [&](const std::string& path, const Tensor<float>&) { gradients += path == "conv1"; }}});
  EXPECT_EQ(activations, 8);
  EXPECT_EQ(gradients, 8);
}

TEST(LRRangeTest, RaisesTheRateAndLeavesTheNetworkAsItWas) {
  Learner by;
  const auto before = small_net::state<float>(by.net);
  const auto sgd = [](auto parameters) { return SGD<float>(parameters, {.lr = 1, .momentum = 0.9}); };
  const auto test = [&](LRRangeTestOptions options) {
    return lr_range_test(by.net, sgd, by.loader, loss, by.rng, options);
  };
  const History history = test({.start_lr = 1e-4, .end_lr = 0.01, .num_iter = 9});
  EXPECT_EQ(history.columns(), (std::vector<std::string>{"lr", "loss"}));
  const auto lr = history.column("lr"), losses = history.column("loss");
  ASSERT_EQ(lr.size(), 9u);
  EXPECT_DOUBLE_EQ(lr.front(), 1e-4);
  EXPECT_DOUBLE_EQ(lr.back(), 0.01);
  EXPECT_NEAR(lr[4], 1e-3, 1e-12);
  small_net::expect_same(small_net::state<float>(by.net), before);
  for (auto& p : by.net.parameters()) EXPECT_TRUE(p->grad.empty());
  EXPECT_EQ(test({.start_lr = 1e-4, .end_lr = 0.01, .num_iter = 9}).csv(), history.csv());

  // By hand.
  Random random = by.rng;
  auto net = by.net;
  SGD<float> optimizer(net.parameters(), {.lr = 1, .momentum = 0.9});
  std::size_t step = 0;
  for (Index epoch = 0; step < 9; ++epoch) {
    for (auto [images, labels] : by.loader.epoch(epoch)) {
      if (step == 9) break;
      optimizer.lr(0) = lr[step];
      optimizer.zero_grad();
      Tape<float> tape(random, {.input_gradient = false});
      const auto l = cross_entropy(net.forward(images, tape), labels);
      EXPECT_EQ(l.value, losses[step++]);
      net.backward(l.gradient, tape);
      optimizer.step();
    }
  }
}

TEST(LRRangeTest, EndsWhereTheLossDiverges) {
  Learner by;
  const auto sgd = [](auto parameters) { return SGD<float>(parameters, {.lr = 1}); };
  const History history = lr_range_test(by.net, sgd, by.loader, loss, by.rng,
                                        {.start_lr = 1e-2, .end_lr = 1e6, .num_iter = 50, .diverge_th = 4});
  const auto losses = history.column("loss");
  EXPECT_LT(losses.size(), 50u);
  const double smallest = *std::min_element(losses.begin(), losses.end());
  EXPECT_TRUE(!std::isfinite(losses.back()) || losses.back() > 4 * smallest);
}

TEST(LRRangeTest, TellsWhatIsWrong) {
  Learner by;
  const auto refused = [&](LRRangeTestOptions options) {
    const auto sgd = [](auto parameters) { return SGD<float>(parameters, {.lr = 1}); };
    return message([&] { lr_range_test(by.net, sgd, by.loader, loss, by.rng, options); });
  };
  EXPECT_EQ(refused({.start_lr = 1, .end_lr = 0.1}),
            "lr_range_test: expected learning rates of which 0 < start_lr < end_lr, got 1 and 0.1");
  EXPECT_EQ(refused({.start_lr = 0}), "lr_range_test: expected learning rates of which 0 < start_lr < end_lr, got 0 and 10");
  EXPECT_EQ(refused({.num_iter = 1}), "lr_range_test: expected num_iter of at least 2, got 1");
  EXPECT_EQ(refused({.diverge_th = 1}), "lr_range_test: expected diverge_th above 1, got 1");
}

}  // namespace
