// save_weights and load_weights: names, layouts, precisions, shards; and networks that stay as they were.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/blocks/convert.hpp>
#include <residua/io/state_tensors.hpp>
#include <residua/io/weights.hpp>

#include "errors.hpp"
#include "io/folder.hpp"
#include "small_net.hpp"

namespace {

using namespace residua;

class Weights : public InFolder {
 protected:
  static Sequential<float> trained(std::uint64_t seed = 1) {
    auto net = small_net::make<float>(seed);
    for (auto& [name, b] : net.named_buffers()) b->value.array() += 2;
    return net;
  }
  template <typename Net>
  void expect_refused(Net& net, const std::string& file, const std::vector<std::string>& parts, LoadOptions options = {}) {
    const auto before = small_net::state<float>(net);
    const std::string text = message([&] { load_weights(net, path(file), options); });
    for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << "\nin: " << text;
    small_net::expect_same(small_net::state<float>(net), before);
  }
};

TEST_F(Weights, ComeBackBitForBit) {
  const auto saved = trained(1);
  auto loaded = small_net::make<float>(2);
  save_weights(saved, path("a.safetensors"));
  const LoadReport report = load_weights(loaded, path("a.safetensors"));
  EXPECT_TRUE(report.missing.empty() && report.unexpected.empty());
  auto copy = saved;
  small_net::expect_same(small_net::state<float>(loaded), small_net::state<float>(copy));
  save_weights(loaded, path("b.safetensors"));
  EXPECT_EQ(content(path("a.safetensors")), content(path("b.safetensors")));
}

TEST_F(Weights, StandInPyTorchsOrder) {
  Random rng(1);
  Sequential<float> net;
  net.add("conv", Conv2d<float>({.in_channels = 4, .out_channels = 6, .kernel_size = {3, 2}, .groups = 2}, rng));
  net.add("norm", LayerNorm<float>({2, 3, 6}));
  save_weights(net, path("a"));
  const SafetensorsFile file(path("a"));
  EXPECT_EQ(file.find("conv.weight")->shape, (Shape{6, 2, 3, 2}));
  EXPECT_EQ(file.find("norm.weight")->shape, (Shape{6, 2, 3}));
  const auto& weight = net.get<Conv2d<float>>("conv").weight.value;  // (K, R, S, C)
  EXPECT_EQ(file.read<float>(*file.find("conv.weight"))(5, 1, 2, 0), weight(5, 2, 0, 1));
}

TEST_F(Weights, OfOtherPrecisionsAreConverted) {
  const auto single = trained();
  auto twice = convert<double>(single);
  save_weights(single, path("float"));
  for (auto& p : twice.parameters()) p->value.array() = 0;
  load_weights(twice, path("float"));
  auto expected = convert<double>(single);
  small_net::expect_same(small_net::state<double>(twice), small_net::state<double>(expected));

  auto back = small_net::make<float>(3);
  save_weights(twice, path("double"));
  load_weights(back, path("double"));
  auto copy = single;
  small_net::expect_same(small_net::state<float>(back), small_net::state<float>(copy));

  // A half-precision file.
  Random none = Random::none();
  Linear<float> linear({.in_features = 2, .out_features = 1}, none);
  const std::uint16_t halves[] = {0x3C00, 0xC000, 0x3800};  // 1, −2, 0.5
  const auto piece = [&](std::size_t first, std::size_t count) {
    return [&, first, count](const ByteSink& sink) { sink(std::as_bytes(std::span(halves).subspan(first, count))); };
  };
  const TensorToWrite tensors[] = {{"weight", Dtype::F16, {1, 2}, piece(0, 2)}, {"bias", Dtype::F16, {1}, piece(2, 1)}};
  write_safetensors(path("half"), tensors);
  load_weights(linear, path("half"));
  EXPECT_EQ(linear.weight.value(0, 0), 1);
  EXPECT_EQ(linear.weight.value(0, 1), -2);
  EXPECT_EQ(linear.bias.value(0), 0.5f);
}

TEST_F(Weights, OfAnotherNetworkAreRefusedAllNamesAtOnce) {
  Random rng(1);
  Sequential<float> other;
  other.add("stem", small_net::conv_bn<float>(3, 9, 3, 1, rng)).add("head", Linear<float>({2, 2}, rng));
  save_weights(trained(), path("a"));
  expect_refused(other, "a", {path("a") + ": expected the weights of this network, got others; missing: head.weight, head.bias; "
                              "unexpected: fc.bias, fc.weight, layer1.0.branch.0.bn.bias",
                              "of another shape: stem.conv.weight (expected [9, 3, 3, 3], got [8, 3, 3, 3]), stem.bn.weight"});
  expect_refused(other, "a", {"of another shape: stem.conv.weight"}, {.strict = false});
}

TEST_F(Weights, LoadWhatIsThereWhereNotStrict) {
  auto whole = trained(1), part = small_net::make<float>(2);
  const auto head = part.named_parameters().back().second->value;
  save_weights(whole, path("a"));
  const auto without_head = [](const std::string& name) { return name.starts_with("fc.") ? std::string() : name; };
  const LoadReport report = load_weights(part, path("a"), {.strict = false, .rename = without_head});
  EXPECT_EQ(report.missing, (std::vector<std::string>{"fc.weight", "fc.bias"}));
  EXPECT_TRUE(report.unexpected.empty());
  EXPECT_EQ(part.named_parameters().back().second->value, head);
  EXPECT_EQ(part.named_parameters()[0].second->value, whole.named_parameters()[0].second->value);
  expect_refused(part, "a", {"missing: fc.weight, fc.bias"}, {.rename = without_head});
}

/// A network inside another, as PyTorch's DistributedDataParallel has it.
struct Wrapped {
  using Scalar = float;
  Sequential<float> module = small_net::make<float>(1);
  Tensor<float> forward(Tensor<float> x, Tape<float>& tape) const { return module.forward(std::move(x), tape); }
  static void visit(auto& self, auto&& v) { v("module", self.module); }
};

TEST_F(Weights, UnderAPrefixOrOtherNames) {
  Wrapped wrapped;
  auto net = small_net::make<float>(2);
  save_weights(wrapped, path("a"));
  expect_refused(net, "a", {"unexpected: module.fc.bias"});
  load_weights(net, path("a"), {.prefix = "module."});
  small_net::expect_same(small_net::state<float>(net), small_net::state<float>(wrapped.module));
  expect_refused(net, "a", {"expected names that stay different, got 'same' for both 'module."},
                 {.rename = [](const std::string&) { return std::string("same"); }});
}

TEST_F(Weights, FromOldFilesHaveNoCountOfBatches) {
  auto net = trained(1), loaded = small_net::make<float>(2);
  State state;
  state.add("", net);
  std::vector<TensorToWrite> tensors;
  for (const StateEntry& entry : state.entries()) {
    if (!entry.name.ends_with("num_batches_tracked")) tensors.push_back(detail::tensor_of(entry));
  }
  write_safetensors(path("old"), tensors);
  load_weights(loaded, path("old"));
  EXPECT_EQ(loaded.named_parameters()[0].second->value, net.named_parameters()[0].second->value);
}

/// One layer under two names.
struct Tied {
  using Scalar = float;
  Linear<float> layer;
  explicit Tied(Random rng = Random(4)) : layer({.in_features = 2, .out_features = 2}, rng) {}
  Tensor<float> forward(Tensor<float> x, Tape<float>& tape) const { return layer.forward(std::move(x), tape); }
  static void visit(auto& self, auto&& v) {
    v("encoder", self.layer);
    v("decoder", self.layer);
  }
};

TEST_F(Weights, OfALayerWithTwoNamesAreSavedOnce) {
  Tied saved, loaded;
  loaded.layer.weight.value.array() = 0;
  save_weights(saved, path("a"));
  const SafetensorsFile file(path("a"));
  EXPECT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(named_parameters<float>(saved).size(), 2u);
  EXPECT_EQ(file.metadata().at("decoder.weight"), "encoder.weight");
  load_weights(loaded, path("a"));
  EXPECT_EQ(loaded.layer.weight.value, saved.layer.weight.value);

  // A file that has both, as torch.save makes, is one too.
  const TensorToWrite both[] = {to_write("encoder.weight", saved.layer.weight.value), to_write("encoder.bias", saved.layer.bias.value),
                                to_write("decoder.weight", saved.layer.weight.value), to_write("decoder.bias", saved.layer.bias.value)};
  write_safetensors(path("b"), both);
  load_weights(loaded, path("b"));
}

TEST_F(Weights, ComeInShards) {
  auto net = trained(1), loaded = small_net::make<float>(2);
  State state;
  state.add("", net);
  std::vector<TensorToWrite> parts[2];
  std::string map;
  int i = 0;
  for (const StateEntry& entry : state.entries()) {
    map += (map.empty() ? "" : ",") + ("\"" + entry.name) + "\":\"part-" + std::to_string(i % 2) + ".safetensors\"";
    parts[i++ % 2].push_back(detail::tensor_of(entry));
  }
  write_safetensors(path("part-0.safetensors"), parts[0]);
  write_safetensors(path("part-1.safetensors"), parts[1]);
  put(path("model.safetensors.index.json"), " {\"metadata\":{\"total_size\":1,\"of\":[1,{\"a\":null}]},\"weight_map\":{" + map + "}}");
  load_weights(loaded, path("model.safetensors.index.json"));
  small_net::expect_same(small_net::state<float>(loaded), small_net::state<float>(net));

  std::filesystem::remove(path("part-1.safetensors"));
  expect_refused(loaded, "model.safetensors.index.json", {path("part-1.safetensors") + ": could not open: No such file"});
  const auto index = [&](const std::string& text) { put(path("bad.json"), text); };
  index("{\"weight_map\":{\"a\":\"../part-0.safetensors\"}}");
  expect_refused(loaded, "bad.json", {"bad.json: expected shards in the index's own folder, got '../part-0.safetensors'"});
  index("{\"weight_map\":{\"nothing\":\"part-0.safetensors\"}}");
  expect_refused(loaded, "bad.json", {"expected the tensors that the index lists, got '"});
  index("{\"weight_map\":{\"a\":1}}");
  expect_refused(loaded, "bad.json", {"bad.json: expected the name of a file for 'a', got 1"});
  index("{\"weight_map\":{\"a\":{}}}");
  expect_refused(loaded, "bad.json", {"bad.json: expected the name of a file for 'a', got an object"});
  index("{\"weight_map\":[\"a\"]}");
  expect_refused(loaded, "bad.json", {"bad.json: expected an object as weight_map, got an array"});
  index("{\"weight_map\":{\"a\":\"b\",\"a\":\"c\"}}");
  expect_refused(loaded, "bad.json", {"bad.json: expected names once, got 'a' twice"});
  index("{\"weight_map\":");
  expect_refused(loaded, "bad.json", {"bad.json: expected an index of well-formed JSON, got one that is not: "});
  index("{\"metadata\":{\"weight_map\":{\"a\":\"b\"}}}");
  expect_refused(loaded, "bad.json", {"bad.json: expected an index with a weight_map, got none"});
  index(std::string(100'000, '['));
  expect_refused(loaded, "bad.json", {"bad.json: expected an index of well-formed JSON, got one that is not: "});
  expect_refused(loaded, "nowhere.json", {"nowhere.json: could not open: No such file"});
}

TEST_F(Weights, CannotBeWrittenIntoNoFolder) {
  EXPECT_EQ(message([&] { save_weights(trained(), path("nowhere/a")); }),
            path("nowhere/a") + ": could not open its folder: No such file or directory");
}

}  // namespace
