// Every model against what PyTorch computes with the same weights: names, logits, and a training step.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <sys/wait.h>

#include <gtest/gtest.h>

#include <residua/io/checkpoint.hpp>
#include <residua/io/weights.hpp>
#include <residua/loss/cross_entropy.hpp>
#include <residua/models/by_name.hpp>
#include <residua/optim/sgd.hpp>

#include "temporary_folder.hpp"

namespace {

using namespace residua;
namespace fs = std::filesystem;

const fs::path here = fs::path(__FILE__).parent_path();

/// The models of make_model.py: nothing in them is random in training, and no weights are drawn.
template <typename S>
Layer<S> make(const std::string& name) {
  Random none = Random::none();
  if (name == "cifar_resnet20_b") return cifar_resnet20<S>({.shortcut = Shortcut::projection}, none);
  Layer<S> net = model_named<S>(name, name.starts_with("cifar") ? 10 : 1000, none);
  for_each_layer<Dropout<S>>(net, [](Dropout<S>& layer) { layer.options.p = 0; });
  for_each_layer<DropPath<S>>(net, [](DropPath<S>& layer) { layer.options.p = 0; });
  return net;
}

/// "conv1.weight 64x3x7x7", a line for each tensor of the state_dict, its shape that in files.
std::string state_names(Layer<float>& net) {
  struct Lines : Visitor<float> {
    std::ostringstream text;
    void line(const std::string& path, const Tensor<float>& x, Layout layout) {
      text << path << ' ';
      const Shape shape = file_shape(x.shape(), layout);
      for (Index axis = 0; axis < shape.rank(); ++axis) text << (axis == 0 ? "" : "x") << shape[axis];
      text << '\n';
    }
    void parameter(const std::string& path, Parameter<float>& p) override { line(path, p.value, p.layout); }
    void buffer(const std::string& path, Buffer<float>& b) override { line(path, b.value, b.layout); }
  } lines;
  walk<float>(net, lines);
  return lines.text.str();
}

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t value = 0xCBF29CE484222325u;
  for (char byte : text) value = (value ^ static_cast<unsigned char>(byte)) * 0x100000001B3u;
  return value;
}

/// The first line in which two texts differ.
std::string first_difference(const std::string& got, const std::string& expected) {
  std::istringstream a(got), b(expected);
  for (int number = 1; a || b; ++number) {
    std::string line_a, line_b;
    std::getline(a, line_a);
    std::getline(b, line_b);
    if (line_a != line_b) return "line " + std::to_string(number) + ": got '" + line_a + "', expected '" + line_b + "'";
  }
  return "none";
}

template <typename S>
double largest(const Tensor<S>& x) {
  return static_cast<double>(x.carray().abs().maxCoeff());
}

/// The largest difference, infinite where one is NaN or the shapes differ.
template <typename S>
double difference(const Tensor<S>& a, const Tensor<S>& b) {
  if (a.shape() != b.shape() || !a.carray().allFinite()) return HUGE_VAL;
  return static_cast<double>((a.carray() - b.carray()).abs().maxCoeff());
}

class Zoo : public testing::TestWithParam<std::string> {};

TEST_P(Zoo, HasTheParametersAndNamesOfTheOriginal) {
  std::ifstream list(here / "names.txt");
  std::string model;
  Index parameters = 0;
  std::uint64_t hash = 0;
  while (list >> model >> std::dec >> parameters >> std::hex >> hash && model != GetParam()) continue;
  ASSERT_EQ(model, GetParam()) << "is not in names.txt";
  Layer<float> net = make<float>(model);
  Index count = 0;
  for (const auto& p : net.parameters()) count += p->value.size();
  EXPECT_EQ(count, parameters);
  EXPECT_EQ(fnv1a(state_names(net)), hash) << "names or shapes differ; the next test says which";
}

// --- beside PyTorch ----------------------------------------------------------------------------------------------------

template <typename S>
void check_logits(const Tensor<S>& got, const Tensor<S>& expected, const std::string& what) {
  EXPECT_LE(difference(got, expected), 1e-4 * largest(expected)) << what;
  for (Index n = 0; n < expected.dim(0); ++n) {
    Index a = 0, b = 0;
    got.cmatrix().row(n).maxCoeff(&a);
    expected.cmatrix().row(n).maxCoeff(&b);
    EXPECT_EQ(a, b) << what << ": the class of image " << n;
  }
}

/// Loss = that of the main output + 0.3 · those of the heads; forward and backward.
template <typename S>
double training_step(Layer<S>& net, const Tensor<S>& images, const std::vector<Index>& labels) {
  Random random(1);
  Tape<S> tape(random, {.input_gradient = false});
  auto* trunk = net.template target<Trunk<S>>();
  if (trunk == nullptr) {
    auto loss = cross_entropy(net.forward(images, tape), labels);
    net.backward(std::move(loss.gradient), tape);
    return loss.value;
  }
  double total = 0;
  std::vector<Tensor<S>> gradients;
  for (const Tensor<S>& logits : trunk->forward_all(images, tape)) {
    auto loss = cross_entropy(logits, labels);
    const double share = gradients.empty() ? 1 : 0.3;
    loss.gradient.array() *= static_cast<S>(share);
    total += share * loss.value;
    gradients.push_back(std::move(loss.gradient));
  }
  trunk->backward_all(std::move(gradients), tape);
  return total;
}

