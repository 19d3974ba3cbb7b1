// net(x): a large batch predicted in pieces is predicted as if it were whole.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <residua/blocks/concat.hpp>
#include <residua/blocks/gradient_checkpoint.hpp>
#include <residua/blocks/layer_scale.hpp>
#include <residua/blocks/repeat.hpp>
#include <residua/blocks/trunk.hpp>
#include <residua/models/cifar_resnet.hpp>
#include <residua/residua.hpp>

#include "errors.hpp"
#include "tensors.hpp"

namespace {

using namespace residua;

/// y = x, written down: the batches it sees.
template <typename S>
struct Batches : Samplewise<Batches<S>, S> {
  std::shared_ptr<std::vector<Index>> seen = std::make_shared<std::vector<Index>>();

  Tensor<S> forward(Tensor<S> x, Tape<S>&) const {
    seen->push_back(x.dim(0));
    return x;
  }
  Tensor<S> backward(Tensor<S> dy, Tape<S>&) { return dy; }
  static void visit(auto&, auto&&) {}
};

/// (N, H, W, C) → (N · H, W, C)
template <typename S>
struct RowsOfImages : Samplewise<RowsOfImages<S>, S> {
  Tensor<S> forward(Tensor<S> x, Tape<S>&) const {
    const Shape shape{x.dim(0) * x.dim(1), x.dim(2), x.dim(3)};
    return std::move(x).reshaped(shape);
  }
  Tensor<S> backward(Tensor<S> dy, Tape<S>&) { return dy; }
  static void visit(auto&, auto&&) {}
};

/// y = x − the mean of the whole batch.
template <typename S>
struct Centered {
  Tensor<S> forward(Tensor<S> x, Tape<S>&) const {
    const S mean = x.carray().mean();
    x.array() -= mean;
    return x;
  }
  Tensor<S> backward(Tensor<S> dy, Tape<S>&) { return dy; }
  static void visit(auto&, auto&&) {}
};

/// As Centered, from a base that treats samples apart.
struct CenteredSequential : Sequential<double> {
  using Sequential::Sequential;
  Tensor<double> forward(Tensor<double> x, Tape<double>& tape) const {
    return Centered<double>().forward(Sequential::forward(std::move(x), tape), tape);
  }
};

/// A block of its own kind, and not of the library's.
struct CenteredBlock : Children<CenteredBlock, double> {
  Tensor<double> forward(Tensor<double> x, Tape<double>& tape) const { return Centered<double>().forward(std::move(x), tape); }
  Tensor<double> backward(Tensor<double> dy, Tape<double>&) { return dy; }
};

/// A network that only says what it is made of.
struct Named : Sequential<double> {
  explicit Named(Layer<double> layer) { add("inner", std::move(layer)); }
};

/// A network of some depth: a shallow one is never predicted in pieces.
Sequential<double> deep(Layer<double> first) {
  Sequential<double> net(std::move(first));
  while (net.size() < 8) net.add(Identity<double>());
  return net;
}

/// What net(x) is to be: the whole batch at once.
template <typename S, typename Net>
Tensor<S> whole(const Net& net, const Tensor<S>& x) {
  Tape<S> tape;
  return net.forward(x, tape);
}

template <typename Net>
void expect_as_whole(const Net& net, const Tensor<double>& x) {
  const Tensor<double> y = net(x), expected = whole(net, x);
  ASSERT_EQ(y.shape(), expected.shape());
  EXPECT_LE(largest(y.carray() - expected.carray()), 1e-12 * largest(expected.carray()));
}

/// So many threads while this lives.
struct Threads {
  const int before = num_threads();
  explicit Threads(int now) { set_num_threads(now); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { set_num_threads(before); }
};

/// The batches that a layer inside of `around(layer)` sees when 50 images are predicted.
template <typename F>
std::vector<Index> batches_seen(F&& around, const Shape& images = {50, 6, 6, 3}) {
  const Threads one(1);
  Batches<double> batches;
  deep(around(Layer<double>(batches)))(normal<double>(images));
  return *batches.seen;
}

const std::vector<Index> apart{16, 17, 17}, together{50};

TEST(Prediction, SmallImagesGoInPiecesOfAtLeastSixteen) {
  const auto alone = [](Layer<double> layer) { return layer; };
  EXPECT_EQ(batches_seen(alone), apart);
  EXPECT_EQ(batches_seen(alone, {31, 6, 6, 3}), (std::vector<Index>{31}));
  EXPECT_EQ(batches_seen(alone, {32, 64, 64, 1}), (std::vector<Index>{16, 16}));
  EXPECT_EQ(batches_seen(alone, {32, 64, 65, 1}), (std::vector<Index>{32}));
  EXPECT_EQ(batches_seen(alone, {64, 6, 3}), (std::vector<Index>{64}));
  EXPECT_EQ(batches_seen(alone, {0, 6, 6, 3}), (std::vector<Index>{0}));
}

TEST(Prediction, SamplesMayBecomeSeveralRows) {
  const auto net = deep(RowsOfImages<double>());
  expect_as_whole(net, normal<double>({50, 6, 6, 3}));
}

TEST(Prediction, AFewLayersGoWithoutPieces) {
  const Batches<double> batches;
  const Tensor<double> x = normal<double>({50, 6, 6, 3});
  batches(x);
  Sequential<double>(batches, Identity<double>())(x);
  EXPECT_EQ(*batches.seen, (std::vector<Index>{50, 50}));
}

TEST(Prediction, LayersThatTreatSamplesApartLetPiecesThrough) {
  Random rng(3);
  const auto beside = [&](Layer<double> other) {
    return batches_seen([&](Layer<double> layer) { return Sequential<double>(layer, other); });
  };
  EXPECT_EQ(beside(Conv2d<double>({.in_channels = 3, .out_channels = 3, .kernel_size = 3}, rng)), apart);
  EXPECT_EQ(beside(BatchNorm<double>({.num_features = 3})), apart);
  EXPECT_EQ(beside(LayerNorm<double>({3})), apart);
  EXPECT_EQ(beside(RMSNorm<double>({.normalized_shape = {3}})), apart);
  EXPECT_EQ(beside(GroupNorm<double>({.num_groups = 3, .num_channels = 3})), apart);
  EXPECT_EQ(beside(InstanceNorm<double>({.num_features = 3})), apart);
  EXPECT_EQ(beside(Dropout<double>({.p = 0.5})), apart);
  EXPECT_EQ(beside(GELU<double>()), apart);
  EXPECT_EQ(beside(MaxPool2d<double>({.kernel_size = 2})), apart);
  EXPECT_EQ(beside(Softmax<double>()), apart);
  EXPECT_EQ(beside(Flatten<double>()), apart);
  EXPECT_EQ(beside(ResidualBlock<double>({.in_channels = 3, .out_channels = 4, .stride = 2}, rng)), apart);
  EXPECT_EQ(beside(ResidualBlock<double>({.in_channels = 3, .out_channels = 4, .shortcut = Shortcut::subsample}, rng)),
            apart);
  EXPECT_EQ(beside(Named(ReLU<double>())), apart);
  EXPECT_EQ(beside(ResidualBlock<double>({.in_channels = 3, .out_channels = 3}, rng).inference()), apart);
}

TEST(Prediction, LayersThatMixSamplesKeepTheBatchWhole) {
  Random rng(3);
  const Layer<double> mixing[] = {
      Centered<double>(), Named(Centered<double>()),
      BatchNorm<double>({.num_features = 3, .track_running_stats = false}), Softmax<double>({.dim = 0}),
      Softmax<double>({.dim = -4}), Flatten<double>({.start_dim = 0, .end_dim = 1}),
      Flatten<double>({.start_dim = -4, .end_dim = 1})};
  for (const Layer<double>& layer : mixing) {
    const std::vector<Layer<double>> around = {
        layer,
        Sequential<double>(layer),
        Residual<double>(layer),
        Residual<double>(Identity<double>(), layer),
        Residual<double>(Identity<double>(), Identity<double>(), layer),
        Repeat<double>(layer, 1),
        Checkpoint<double>(layer),
        Concat<double>().add("a", layer),
        LayerScale<double>({.num_features = 3}, layer),
        Trunk<double>().add("a", layer),
    };
    for (const auto& net : around) {
      EXPECT_FALSE(net.samplewise());
      EXPECT_FALSE(net.inference().samplewise());
    }
  }
  EXPECT_FALSE(Layer<double>(CenteredSequential(ReLU<double>())).samplewise());
  EXPECT_FALSE(Layer<double>(CenteredBlock()).samplewise());
  EXPECT_EQ(batches_seen([](Layer<double> layer) { return Sequential<double>(layer, Centered<double>()); }), together);
  const Tensor<double> x = normal<double>({50, 6, 6, 3});
  expect_as_whole(deep(Centered<double>()), x);
  expect_as_whole(deep(CenteredSequential(ReLU<double>())), x);
  expect_as_whole(deep(CenteredBlock()), x);
  expect_as_whole(deep(Softmax<double>({.dim = 0})), x);
  expect_as_whole(deep(BatchNorm<double>({.num_features = 3, .track_running_stats = false})), x);
  // Of 16 rows at once this would be another norm, and no error.
  const Sequential<double> rows = deep(Sequential<double>(Flatten<double>(), LayerNorm<double>({16, 12})));
  expect_error([&] { rows(normal<double>({32, 2, 2, 3})); }, "[32, 12]");
}

TEST(Prediction, APieceIsPredictedAsTheWhole) {
  Random rng(3);
  const auto net = cifar_resnet<double>(8, {.channels = 4}, rng);
  for (const Index batch : {32, 37, 70}) {
    const Tensor<double> x = normal<double>({batch, 12, 10, 3});
    expect_as_whole(net, x);
    expect_as_whole(net.inference(), x);
  }
}

TEST(Prediction, HasTheSameBitsForAnyNumberOfThreads) {
  Random rng(3);
  const auto net = cifar_resnet<float>(8, {.channels = 4}, rng);
  const Tensor<float> x = normal<float>({150, 12, 10, 3});
  const auto with = [&](int threads) {
    const Threads so_many(threads);
    return net(x);
  };
  const Tensor<float> one = with(1);
  for (const int threads : {2, 3, 4, 7}) EXPECT_TRUE(same_bits(with(threads), one)) << threads;
}

TEST(Prediction, AnErrorTellsTheShapeOfTheWholeBatch) {
  Random rng(3);
  Sequential<float> net;
  net.add("conv", Conv2d<float>({.in_channels = 4, .out_channels = 3, .kernel_size = 3}, rng));
  while (net.size() < 8) net.add(ReLU<float>());  // a network of some depth
  expect_error([&] { net(Tensor<float>(Shape{50, 6, 6, 3})); }, "conv: expected 4 input channels, got 3 (input is [50, 6, 6, 3])");
}

}  // namespace
