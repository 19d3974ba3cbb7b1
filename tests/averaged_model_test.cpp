// AveragedModel: what it averages, what it shows, bad input. Its numbers are in golden_optim_test.
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/blocks/sequential.hpp>
#include <residua/core/state.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/linear.hpp>
#include <residua/optim/averaged_model.hpp>

#include "errors.hpp"

namespace {

using namespace residua;
using Names = std::vector<std::string>;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Linear and norm: four parameters, and buffers.
Sequential<double> small_net(std::uint64_t seed = 1) {
  Random random(seed);
  Sequential<double> net;
  net.add("fc", Linear<double>({.in_features = 3, .out_features = 2}, random));
  net.add("bn", BatchNorm<double>({.num_features = 2}));
  return net;
}

/// Gives every parameter and running statistic of a network one value, and the count another.
void fill(Sequential<double>& net, double value, double count) {
  for (auto& p : net.parameters()) p->value = Tensor<double>(p->value.shape(), value);
  for (auto& [name, b] : net.named_buffers()) {
    b->value = Tensor<double>(b->value.shape(), b->layout == Layout::count ? count : value);
  }
}

void expect_filled(Sequential<double>& net, double parameters, double buffers, double count) {
  for (auto& p : net.parameters()) EXPECT_EQ(p->value, Tensor<double>(p->value.shape(), parameters));
  for (auto& [name, b] : net.named_buffers()) {
    EXPECT_EQ(b->value, Tensor<double>(b->value.shape(), b->layout == Layout::count ? count : buffers)) << name;
  }
}

TEST(AveragedModel, MovesTowardsTheNetwork) {
  auto net = small_net();
  AveragedModel exponential(net, {.decay = 0.75}), equal(net), with_buffers(net, {.decay = 0.75, .use_buffers = true});
  const auto update = [&](double value, double count) {
    fill(net, value, count);
    exponential.update(net);
    equal.update(net);
    with_buffers.update(net);
  };
  update(8, 1);
  expect_filled(exponential.module, 8, 8, 1);
  update(4, 2);
  expect_filled(exponential.module, 7, 4, 2);
  expect_filled(with_buffers.module, 7, 7, 2);
  expect_filled(equal.module, 6, 4, 2);
  update(0, 3);
  expect_filled(equal.module, 4, 0, 3);
  EXPECT_EQ(equal.n_averaged(), 3);
  expect_filled(net, 0, 0, 3);
}

TEST(AveragedModel, SharesNoMemoryWithTheNetwork) {
  auto net = small_net();
  AveragedModel average(net);
  average.update(net);
  average.update(net);
  for (auto& p : net.parameters()) EXPECT_TRUE(p->value.unique());
  for (auto& [name, b] : net.named_buffers()) EXPECT_TRUE(b->value.unique()) << name;
}

/// The names of all that an average shows.
Names names(auto& average) {
  Names all;
  for (const StateEntry& entry : State().add("average", average).entries()) all.push_back(entry.name);
  return all;
}

/// A network of one's own, without what the library's have.
template <typename S>
struct Own {
  Parameter<S> a{Tensor<S>(Shape{2}, S(1))};
  static void visit(auto& self, auto&& v) { v("a", self.a); }
};

TEST(AveragedModel, TakesANetworkOfOnesOwn) {
  Own<float> net;
  AveragedModel average(net, {.decay = 0.5});
  average.update(net);
  net.a.value = Tensor<float>(Shape{2}, 3.0f);
  average.update(net);
  EXPECT_EQ(average.module.a.value, Tensor<float>(Shape{2}, 2.0f));
  EXPECT_EQ(names(average), (Names{"average/n_averaged", "average/module.a"}));
}

TEST(AveragedModel, ShowsItsState) {
  auto net = small_net();
  AveragedModel average(net);
  EXPECT_EQ(names(average), (Names{"average/n_averaged", "average/module.fc.weight", "average/module.fc.bias",
                                   "average/module.bn.weight", "average/module.bn.bias",
                                   "average/module.bn.running_mean", "average/module.bn.running_var",
                                   "average/module.bn.num_batches_tracked"}));
}

TEST(AveragedModel, TellsWhatIsWrong) {
  auto net = small_net();
  for (double decay : {-0.1, 1.5, nan}) {
    expect_error([&] { AveragedModel(net, {.decay = decay}); }, "AveragedModel: expected decay from 0 to 1, got ");
  }
  AveragedModel average(net);
  fill(average.module, 5, 5);
  Random random(1);
  auto longer = small_net(), wider = small_net(), other = small_net();
  longer.add("fc2", Linear<double>({.in_features = 2, .out_features = 2}, random));
  wider.parameters()[3]->value = Tensor<double>(Shape{3});
  Sequential<double> renamed;
  renamed.add("fc", other.get<Linear<double>>("fc")).add("norm", other.get<BatchNorm<double>>("bn"));
  EXPECT_EQ(message([&] { average.update(longer); }), "AveragedModel: expected 4 parameters or buffers, got 6");
  EXPECT_EQ(message([&] { average.update(wider); }),
            "AveragedModel: expected 'bn.bias' of shape [2], got 'bn.bias' of shape [3]");
  EXPECT_EQ(message([&] { average.update(renamed); }),
            "AveragedModel: expected 'bn.weight' of shape [2], got 'norm.weight' of shape [2]");
  expect_filled(average.module, 5, 5, 5);
  EXPECT_EQ(average.n_averaged(), 0);
}

}  // namespace
