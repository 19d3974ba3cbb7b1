// Every layer, with every option, against what PyTorch computes.
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest-spi.h>

#include <residua/residua.hpp>

#include "golden.hpp"

namespace {

using namespace residua;
using golden::Cases;

template <typename S> class Golden : public testing::Test {};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(Golden, Scalars);

// --- what the comparison itself sees ---------------------------------------------------------------------------------

TYPED_TEST(Golden, SeesAWrongNumber) {
  using S = TypeParam;
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  const Tensor<double> expected(Shape{2, 2}, std::vector<double>{1, nan, -infinity, -4});
  const golden::Tolerance tolerance{.absolute = 0.01, .relative = 0.1, .of_largest = 0.05};  // ±0.25 at 1

  const auto agrees_with = [&](Index row, Index column, double value) {
    Tensor<S> got = expected.cast<S>();
    got(row, column) = static_cast<S>(value);
    return static_cast<bool>(golden::agree(got, expected, tolerance));
  };
  EXPECT_TRUE(agrees_with(0, 0, 1));
  EXPECT_TRUE(agrees_with(0, 0, 1.3));
  EXPECT_FALSE(agrees_with(0, 0, 1.32));
  EXPECT_FALSE(agrees_with(0, 0, 0.68));
  EXPECT_FALSE(agrees_with(0, 0, nan));
  EXPECT_FALSE(agrees_with(0, 0, infinity));
  EXPECT_FALSE(agrees_with(0, 1, 0));
  EXPECT_FALSE(agrees_with(1, 0, infinity));
  EXPECT_FALSE(agrees_with(1, 0, -4));
  EXPECT_FALSE(golden::agree(Tensor<S>(Shape{4}), expected, tolerance));
}

TYPED_TEST(Golden, SeesAWrongLayer) {
  using S = TypeParam;
  struct HalfGradient : Sigmoid<S> {
    Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
      dy.array() *= S(0.5);
      return Sigmoid<S>::backward(std::move(dy), tape);
    }
  };
  EXPECT_NONFATAL_FAILURE(Cases<S>("activation", "sigmoid/image").check("", HalfGradient()), "sigmoid/image:dx");

  struct AssignsGradient : Linear<S> {
    using Linear<S>::Linear;
    Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
      this->weight.grad = {};
      return Linear<S>::backward(std::move(dy), tape);
    }
  };
  Random rng(1);
  const LinearOptions options{.in_features = 13, .out_features = 17};
  EXPECT_NONFATAL_FAILURE(Cases<S>("convolution", "linear/one_row").check("", AssignsGradient(options, rng)),
                          "linear/one_row:weight.grad");

  EXPECT_NONFATAL_FAILURE(Cases<S>("activation", "tanh/image"), "tanh/image is in the file, but was not checked");
}

// --- convolution and linear ------------------------------------------------------------------------------------------