void check_training_step(const std::string& model, Layer<float>& net, const fs::path& folder) {
  Layer<double> precise = make<double>(model);
  load_weights(precise, folder / "weights.safetensors");
  const SafetensorsFile step(folder / "step.safetensors");
  const auto x = step.read<double>(*step.find("x"));
  std::vector<Index> labels;
  for (std::int64_t label : step.read<std::int64_t>(*step.find("labels")).carray()) labels.push_back(label);
  EXPECT_NEAR(training_step(precise, x, labels), step.read<double>(*step.find("loss"))(), 1e-10);
  double whole = 0;  // the largest gradient of all: where one is zero but for rounding, it is zero beside that
  for (auto& p : precise.parameters()) whole = std::max(whole, largest(p->grad));
  for (auto& [name, p] : precise.named_parameters()) {
    const auto expected = from_file_layout(step.read<double>(*step.find("grad." + name)), p->layout);
    EXPECT_LE(difference(p->grad, expected), 1e-6 * std::max(largest(expected), 1e-9 * whole)) << name;
  }
  for (auto& [name, b] : precise.named_buffers()) {
    const auto expected = step.read<double>(*step.find("after." + name));
    EXPECT_LE(difference(b->value, expected), 1e-9) << name;
  }

  EXPECT_TRUE(std::isfinite(training_step(net, x.cast<float>(), labels)));
  for (auto& [name, p] : net.named_parameters()) EXPECT_TRUE(p->grad.carray().allFinite()) << name;
}

/// In evaluation, also as made for inference.
template <typename S>
void check_cases(const Layer<S>& net, const SafetensorsFile& cases) {
  const Layer<S> fused = inference(net);
  for (const std::string number : {"0", "1"}) {
    const auto x = cases.read<S>(*cases.find("x" + number)), y = cases.read<S>(*cases.find("y" + number));
    check_logits(net(x), y, "case " + number);
    check_logits(fused(x), y, "case " + number + ", made for inference");
  }
}

void check_beside_pytorch(const std::string& model, const fs::path& folder) {
  SCOPED_TRACE(model);
  Layer<float> net = make<float>(model);
  const std::string names = state_names(net), expected_names = text_of(folder / "names.txt");
  ASSERT_TRUE(names == expected_names) << first_difference(names, expected_names);
  load_weights(net, folder / "weights.safetensors");
  const SafetensorsFile cases(folder / "cases.safetensors");
  if (cases.find("y0")->dtype == Dtype::F64) {
    Layer<double> precise = make<double>(model);
    load_weights(precise, folder / "weights.safetensors");
    check_cases(precise, cases);
  } else {
    check_cases(net, cases);
  }
  // For PyTorch to read: the weights alone, or in a checkpoint.
  if (model.starts_with("cifar")) {
    SGD<float> optimizer(net.parameters(), {.momentum = 0.9});
    State run;
    run.add("", net).add("optimizer", optimizer);
    save_checkpoint(run, folder / "back.safetensors");
  } else {
    save_weights(net, folder / "back.safetensors");
  }
  if (fs::exists(folder / "step.safetensors")) check_training_step(model, net, folder);
}

/// The exit code of make_model.py for these models.
int run_pytorch(const std::string& action, const fs::path& folder, const std::vector<std::string>& models) {
  std::string command = "/usr/bin/python3 -W ignore '" + (here / "make_model.py").string() + "' " + action + " '" +
                        folder.string() + "'";
  for (const std::string& model : models) command += ' ' + model;
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Models that PyTorch is started once for: the small ones together.
class BesidePyTorch : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(BesidePyTorch, ComputesTheSame) {
#ifndef RESIDUA_TEST_WHOLE
  GTEST_SKIP() << "needs RESIDUA_TEST_WHOLE";
#endif
  // Made by the same functions as resnet50 and resnext50_32x4d, at several times their cost.
  static const std::set<std::string> large{"resnet101", "resnet152", "resnext101_32x8d", "wide_resnet50_2"};
  if (large.contains(GetParam()[0]) && std::getenv("RESIDUA_LARGE_MODELS") == nullptr) {
    GTEST_SKIP() << "needs RESIDUA_LARGE_MODELS in the environment: takes minutes";
  }
  const TemporaryFolder folder;
  const int code = run_pytorch("", folder.path, GetParam());
  if (code == 77 || code == 127) GTEST_SKIP() << "needs /usr/bin/python3 with torch and torchvision";
  ASSERT_EQ(code, 0);
  for (const std::string& model : GetParam()) check_beside_pytorch(model, folder.path / model);
  EXPECT_EQ(run_pytorch("back", folder.path, GetParam()), 0) << "what residua wrote is not what PyTorch reads";
}

std::vector<std::string> all_names() {
  std::vector<std::string> names{"cifar_resnet20_b"};
  for (const auto& [name, maker] : models_by_name<float>()) names.push_back(name);
  return names;
}

std::vector<std::vector<std::string>> groups() {
  std::vector<std::vector<std::string>> groups(1);
  for (const std::string& name : all_names()) {
    if (name.starts_with("cifar")) {
      groups[0].push_back(name);
    } else {
      groups.push_back({name});
    }
  }
  return groups;
}

INSTANTIATE_TEST_SUITE_P(Every, Zoo, testing::ValuesIn(all_names()), [](const auto& test) { return test.param; });
INSTANTIATE_TEST_SUITE_P(Every, BesidePyTorch, testing::ValuesIn(groups()), [](const auto& test) {
  return test.param.size() > 1 ? "cifar" : test.param[0];
});

}  // namespace
