// Every layer, option and block: backward is the derivative of forward, at odd, non-square, batch-1 and one-pixel sizes.
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/residua.hpp>

using namespace residua;

namespace {

struct Case {
  std::string name;
  std::function<Layer<double>(Random&)> make;  // for inputs of 4 features
  bool one_pixel = true;                       // takes an image of one pixel, and a single sample
};

template <template <typename> class L, typename Options>
Case plain(const std::string& name, Options options, bool one_pixel = true) {
  return {name, [options](Random&) -> Layer<double> { return L<double>(options); }, one_pixel};
}

template <template <typename> class L>
Case simple(const std::string& name) {
  return {name, [](Random&) -> Layer<double> { return L<double>(); }};
}

Case convolution(const std::string& name, Conv2dOptions options, bool one_pixel = true) {
  options.in_channels = 4;
  return {name, [options](Random& rng) -> Layer<double> { return Conv2d<double>(options, rng); }, one_pixel};
}

Case block(const std::string& name, ResidualBlockOptions<double> options) {
  options.in_channels = 4;
  return {"block, " + name, [options](Random& rng) -> Layer<double> { return ResidualBlock<double>(options, rng); }, false};
}

Case bottleneck(const std::string& name, BottleneckOptions<double> options) {
  options.in_channels = 4;
  return {"bottleneck, " + name, [options](Random& rng) -> Layer<double> { return Bottleneck<double>(options, rng); }, false};
}

std::vector<Case> cases() {
  std::vector<Case> all{
      convolution("convolution 3x3", {.out_channels = 5, .kernel_size = 3, .padding = 1}),
      convolution("convolution 1x1 without bias", {.out_channels = 3, .kernel_size = 1, .bias = false}),
      convolution("convolution 2x3, strided", {.out_channels = 3, .kernel_size = {2, 3}, .stride = {2, 1}, .padding = 1}),
      convolution("convolution, dilated", {.out_channels = 3, .kernel_size = 2, .padding = 1, .dilation = {2, 1}}),
      convolution("convolution, stride beyond kernel", {.out_channels = 3, .kernel_size = 1, .stride = 3}),
      convolution("convolution, padding beyond kernel", {.out_channels = 3, .kernel_size = 2, .stride = 2, .padding = 4}),
      convolution("convolution in groups", {.out_channels = 6, .kernel_size = 3, .padding = 1, .groups = 2}),
      convolution("convolution, depthwise", {.out_channels = 8, .kernel_size = 3, .padding = 1, .groups = 4}),
      {"linear", [](Random& rng) -> Layer<double> { return Linear<double>({.in_features = 4, .out_features = 3}, rng); }},
      {"linear without bias",
       [](Random& rng) -> Layer<double> {
         return Linear<double>({.in_features = 4, .out_features = 17, .bias = false}, rng);
       }},
      plain<BatchNorm>("batch norm", BatchNormOptions{.num_features = 4}, false),
      plain<BatchNorm>("batch norm, no affine", BatchNormOptions{.num_features = 4, .affine = false}, false),
      plain<BatchNorm>("batch norm, no statistics", BatchNormOptions{.num_features = 4, .track_running_stats = false}, false),
      plain<BatchNorm>("batch norm, frozen", BatchNormOptions{.num_features = 4, .frozen = true}),
      plain<LayerNorm>("layer norm", LayerNormOptions{.normalized_shape = {4}}),
      plain<LayerNorm>("layer norm, no affine", LayerNormOptions{.normalized_shape = {4}, .elementwise_affine = false}),
      plain<LayerNorm>("layer norm, no bias", LayerNormOptions{.normalized_shape = {4}, .bias = false}),
      plain<GroupNorm>("group norm", GroupNormOptions{.num_groups = 2, .num_channels = 4}),
      plain<GroupNorm>("group norm, no affine", GroupNormOptions{.num_groups = 1, .num_channels = 4, .affine = false}),
      plain<InstanceNorm>("instance norm", InstanceNormOptions{.num_features = 4}, false),
      plain<InstanceNorm>("instance norm, affine, tracked",
                          InstanceNormOptions{.num_features = 4, .affine = true, .track_running_stats = true}, false),
      plain<RMSNorm>("RMS norm", RMSNormOptions{.normalized_shape = {4}}),
      plain<RMSNorm>("RMS norm, no affine", RMSNormOptions{.normalized_shape = {4}, .eps = 1e-3, .elementwise_affine = false}),
      {"adaptive layer norm, plain",
       [](Random& rng) -> Layer<double> { return AdaptiveLayerNorm<double>({.num_features = 4}, rng); }},
      {"adaptive layer norm, dynamic",
       [](Random& rng) -> Layer<double> {
         AdaptiveLayerNorm<double> norm({.num_features = 4, .summary_features = 3}, rng);
         for (auto& p : norm.parameters()) p->value = init::normal<double>(p->value.shape(), 0, 1, rng);
         return norm;
       }},
      simple<ReLU>("ReLU"), simple<LeakyReLU>("leaky ReLU"), simple<GELU>("GELU"), simple<SiLU>("SiLU"),
      simple<Sigmoid>("sigmoid"), simple<Tanh>("tanh"), simple<Softmax>("softmax"), simple<GlobalAvgPool2d>("global pool"),
      simple<Flatten>("flatten"), simple<Identity>("identity"), simple<Dropout>("dropout"),
      plain<GELU>("GELU, tanh", GELUOptions{.approximate = Approximate::tanh}),
      plain<Softmax>("softmax over height", SoftmaxOptions{.dim = 1}),
      plain<DropPath>("drop path", DropPathOptions{.p = 0.4}),
      plain<MaxPool2d>("max pool, overlapping", MaxPool2dOptions{.kernel_size = 3, .stride = 2, .padding = 1}),
      plain<MaxPool2d>("max pool, dilated", MaxPool2dOptions{.kernel_size = 2, .stride = 1, .dilation = 2}, false),
      plain<MaxPool2d>("max pool, ceil", MaxPool2dOptions{.kernel_size = {2, 3}, .padding = 1, .ceil_mode = true}),
      plain<AvgPool2d>("average pool", AvgPool2dOptions{.kernel_size = 3, .stride = 2, .padding = 1}),
      plain<AvgPool2d>("average pool, ceil, without padding in the count",
                       AvgPool2dOptions{.kernel_size = 2, .padding = 1, .ceil_mode = true, .count_include_pad = false}),
      plain<AvgPool2d>("average pool, own divisor",
                       AvgPool2dOptions{.kernel_size = {1, 2}, .stride = 1, .padding = {0, 1}, .divisor_override = 5}),
      plain<AdaptiveAvgPool2d>("adaptive pool", AdaptiveAvgPool2dOptions{.output_size = {3, 2}}),
      plain<Subsample>("subsample", SubsampleOptions{.in_channels = 4, .out_channels = 7, .stride = 2}),
      {"repeat", [](Random& rng) -> Layer<double> {
         return Repeat<double>(Conv2d<double>({.in_channels = 4, .out_channels = 4, .kernel_size = 3, .padding = 1}, rng), 3);
       }},
      {"residual, activated", [](Random& rng) -> Layer<double> {
         return Residual<double>(Linear<double>({.in_features = 4, .out_features = 4}, rng), Identity<double>(), Tanh<double>());
       }}};

  for (Order order : {Order::post_activation, Order::pre_activation, Order::plain}) {
    const std::string name = "order " + std::to_string(static_cast<int>(order));
    for (const char* norm : {"none", "batch", "layer", "group", "instance", "rms"}) {
      all.push_back(block(name + ", " + norm, {.out_channels = 4, .order = order, .norm = Norm<double>::named(norm)}));
    }
    all.push_back(block(name + ", projection", {.out_channels = 6, .stride = 2, .order = order}));
    all.push_back(block(name + ", projection without norm",
                        {.out_channels = 6, .stride = {1, 2}, .order = order, .norm = norm::none}));
    all.push_back(block(name + ", subsampling",
                        {.out_channels = 7, .stride = 2, .order = order, .shortcut = Shortcut::subsample}));
    all.push_back(bottleneck(name, {.channels = 2, .out_channels = 4, .order = order}));
    all.push_back(bottleneck(name + ", grouped, projection",
                             {.channels = 4, .out_channels = 8, .stride = 2, .groups = 2, .order = order}));
  }
  all.push_back(block("SiLU", {.out_channels = 4, .activation = SiLU<double>()}));
  return all;
}

/// Takes norms away from where they start, so that nothing is 0 or 1 by chance.
void stir(Layer<double>& layer, Random& rng) {
  for (auto& p : layer.parameters()) p->value.array() += init::normal<double>(p->value.shape(), 0, 0.2, rng).carray();
  for (auto& [path, b] : layer.named_buffers()) {
    b->value.array() += init::uniform<double>(b->value.shape(), 0, 1, rng).carray();
  }
}

class Gradients : public testing::TestWithParam<Case> {};

TEST_P(Gradients, AreDifferenceQuotients) {
  const std::vector<Shape> shapes{{3, 5, 7, 4}, {1, 6, 4, 4}, {2, 1, 5, 4}, {3, 1, 1, 4}, {1, 1, 1, 4}};
  for (const Shape& shape : shapes) {
    if (!GetParam().one_pixel && shape[1] * shape[2] < 16) continue;
    for (Mode mode : {Mode::train, Mode::evaluate}) {
      Random rng(7);
      Layer<double> layer = GetParam().make(rng);
      stir(layer, rng);
      const auto x = init::normal<double>(shape, 0, 1, rng);
      const GradientReport report = gradient_check(layer, x, {.mode = mode});
      EXPECT_TRUE(report.passed()) << shape << (mode == Mode::train ? " training: " : " evaluating: ") << report;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, Gradients, testing::ValuesIn(cases()), [](const auto& test) {
  std::string name = std::to_string(test.index) + "_";
  for (char c : test.param.name) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

TEST(GradientCheck, OfSeveralInputsAndOutputs) {
  for (bool gate : {false, true}) {
    Random rng(3);
    AdaptiveLayerNorm<double> norm({.num_features = 5, .condition_features = 3, .gate = gate}, rng);
    for (auto& p : norm.parameters()) p->value = init::normal<double>(p->value.shape(), 0, 1, rng);
    const auto x = init::normal<double>(Shape{2, 3, 4, 5}, 0, 1, rng);
    const auto condition = init::normal<double>(Shape{2, 3}, 0, 1, rng);
    const GradientReport report = gradient_check(norm, std::tuple{x, condition});
    EXPECT_TRUE(report.passed()) << report;
  }
}

// A layer that does one thing wrong in backward: the checker must see it.
struct Faulty {
  enum class Fault { none, input, parameter, assigns, forgets_part, uninitialized };
  Fault fault;
  Parameter<double> weight{Tensor<double>(Shape{4}, 1.5)};

  Tensor<double> forward(Tensor<double> x, Tape<double>& tape) const {
    Tensor<double> y(x.shape(), uninitialized);
    y.matrix() = x.cmatrix() * weight.value.carray().matrix().asDiagonal();
    tape.push(std::move(x));
    return y;
  }
  Tensor<double> backward(Tensor<double> dy, Tape<double>& tape) {
    const auto x = tape.pop<Tensor<double>>();
    if (fault == Fault::assigns) weight.grad = {};
    const double factor = fault == Fault::parameter ? 1.0001 : 1;
    weight.add_gradient(factor * dy.cmatrix().cwiseProduct(x.cmatrix()).colwise().sum());
    Tensor<double> dx(x.shape(), uninitialized);
    const Index last = fault == Fault::uninitialized ? dx.rows() - 1 : dx.rows();
    dx.matrix().topRows(last) = dy.cmatrix().topRows(last) * weight.value.carray().matrix().asDiagonal();
    if (fault == Fault::input) dx.array() *= 1.0001;
    if (fault == Fault::forgets_part) dx(0, 1) = 0;
    return dx;
  }
  static void visit(auto& self, auto&& v) { v("weight", self.weight); }
};

TEST(GradientCheck, SeesEveryFault) {
  using enum Faulty::Fault;
  for (auto fault : {none, input, parameter, assigns, forgets_part, uninitialized}) {
    Random rng(5);
    Faulty layer{fault};
    const GradientReport report = gradient_check(layer, init::normal<double>(Shape{3, 4}, 0, 1, rng));
    EXPECT_EQ(report.passed(), fault == none) << static_cast<int>(fault) << ": " << report;
  }
}

TEST(GradientCheck, CountsKinksAndLeavesTheLayerAsItWas) {
  ReLU<double> relu;
  Tensor<double> x(Shape{10}, 1.0);
  x(3) = 0;
  const GradientReport one = gradient_check(relu, x);
  EXPECT_EQ(one.kinks, 1);
  EXPECT_EQ(one.checked, 9);
  EXPECT_FALSE(one.passed()) << "a tenth of the elements was left out";

  BatchNorm<double> norm({.num_features = 2});
  norm.weight.grad = Tensor<double>(Shape{2}, 3.0);
  Random rng(1);
  gradient_check(norm, init::normal<double>(Shape{5, 2}, 0, 1, rng));
  EXPECT_EQ(norm.weight.grad, Tensor<double>(Shape{2}, 3.0));
  EXPECT_EQ(norm.running_mean.value, Tensor<double>(Shape{2}));
  EXPECT_EQ(norm.num_batches_tracked.value, Tensor<double>(Shape{}));
}

}  // namespace