TYPED_TEST(Golden, Conv2d) {
  using S = TypeParam;
  Random rng(1);
  const auto conv = [&](Index in, Index out, Pair kernel, Conv2dOptions options = {}) {
    options.in_channels = in;
    options.out_channels = out;
    options.kernel_size = kernel;
    return Conv2d<S>(options, rng);
  };

  Cases<S> cases("convolution", "conv2d/");
  cases.check("first_layer", conv(3, 16, 3, {.padding = 1, .bias = false}));
  cases.check("3x3", conv(4, 5, 3));
  cases.check("3x3_padded", conv(4, 6, 3, {.padding = 1}));
  cases.check("3x3_stride_2", conv(8, 16, 3, {.stride = 2, .padding = 1, .bias = false}));
  cases.check("1x1", conv(5, 7, 1));
  cases.check("1x1_padded", conv(3, 5, 1, {.padding = 1}));
  cases.check("1x5", conv(3, 4, {1, 5}, {.padding = {0, 2}}));
  cases.check("4x1", conv(3, 4, {4, 1}));
  cases.check("2x3", conv(3, 2, {2, 3}, {.stride = {2, 1}, .padding = {1, 2}}));
  cases.check("5x5", conv(2, 3, 5, {.padding = 2}));
  cases.check("7x7_stride_2", conv(3, 8, 7, {.stride = 2, .padding = 3, .bias = false}));
  cases.check("stride_beyond_kernel", conv(3, 4, 2, {.stride = {4, 3}}));
  cases.check("dilated", conv(3, 4, 3, {.padding = 2, .dilation = 2}));
  cases.check("dilated_pair", conv(3, 4, 3, {.stride = {2, 1}, .padding = {1, 3}, .dilation = {2, 3}}));
  cases.check("padding_beyond_half", conv(3, 4, 3, {.padding = 3}));
  cases.check("padding_beyond_half_pair", conv(16, 5, 3, {.padding = {2, 4}}));
  cases.check("groups", conv(6, 9, 3, {.padding = 1, .groups = 3}));
  cases.check("groups_1x1_stride_2", conv(8, 12, 1, {.stride = 2, .groups = 4}));
  cases.check("depthwise", conv(7, 7, 3, {.padding = 1, .groups = 7}));
  cases.check("depthwise_multiplier",
              conv(4, 12, 3, {.stride = {1, 2}, .padding = 1, .dilation = {2, 1}, .groups = 4}));
  cases.check("whole_input", conv(5, 6, {4, 3}));
  cases.check("one_pixel", conv(3, 4, 1));
  cases.check("one_pixel_padded", conv(16, 7, 3, {.padding = 1}));
  cases.check("one_pixel_output", conv(2, 3, 3, {.stride = 2}));
  cases.check("one_channel", conv(1, 1, 3, {.padding = 1}));
  cases.check("one_row", conv(4, 5, 3, {.padding = 1}));

  Cases<S> wide("wide_convolution", "conv2d/");
  wide.check("3x3_16_to_64", conv(16, 64, 3, {.padding = 1, .bias = false}));
  wide.check("3x3_64_to_8", conv(64, 8, 3, {.padding = 1, .bias = false}));
  wide.check("1x1_64_to_64", conv(64, 64, 1, {.bias = false}));
  wide.check("1x1_stride_2", conv(16, 32, 1, {.stride = 2, .bias = false}));
  wide.check("groups_of_16", conv(32, 32, 3, {.padding = 1, .groups = 2, .bias = false}));
  wide.check("depthwise_stride_2", conv(16, 16, 5, {.stride = 2, .padding = 2, .groups = 16, .bias = false}));
}

TYPED_TEST(Golden, Linear) {
  using S = TypeParam;
  Random rng(1);
  Cases<S> cases("convolution", "linear/");
  cases.check("rank_2", Linear<S>({.in_features = 7, .out_features = 4}, rng));
  cases.check("rank_2_no_bias", Linear<S>({.in_features = 64, .out_features = 10, .bias = false}, rng));
  cases.check("rank_3", Linear<S>({.in_features = 6, .out_features = 9}, rng));
  cases.check("rank_3_no_bias", Linear<S>({.in_features = 5, .out_features = 1, .bias = false}, rng));
  cases.check("one_row", Linear<S>({.in_features = 13, .out_features = 17}, rng));
  cases.check("one_number", Linear<S>({.in_features = 1, .out_features = 1}, rng));
}

// --- normalisation ---------------------------------------------------------------------------------------------------

TYPED_TEST(Golden, BatchNorm) {
  using S = TypeParam;
  Cases<S> cases("normalisation", "batch_norm/");
  const auto steps = [&](const std::string& name, int count, Layer<S> norm) {
    for (int step = 1; step <= count; ++step) norm = cases.check(name + "/step_" + std::to_string(step), norm);
  };
  steps("train", 2, BatchNorm<S>({.num_features = 5}));
  steps("train_features", 2, BatchNorm<S>({.num_features = 6}));
  steps("options", 2, BatchNorm<S>({.num_features = 4, .eps = 1e-3, .momentum = 0.3}));
  steps("cumulative", 3, BatchNorm<S>({.num_features = 4, .momentum = std::nullopt}));
  steps("not_affine", 2, BatchNorm<S>({.num_features = 4, .affine = false}));
  cases.check("neither", BatchNorm<S>({.num_features = 4, .affine = false, .track_running_stats = false}));
  cases.check("batch_1", BatchNorm<S>({.num_features = 16}));
  cases.check("two_values", BatchNorm<S>({.num_features = 3, .eps = 0.5}));
  cases.check("sequence", BatchNorm<S>({.num_features = 5}));
  cases.check("evaluate", BatchNorm<S>({.num_features = 5}), Mode::evaluate);
  cases.check("evaluate_features", BatchNorm<S>({.num_features = 6}), Mode::evaluate);
  cases.check("evaluate_one_pixel", BatchNorm<S>({.num_features = 3}), Mode::evaluate);
  const BatchNormOptions no_statistics{.num_features = 4, .track_running_stats = false};
  cases.check("no_statistics", BatchNorm<S>(no_statistics));
  cases.check("no_statistics_evaluate", BatchNorm<S>(no_statistics), Mode::evaluate);
}

