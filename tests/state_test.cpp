// State: what parts show, under which names, in which order.
#include <concepts>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/blocks/sequential.hpp>
#include <residua/core/random.hpp>
#include <residua/core/state.hpp>
#include <residua/layers/batch_norm.hpp>
#include <residua/layers/conv2d.hpp>
#include <residua/layers/linear.hpp>

#include "errors.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;
using Names = std::vector<std::string>;

Names names(const State& state) {
  Names all;
  for (const StateEntry& entry : state.entries()) all.push_back(entry.name);
  return all;
}

/// All kinds of members.
struct Everything {
  double number = 0.5;
  Index count = -3;
  std::uint64_t bits = 7;
  bool flag = true;
  std::vector<double> list{1, 2, 3};
  Tensor<float> singles{Shape{2, 3}, 1.0f};
  Tensor<double> doubles;
  Parameter<float> like{Tensor<float>(Shape{4, 1, 1, 2}), Layout::convolution};
  Tensor<float> later;
  Random random{11};

  static void visit(auto& self, auto&& v) {
    v("number", self.number);
    v("count", self.count);
    v("bits", self.bits);
    v("flag", self.flag);
    v("list", self.list);
    v("singles", self.singles);
    v("doubles", self.doubles);
    v("later", self.later, self.like);
    v("random", self.random);
  }
};

TEST(State, ShowsEveryKindOfMemberInOrder) {
  Everything part;
  State state;
  state.add("part", part);
  EXPECT_EQ(names(state), (Names{"part/number", "part/count", "part/bits", "part/flag", "part/list", "part/singles",
                                 "part/doubles", "part/later", "part/random.key", "part/random.counter"}));
  const auto entries = state.entries();
  EXPECT_EQ(std::get<double*>(entries[0].value), &part.number);
  EXPECT_EQ(std::get<Index*>(entries[1].value), &part.count);
  EXPECT_EQ(std::get<std::uint64_t*>(entries[2].value), &part.bits);
  EXPECT_EQ(std::get<bool*>(entries[3].value), &part.flag);
  EXPECT_EQ(std::get<std::vector<double>*>(entries[4].value), &part.list);
  EXPECT_EQ(std::get<Tensor<float>*>(entries[5].value), &part.singles);
  EXPECT_EQ(std::get<Tensor<double>*>(entries[6].value), &part.doubles);
  EXPECT_EQ(std::get<Tensor<float>*>(entries[7].value), &part.later);
  EXPECT_EQ(*std::get<std::uint64_t*>(entries[8].value), 11u);
}

TEST(State, TellsWhatATensorMustBeLike) {
  Everything part;
  const auto entries = State().add("", part).entries();
  EXPECT_EQ(entries[5].shape, (Shape{2, 3}));
  EXPECT_FALSE(entries[5].may_be_empty);
  EXPECT_EQ(entries[6].shape, (Shape{0}));
  EXPECT_EQ(entries[7].shape, (Shape{4, 1, 1, 2}));
  EXPECT_EQ(entries[7].layout, Layout::convolution);
  EXPECT_TRUE(entries[7].may_be_empty);
}

TEST(State, IsReadWhenItIsAskedFor) {
  Everything part;
  State state;
  state.add("", part);
  part.singles = Tensor<float>(Shape{5});
  EXPECT_EQ(state.entries()[5].shape, (Shape{5}));
}

TEST(State, GivesANetworkPyTorchsNames) {
  Random random(1);
  Sequential<double> inner, net;
  inner.add("conv", Conv2d<double>({.in_channels = 2, .out_channels = 3, .kernel_size = 3, .bias = false}, random));
  inner.add("bn", BatchNorm<double>({.num_features = 3}));
  net.add("layer1", std::move(inner)).add("fc", Linear<double>({.in_features = 3, .out_features = 2}, random));
  const Names plain{"layer1.conv.weight",    "layer1.bn.weight",      "layer1.bn.bias",
                    "layer1.bn.running_mean", "layer1.bn.running_var", "layer1.bn.num_batches_tracked",
                    "fc.weight",              "fc.bias"};
  EXPECT_EQ(names(State().add("", net)), plain);
  Names named;
  for (const auto& name : plain) named.push_back("net/" + name);
  State state;
  EXPECT_EQ(names(state.add("net", net)), named);
  const auto entries = state.entries();
  EXPECT_EQ(std::get<Tensor<double>*>(entries[0].value), &net.parameters()[0]->value);
  EXPECT_EQ(entries[0].layout, Layout::convolution);
  EXPECT_EQ(entries[5].layout, Layout::count);

  Layer<double> layer = net;
  EXPECT_EQ(names(State().add("", layer)), plain);
}

/// A part with a network of one's own, which has a layer of any kind inside.
struct Model {
  Parameter<float> scale{Tensor<float>(Shape{2}, 1.0f)}, off{};
  Buffer<float> seen{Tensor<float>(Shape{2})};
  Layer<float> head;

  static void visit(auto& self, auto&& v) {
    v("scale", self.scale);
    v("off", self.off);
    v("seen", self.seen);
    v("head", self.head);
  }
};

struct Training {
  Model model;
  std::vector<double> losses;
  static void visit(auto& self, auto&& v) {
    v("model", self.model);
    v("losses", self.losses);
  }
};

TEST(State, ShowsWhatIsInside) {
  Random random(1);
  Training run{{.head = Linear<float>({.in_features = 2, .out_features = 2}, random)}, {}};
  EXPECT_EQ(names(State().add("run", run)), (Names{"run/model.scale", "run/model.seen", "run/model.head.weight",
                                                   "run/model.head.bias", "run/losses"}));
}

TEST(State, KeepsItsPartsApart) {
  Random a(1), b(2);
  State state;
  EXPECT_TRUE(state.entries().empty());
  state.add("a", a).add("", b);
  EXPECT_EQ(names(state), (Names{"a/key", "a/counter", "key", "counter"}));
  EXPECT_EQ(message([&] { state.add("a", b); }), "State: expected parts of different names, got two named 'a'");
  EXPECT_EQ(message([&] { state.add("", b); }), "State: expected parts of different names, got two named ''");
  EXPECT_EQ(message([&] { state.add("b/c", b); }), "State: expected a name without a slash, got 'b/c'");
  EXPECT_EQ(names(state).size(), 4u);
}

template <typename T>
concept Addable = requires(State state, T& part) { state.add("part", part); };

TEST(State, TakesNothingThatCannotBeWrittenTo) {
  EXPECT_TRUE(Addable<Random>);
  EXPECT_FALSE(Addable<const Random>);
}

}  // namespace
