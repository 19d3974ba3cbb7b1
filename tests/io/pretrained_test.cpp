// Networks that others trained in PyTorch, on real images: the same logits, the same number of them right.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <residua/data/cifar.hpp>
#include <residua/data/data_loader.hpp>
#include <residua/io/weights.hpp>
#include <residua/models/cifar_resnet.hpp>
#include <residua/train/metrics.hpp>

namespace {

using namespace residua;
namespace fs = std::filesystem;

class Pretrained : public testing::TestWithParam<Index> {
 protected:
  void SetUp() override {
    const char* const data = std::getenv("RESIDUA_DATA");
    if (data == nullptr || !fs::exists(fs::path(data) / "pretrained")) {
      GTEST_SKIP() << "needs RESIDUA_DATA with cifar-10-batches-bin and pretrained";
    }
    folder_ = data;
  }
  fs::path folder_;
};

TEST_P(Pretrained, NamesAsManyImagesRightAsInPyTorch) {
  const std::string name = "resnet" + std::to_string(GetParam());
  Random none = Random::none();
  auto net = cifar_resnet<float>(GetParam(), {}, none);
  load_weights(net, folder_ / "pretrained" / ("cifar10_" + name + ".safetensors"));
  const auto expected = nlohmann::json::parse(std::ifstream(folder_ / "pretrained" / "expected.json")).at("models").at(name);

  const DataLoader<float> loader(read_cifar10(folder_ / "cifar-10-batches-bin", Split::test), {.batch_size = 100}, none,
                                 {Normalize{{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}}});
  const auto fused = inference(net);
  const Tensor<float> images = slice(loader.batch(0, 0).inputs, 0, 0, 8), plain = net(images), fast = fused(images);
  const auto& logits = expected.at("logits_of_first_8");
  double largest = 0;
  for (std::size_t n = 0; n < 8; ++n) {
    for (std::size_t c = 0; c < 10; ++c) largest = std::max(largest, std::abs(logits.at(n).at(c).get<double>()));
  }
  for (Index n = 0; n < 8; ++n) {
    for (Index c = 0; c < 10; ++c) {
      const double logit = logits.at(static_cast<std::size_t>(n)).at(static_cast<std::size_t>(c));
      EXPECT_NEAR(static_cast<double>(plain(n, c)), logit, 1e-4) << n << ", " << c;
      EXPECT_NEAR(static_cast<double>(fast(n, c)), static_cast<double>(plain(n, c)), 1e-5 * largest) << n << ", " << c;
    }
  }

#ifndef RESIDUA_TEST_WHOLE
  GTEST_SKIP() << "needs RESIDUA_TEST_WHOLE to count all images; the logits of eight agree";
#endif
  ClassificationMetrics metrics(10);
  for (auto [inputs, labels] : loader) metrics.add(fused(std::move(inputs)), labels);
  const Index right = metrics.right();
  EXPECT_NEAR(static_cast<double>(right), expected.at("correct_of_10000").get<double>(), 3);
}

INSTANTIATE_TEST_SUITE_P(Depth, Pretrained, testing::Values(20, 32));

}  // namespace