TYPED_TEST(Golden, LayerNorm) {
  using S = TypeParam;
  Cases<S> cases("normalisation", "layer_norm/");
  cases.check("features", LayerNorm<S>({.normalized_shape = {7}}));
  cases.check("sequence", LayerNorm<S>({.normalized_shape = {8}}));
  cases.check("pixel", LayerNorm<S>({.normalized_shape = {5}}));
  cases.check("last_two", LayerNorm<S>({.normalized_shape = {4, 5}}));
  cases.check("image", LayerNorm<S>({.normalized_shape = {3, 5, 4}}));
  cases.check("eps", LayerNorm<S>({.normalized_shape = {4}, .eps = 0.5}));
  cases.check("not_affine", LayerNorm<S>({.normalized_shape = {6}, .elementwise_affine = false}));
  cases.check("no_bias", LayerNorm<S>({.normalized_shape = {6}, .bias = false}));
  cases.check("one_row", LayerNorm<S>({.normalized_shape = {64}}));
  cases.check("one_feature", LayerNorm<S>({.normalized_shape = {1}, .eps = 0.25}));
}

TYPED_TEST(Golden, GroupNorm) {
  using S = TypeParam;
  Cases<S> cases("normalisation", "group_norm/");
  cases.check("image", GroupNorm<S>({.num_groups = 3, .num_channels = 6}));
  cases.check("one_group", GroupNorm<S>({.num_groups = 1, .num_channels = 4}));
  cases.check("group_per_channel", GroupNorm<S>({.num_groups = 4, .num_channels = 4}));
  cases.check("options", GroupNorm<S>({.num_groups = 2, .num_channels = 6, .eps = 1e-2, .affine = false}));
  cases.check("one_pixel", GroupNorm<S>({.num_groups = 2, .num_channels = 6}));
  cases.check("features", GroupNorm<S>({.num_groups = 2, .num_channels = 8}));
  cases.check("sequence", GroupNorm<S>({.num_groups = 2, .num_channels = 6}));
}

TYPED_TEST(Golden, InstanceNorm) {
  using S = TypeParam;
  Cases<S> cases("normalisation", "instance_norm/");
  cases.check("default", InstanceNorm<S>({.num_features = 5}));
  cases.check("affine", InstanceNorm<S>({.num_features = 4, .eps = 1e-3, .affine = true}));
  const auto tracking = InstanceNorm<S>(
      {.num_features = 4, .momentum = 0.2, .affine = true, .track_running_stats = true});
  cases.check("statistics/step_2", cases.check("statistics/step_1", tracking));
  cases.check("batch_1", InstanceNorm<S>({.num_features = 16, .affine = true, .track_running_stats = true}));
  cases.check("statistics_evaluate", InstanceNorm<S>({.num_features = 4, .track_running_stats = true}), Mode::evaluate);
  cases.check("evaluate", InstanceNorm<S>({.num_features = 4}), Mode::evaluate);
}

TYPED_TEST(Golden, RMSNorm) {
  using S = TypeParam;
  Cases<S> cases("normalisation", "rms_norm/");
  cases.check("features", RMSNorm<S>({.normalized_shape = {7}}));
  cases.check("pixel", RMSNorm<S>({.normalized_shape = {5}}));
  cases.check("last_two", RMSNorm<S>({.normalized_shape = {4, 5}, .eps = 1e-5}));
  cases.check("eps", RMSNorm<S>({.normalized_shape = {4}, .eps = 0.5}));
  cases.check("not_affine", RMSNorm<S>({.normalized_shape = {6}, .elementwise_affine = false}));
  cases.check("one_feature", RMSNorm<S>({.normalized_shape = {1}, .eps = 0.25}));
}

TYPED_TEST(Golden, AdaptiveLayerNorm) {
  using S = TypeParam;
  Random rng(1);
  const auto norm = [&](const AdaptiveLayerNormOptions& options) { return AdaptiveLayerNorm<S>(options, rng); };

  Cases<S> cases("normalisation", "adaptive_layer_norm/");
  const auto check_conditioned = [&](const std::string& name, AdaptiveLayerNorm<S> layer) {
    cases.begin(name);
    cases.start(layer);
    const auto tensor = [&](const std::string& of_case) { return cases.at(of_case).template cast<S>(); };
    Tape<S> tape(rng);
    const auto [y, gate] = layer.forward(tensor("x"), tensor("condition"), tape);
    const Tensor<S> dgate = cases.has("dgate") ? tensor("dgate") : Tensor<S>();
    const auto [dx, dcondition] = layer.backward(tensor("dy"), dgate, tape);
    cases.compare("y", y, golden::for_outputs<S>);
    if (cases.has("gate")) cases.compare("gate", gate, golden::for_outputs<S>);
    cases.compare("dx", dx, golden::for_gradients<S>);
    cases.compare("dcondition", dcondition, golden::for_gradients<S>);
    cases.finish(layer);
  };
  check_conditioned("condition/sequence", norm({.num_features = 6, .condition_features = 4}));
  check_conditioned("condition/image", norm({.num_features = 5, .condition_features = 3, .eps = 1e-2}));
  check_conditioned("condition/one_position", norm({.num_features = 7, .condition_features = 2}));
  check_conditioned("gate/sequence", norm({.num_features = 6, .condition_features = 4, .gate = true}));
  check_conditioned("gate/image", norm({.num_features = 5, .condition_features = 1, .gate = true}));
  cases.check("summary/sequence", norm({.num_features = 6, .summary_features = 4}));
  cases.check("summary/image", norm({.num_features = 5, .summary_features = 3}));
  cases.check("summary/one_position", norm({.num_features = 7, .summary_features = 2}));
  cases.check("plain", norm({.num_features = 6}));
}

