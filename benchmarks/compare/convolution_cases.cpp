// Convolutions of residual networks, with gradients by input and weight.
#include "cases.hpp"
#include "layer_pass.hpp"

namespace compare {

namespace {

/// N × H × W × C → K, kernel × kernel.
struct Convolution {
  Index N, H, W, C, K, kernel, stride = 1, groups = 1;

  Index padding() const { return kernel / 2; }
  Shape input() const { return {N, H, W, C}; }

  std::string name() const {
    std::ostringstream text;
    text << (groups == C ? "depthwise" : "conv") << kernel << 'x' << kernel;
    if (stride > 1) text << "s" << stride;
    if (groups > 1 && groups < C) text << "g" << groups;
    text << '/' << N << 'x' << H << 'x' << W << 'x' << C << '-' << K;
    return text.str();
  }

  Conv2d<float> layer() const {
    Random random(3);
    return Conv2d<float>({.in_channels = C, .out_channels = K, .kernel_size = kernel, .stride = stride,
                          .padding = padding(), .groups = groups, .bias = false}, random);
  }

  at::Tensor peer(const at::Tensor& x, const at::Tensor& weight) const {
    return at::conv2d(x, weight, {}, stride, padding(), 1, groups);
  }
};

Comparison compare_pass(const Convolution& conv, Pass pass) {
  return compare_layer(conv.layer(), conv.input(),
                       [conv](const at::Tensor& x, const auto& p) { return conv.peer(x, p[0]); }, pass);
}

/// With weights packed beforehand. oneDNN's input and output stay in the blocked order that it likes, as they do within
/// a network.
Comparison compare_packed(const Convolution& conv) {
  Comparison c = compare_pass(conv, Pass::forward);
  const Conv2d<float> layer = conv.layer();
  const Layer<float> packed = layer.inference();
  const Tensor<float> x = random_tensor(conv.input());
  const at::Tensor blocked = to_peer(x).to_mkldnn();
  const std::int64_t padding[]{conv.padding(), conv.padding()}, stride[]{conv.stride, conv.stride}, dilation[]{1, 1};
  const at::Tensor weight = at::mkldnn_reorder_conv2d_weight(to_peer(layer.weight.value).to_mkldnn(), padding, stride,
                                                             dilation, conv.groups);
  const auto peer = [=] {
    const c10::InferenceMode inference;
    return conv.peer(blocked, weight);
  };
  c.ours = [=] { return seconds([&] { packed(x); }); };
  c.peer.push_back({"packed", [=] { return seconds([&] { peer(); }); }});
  c.difference = [=] {
    const c10::InferenceMode inference;
    return difference(packed(x), peer().to_dense(), output_tolerance);
  };
  return c;
}

}  // namespace

std::vector<Case> convolution_cases() {
  const std::vector<Convolution> all{
      {8, 56, 56, 64, 64, 3},    {8, 28, 28, 128, 128, 3},  {32, 16, 16, 32, 32, 3},     {32, 8, 8, 64, 64, 3},
      {8, 14, 14, 256, 256, 3},  {8, 7, 7, 512, 512, 3},    {32, 32, 32, 16, 16, 3},     {8, 56, 56, 64, 256, 1},
      {8, 56, 56, 256, 64, 1},   {8, 14, 14, 1024, 256, 1}, {8, 7, 7, 512, 2048, 1},     {8, 56, 56, 128, 128, 3, 2},
      {8, 224, 224, 3, 64, 7, 2}, {8, 28, 28, 256, 256, 3, 1, 32}, {8, 56, 56, 144, 144, 3, 1, 144},
      {8, 28, 28, 192, 192, 7, 1, 192}};
  std::vector<Case> cases;
  for (const Convolution& conv : all) {
    cases.push_back({conv.name() + "/forward", [conv] { return compare_pass(conv, Pass::forward); }});
    cases.push_back({conv.name() + "/gradients", [conv] { return compare_pass(conv, Pass::gradients); }});
    if (conv.H == 7) cases.push_back({conv.name() + "/inference", [conv] { return compare_packed(conv); }});
  }
  return cases;
}

}  // namespace compare
