// Every model against what PyTorch computes with the same weights: names, logits, and a training step.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <residua/io/safetensors_file.hpp>
#include <residua/loss/cross_entropy.hpp>

#include "state.hpp"
#include "zoo.hpp"

namespace {

using namespace residua;
namespace fs = std::filesystem;

const fs::path here = fs::path(__FILE__).parent_path();

/// A folder of its own, gone at the end.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "residua_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) fail("Folder", "could not make a folder like ", name);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  fs::path operator/(const std::string& name) const { return path_ / name; }
  std::string string() const { return path_.string(); }

 private:
  fs::path path_;
};

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
  Random none = Random::none();
  Layer<float> net = zoo::models<float>().at(model)(none);
  Index count = 0;
  for (const auto& p : net.parameters()) count += p->value.size();
  EXPECT_EQ(count, parameters);
  EXPECT_EQ(fnv1a(state::names<float>(net)), hash) << "names or shapes differ; the next test says which";
}

// --- beside PyTorch ----------------------------------------------------------------------------------------------------

/// Fills all parameters and buffers from the file, which has no others.
template <typename S>
void load(Layer<S>& net, const fs::path& path) {
  const SafetensorsFile file(path);
  std::set<std::string> unused;
  for (const TensorInfo& info : file.tensors()) unused.insert(info.name);
  state::for_each_tensor<S>(net, [&](const std::string& name, Tensor<S>& x, Layout layout) {
    const TensorInfo* info = file.find(name);
    if (info == nullptr) fail(name, "is not in the file");
    Tensor<S> stored = state::in_memory(file.read<S>(*info), layout);
    if (stored.shape() != x.shape()) fail(name, "expected ", x.shape(), ", found ", stored.shape());
    x = std::move(stored);
    unused.erase(name);
  });
  for (const std::string& name : unused) ADD_FAILURE() << name << " is in the file, but not in the network";
}

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
  Random none = Random::none();
  Layer<double> precise = zoo::models<double>().at(model)(none);
  load(precise, folder / "weights.safetensors");
  const SafetensorsFile step(folder / "step.safetensors");
  const auto x = step.read<double>(*step.find("x"));
  std::vector<Index> labels;
  for (std::int64_t label : step.read<std::int64_t>(*step.find("labels")).carray()) labels.push_back(label);
  EXPECT_NEAR(training_step(precise, x, labels), step.read<double>(*step.find("loss"))(), 1e-10);
  for (auto& [name, p] : precise.named_parameters()) {
    const auto expected = state::in_memory(step.read<double>(*step.find("grad." + name)), p->layout);
    EXPECT_LE(difference(p->grad, expected), 1e-6 * largest(expected)) << name;
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
  Random none = Random::none();
  Layer<float> net = zoo::models<float>().at(model)(none);
  const std::string names = state::names<float>(net), expected_names = text_of(folder / "names.txt");
  ASSERT_TRUE(names == expected_names) << first_difference(names, expected_names);
  load(net, folder / "weights.safetensors");
  const SafetensorsFile cases(folder / "cases.safetensors");
  if (cases.find("y0")->dtype == Dtype::F64) {
    Layer<double> precise = zoo::models<double>().at(model)(none);
    load(precise, folder / "weights.safetensors");
    check_cases(precise, cases);
  } else {
    check_cases(net, cases);
  }
  if (fs::exists(folder / "step.safetensors")) check_training_step(model, net, folder);
}

/// Models that PyTorch is started once for: the small ones together.
class BesidePyTorch : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(BesidePyTorch, ComputesTheSame) {
  const Folder folder;
  std::string command = "/usr/bin/python3 -W ignore '" + (here / "make_model.py").string() + "' '" + folder.string() + "'";
  for (const std::string& model : GetParam()) command += ' ' + model;
  const int status = std::system(command.c_str());
  if (WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 127)) {
    GTEST_SKIP() << "needs /usr/bin/python3 with torch and torchvision";
  }
  ASSERT_EQ(status, 0) << command;
  for (const std::string& model : GetParam()) check_beside_pytorch(model, folder / model);
}

std::vector<std::string> all_names() {
  std::vector<std::string> names;
  for (const auto& [name, make] : zoo::models<float>()) names.push_back(name);
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