// --- activations -----------------------------------------------------------------------------------------------------

TYPED_TEST(Golden, Activations) {
  using S = TypeParam;
  const auto check = [](const std::string& name, const Layer<S>& layer) {
    Cases<S> cases("activation", name + "/");
    for (const char* input : {"image", "one_number", "edges", "nan"}) cases.check(input, layer);
  };
  check("relu", ReLU<S>());
  check("leaky_relu", LeakyReLU<S>());
  check("leaky_relu_slope", LeakyReLU<S>({.negative_slope = 0.25}));
  check("gelu", GELU<S>());
  check("gelu_tanh", GELU<S>({.approximate = Approximate::tanh}));
  check("silu", SiLU<S>());
  check("sigmoid", Sigmoid<S>());
  check("tanh", Tanh<S>());
}

TYPED_TEST(Golden, Softmax) {
  using S = TypeParam;
  Cases<S> cases("activation", "softmax/");
  cases.check("features", Softmax<S>());
  cases.check("rows", Softmax<S>({.dim = 0}));
  cases.check("sequence", Softmax<S>({.dim = 2}));
  cases.check("sequence_middle", Softmax<S>({.dim = 1}));
  cases.check("first", Softmax<S>({.dim = 0}));
  cases.check("last_but_one", Softmax<S>({.dim = -2}));
  cases.check("one_number", Softmax<S>());
  cases.check("large", Softmax<S>());
  cases.check("masked", Softmax<S>());
  cases.check("nan", Softmax<S>());
}

// --- pooling ---------------------------------------------------------------------------------------------------------

TYPED_TEST(Golden, MaxPool2d) {
  using S = TypeParam;
  Cases<S> cases("pooling", "max_pool2d/");
  cases.check("2x2", MaxPool2d<S>({.kernel_size = 2}));
  cases.check("odd_input", MaxPool2d<S>({.kernel_size = 2}));
  cases.check("3x3_stride_2", MaxPool2d<S>({.kernel_size = 3, .stride = 2, .padding = 1}));
  cases.check("pairs", MaxPool2d<S>({.kernel_size = {3, 2}, .stride = {{2, 1}}, .padding = {1, 0}}));
  cases.check("dilated", MaxPool2d<S>({.kernel_size = 3, .stride = 1, .padding = 1, .dilation = 2}));
  cases.check("dilated_pair", MaxPool2d<S>({.kernel_size = {2, 3}, .stride = 2, .dilation = {3, 2}}));
  cases.check("ceil_mode", MaxPool2d<S>({.kernel_size = 3, .stride = 2, .ceil_mode = true}));
  cases.check("ceil_mode_padded", MaxPool2d<S>({.kernel_size = 2, .stride = 3, .padding = 1, .ceil_mode = true}));
  cases.check("whole_input", MaxPool2d<S>({.kernel_size = {3, 5}}));
  cases.check("one_pixel", MaxPool2d<S>({.kernel_size = 1}));
  cases.check("one_pixel_padded", MaxPool2d<S>({.kernel_size = 3, .padding = 1}));
  cases.check("negative", MaxPool2d<S>({.kernel_size = 3, .stride = 2, .padding = 1}));
  cases.check("ties", MaxPool2d<S>({.kernel_size = 3, .stride = 2}));
  cases.check("nan", MaxPool2d<S>({.kernel_size = 3, .stride = 2, .padding = 1}));
}

