// Textured shapes: ten classes, the same for the same seed, and nothing for a linear model.
#include <algorithm>
#include <utility>

#include <gtest/gtest.h>

#include <residua/core/layer.hpp>
#include <residua/data/data_loader.hpp>
#include <residua/data/textured_shapes.hpp>
#include <residua/layers/linear.hpp>
#include <residua/loss/cross_entropy.hpp>
#include <residua/optim/sgd.hpp>

#include "errors.hpp"

namespace {

using namespace residua;

TEST(TexturedShapes, HaveTenClassesAndBeginTheSameForAnyCount) {
  const ImageDataset data = textured_shapes(500, Random(1));
  ASSERT_EQ(data.images.shape(), (Shape{500, 32, 32, 3}));
  ASSERT_EQ(data.classes.size(), 10u);
  EXPECT_EQ(data.classes[9], "dotted ring");
  for (Index label = 0; label < 10; ++label) EXPECT_GT(std::count(data.labels.begin(), data.labels.end(), label), 25);
  EXPECT_EQ(textured_shapes(20, Random(1)).images, data.first(20).images);
  EXPECT_NE(textured_shapes(20, Random(2)).images, data.first(20).images);
  EXPECT_EQ(message([] { textured_shapes(-1, Random(1)); }), "textured_shapes: expected a count of at least 0, got -1");
}

TEST(TexturedShapes, AreNotForALinearModel) {
  const ImageDataset train = textured_shapes(1000, Random(1)), test = textured_shapes(500, Random(2));
  const Normalize normalize{.mean = {0.5, 0.5, 0.5}, .std = {0.25, 0.25, 0.25}};
  Random rng(1);
  Linear<float> linear({.in_features = 32 * 32 * 3, .out_features = 10}, rng);
  const auto rows = [](Tensor<float> images) { return std::move(images).reshaped(Shape{images.dim(0), 32 * 32 * 3}); };
  const auto accuracy = [&](const ImageDataset& data) {
    const auto batch = DataLoader<float>(data, {.batch_size = data.size()}, rng, {normalize}).batch(0, 0);
    const Tensor<float> logits = linear(rows(batch.inputs));
    Index right = 0, best = 0;
    for (Index n = 0; n < data.size(); ++n) {
      logits.cmatrix().row(n).maxCoeff(&best);
      right += best == batch.targets[static_cast<std::size_t>(n)];
    }
    return static_cast<double>(right) / static_cast<double>(data.size());
  };
  SGD<float> optimizer(linear.parameters(), {.lr = 0.003, .momentum = 0.9});
  const DataLoader<float> loader(train, {.batch_size = 50, .shuffle = true}, rng, {normalize});
  for (Index epoch = 0; epoch < 10; ++epoch) {
    for (auto [images, labels] : loader.epoch(epoch)) {
      optimizer.zero_grad();
      Tape<float> tape(rng, {.input_gradient = false});
      const auto loss = cross_entropy(linear.forward(rows(std::move(images)), tape), labels);
      linear.backward(loss.gradient, tape);
      optimizer.step();
    }
  }
  EXPECT_GT(accuracy(train), 0.6) << "the linear model was not trained well";
  EXPECT_LT(accuracy(test), 0.6);
}

}  // namespace