TYPED_TEST(Golden, AvgPool2d) {
  using S = TypeParam;
  const AvgPool2dOptions padded{.kernel_size = 3, .stride = 2, .padding = 1};
  AvgPool2dOptions not_counted = padded, ceil = padded;
  not_counted.count_include_pad = false;
  ceil.ceil_mode = true;
  AvgPool2dOptions ceil_not_counted = ceil, ceil_divisor = ceil;
  ceil_not_counted.count_include_pad = false;
  ceil_divisor.divisor_override = 5;

  Cases<S> cases("pooling", "avg_pool2d/");
  cases.check("2x2", AvgPool2d<S>({.kernel_size = 2}));
  cases.check("odd_input", AvgPool2d<S>({.kernel_size = 2}));
  cases.check("padded", AvgPool2d<S>(padded));
  cases.check("padding_not_counted", AvgPool2d<S>(not_counted));
  cases.check("pairs", AvgPool2d<S>({.kernel_size = {3, 2}, .stride = {{1, 2}}, .padding = {0, 1}}));
  cases.check("ceil_mode", AvgPool2d<S>({.kernel_size = 3, .stride = 2, .ceil_mode = true}));
  cases.check("ceil_mode_padded", AvgPool2d<S>(ceil));
  cases.check("ceil_mode_padding_not_counted", AvgPool2d<S>(ceil_not_counted));
  cases.check("divisor", AvgPool2d<S>({.kernel_size = 2, .divisor_override = 3}));
  cases.check("divisor_padded", AvgPool2d<S>(ceil_divisor));
  cases.check("whole_input", AvgPool2d<S>({.kernel_size = {3, 5}}));
  cases.check("one_pixel", AvgPool2d<S>({.kernel_size = 1}));
  cases.check("nan", AvgPool2d<S>(padded));
}

TYPED_TEST(Golden, AdaptiveAvgPool2d) {
  using S = TypeParam;
  Cases<S> cases("pooling", "adaptive_avg_pool2d/");
  cases.check("divides", AdaptiveAvgPool2d<S>({.output_size = {3, 2}}));
  cases.check("does_not_divide", AdaptiveAvgPool2d<S>({.output_size = {3, 4}}));
  cases.check("square", AdaptiveAvgPool2d<S>({.output_size = 5}));
  cases.check("larger_than_input", AdaptiveAvgPool2d<S>({.output_size = {5, 4}}));
  cases.check("one", AdaptiveAvgPool2d<S>({.output_size = 1}));
  cases.check("one_pixel", AdaptiveAvgPool2d<S>({.output_size = 1}));
}

TYPED_TEST(Golden, GlobalAvgPool2d) {
  using S = TypeParam;
  Cases<S> cases("pooling", "global_avg_pool2d/");
  for (const char* input : {"image", "one_pixel", "one_row"}) cases.check(input, GlobalAvgPool2d<S>());
}

TYPED_TEST(Golden, Flatten) {
  using S = TypeParam;
  Cases<S> cases("pooling", "flatten/");
  for (const char* input : {"image", "one_pixel", "sequence"}) cases.check(input, Flatten<S>());
  cases.check("leading_axes", Flatten<S>({.start_dim = 0, .end_dim = 1}));
}

// --- residual blocks -------------------------------------------------------------------------------------------------

TYPED_TEST(Golden, ResidualBlocks) {
  using S = TypeParam;
  Random rng(1);
  for (const auto& [name, order] : {std::pair{"post", Order::post_activation}, std::pair{"pre", Order::pre_activation},
                                    std::pair{"plain", Order::plain}}) {
    const auto block = [&, o = order](Index in, Index out, Index stride, Shortcut shortcut = Shortcut::projection) {
      return ResidualBlock<S>(
          {.in_channels = in, .out_channels = out, .stride = stride, .order = o, .shortcut = shortcut}, rng);
    };
    const auto bottleneck = [&, o = order](Index in, Index out, Index stride) {
      return Bottleneck<S>(
          {.in_channels = in, .channels = out / 4, .out_channels = out, .stride = stride, .order = o}, rng);
    };
    Cases<S> cases("block", std::string(name) + "/");
    cases.check("identity", block(6, 6, 1));
    cases.check("projection", block(4, 8, 2));
    cases.check("projection_stride_1", block(4, 6, 1));
    cases.check("subsampled", block(4, 8, 2, Shortcut::subsample));
    const Mode mode = order == Order::plain ? Mode::evaluate : Mode::train;
    cases.check("bottleneck", bottleneck(8, 8, 1), mode);
    cases.check("bottleneck_projection", bottleneck(6, 16, 2), mode);
  }
  Cases<S> cases("block", "evaluate");
  cases.check("", ResidualBlock<S>({.in_channels = 4, .out_channels = 8, .stride = 2}, rng), Mode::evaluate);
}

}  // namespace
