// Inception v3: large convolutions taken apart into small ones, side by side, with an auxiliary head.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include <residua/blocks/concat.hpp>
#include <residua/blocks/trunk.hpp>
#include <residua/layers/avg_pool2d.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/layers/global_avg_pool2d.hpp>
#include <residua/layers/max_pool2d.hpp>
#include <residua/models/conv_norm_relu.hpp>

namespace residua::inline RESIDUA_ABI {

struct InceptionV3Options {
  Index num_classes = 1000;
  bool aux_logits = true;        ///< with the head AuxLogits
  bool transform_input = false;  ///< images are normalised as for torchvision's other networks
  double dropout = 0.5;
  double width_mult = 1;         ///< times as many channels everywhere, rounded down
};

namespace detail {

struct InceptionConvolution {
  std::string name;
  Index out;
  Pair kernel_size, padding = 0, stride = 1;
};

/// The modules, in torchvision's names. Numbers of channels are the paper's times width_mult, but for the inputs'.
template <typename S>
class InceptionModules {
 public:
  explicit InceptionModules(double width_mult) : width_mult_(width_mult) {}

  Index wide(Index channels) const { return static_cast<Index>(static_cast<double>(channels) * width_mult_); }

  /// One convolution after the other.
  Sequential<S> chain(Index in, std::initializer_list<InceptionConvolution> convolutions) const {
    Sequential<S> layers;
    for (const auto& [name, out, kernel_size, padding, stride] : convolutions) {
      layers.add(name, conv_norm_relu<S>({.in_channels = in, .out_channels = wide(out), .kernel_size = kernel_size,
                                          .stride = stride, .padding = padding}));
      in = wide(out);
    }
    return layers;
  }

  static MaxPool2d<S> max_pool() { return MaxPool2d<S>({.kernel_size = 3, .stride = 2}); }

  /// Figure 5.
  Concat<S> a(Index in, Index pool_features) const {
    Concat<S> module;
    module.add("", chain(in, {{"branch1x1", 64, 1}}));
    module.add("", chain(in, {{"branch5x5_1", 48, 1}, {"branch5x5_2", 64, 5, 2}}));
    module.add("", chain(in, {{"branch3x3dbl_1", 64, 1}, {"branch3x3dbl_2", 96, 3, 1}, {"branch3x3dbl_3", 96, 3, 1}}));
    module.add("", pooled(in, pool_features));
    return module;
  }

  /// Figure 10: half the size.
  Concat<S> b(Index in) const {
    Concat<S> module;
    module.add("", chain(in, {{"branch3x3", 384, 3, 0, 2}}));
    module.add("", chain(in, {{"branch3x3dbl_1", 64, 1}, {"branch3x3dbl_2", 96, 3, 1}, {"branch3x3dbl_3", 96, 3, 0, 2}}));
    module.add("", max_pool());
    return module;
  }

  /// Figure 6, n = 7.
  Concat<S> c(Index in, Index c7) const {
    Concat<S> module;
    module.add("", chain(in, {{"branch1x1", 192, 1}}));
    module.add("", chain(in, {{"branch7x7_1", c7, 1},
                              {"branch7x7_2", c7, {1, 7}, {0, 3}},
                              {"branch7x7_3", 192, {7, 1}, {3, 0}}}));
    module.add("", chain(in, {{"branch7x7dbl_1", c7, 1},
                              {"branch7x7dbl_2", c7, {7, 1}, {3, 0}},
                              {"branch7x7dbl_3", c7, {1, 7}, {0, 3}},
                              {"branch7x7dbl_4", c7, {7, 1}, {3, 0}},
                              {"branch7x7dbl_5", 192, {1, 7}, {0, 3}}}));
    module.add("", pooled(in, 192));
    return module;
  }

  /// Half the size again.
  Concat<S> d(Index in) const {
    Concat<S> module;
    module.add("", chain(in, {{"branch3x3_1", 192, 1}, {"branch3x3_2", 320, 3, 0, 2}}));
    module.add("", chain(in, {{"branch7x7x3_1", 192, 1},
                              {"branch7x7x3_2", 192, {1, 7}, {0, 3}},
                              {"branch7x7x3_3", 192, {7, 1}, {3, 0}},
                              {"branch7x7x3_4", 192, 3, 0, 2}}));
    module.add("", max_pool());
    return module;
  }

  /// Figure 7.
  Concat<S> e(Index in) const {
    Concat<S> module;
    module.add("", chain(in, {{"branch1x1", 320, 1}}));
    module.add("", chain(in, {{"branch3x3_1", 384, 1}}).add("", row_and_column("branch3x3_2")));
    module.add("", chain(in, {{"branch3x3dbl_1", 448, 1}, {"branch3x3dbl_2", 384, 3, 1}})
                       .add("", row_and_column("branch3x3dbl_3")));
    module.add("", pooled(in, 192));
    return module;
  }

  Sequential<S> head(Index in, Index num_classes, Random& random) const {
    Sequential<S> layers;
    layers.add("avgpool0", AvgPool2d<S>({.kernel_size = 5, .stride = 3}));
    layers.add("", chain(in, {{"conv0", 128, 1}, {"conv1", 768, 5}}));
    layers.add("avgpool1", GlobalAvgPool2d<S>());
    layers.add("fc", Linear<S>({.in_features = wide(768), .out_features = num_classes}, random));
    return layers;
  }

 private:
  Sequential<S> pooled(Index in, Index out) const {
    Sequential<S> layers;
    layers.add("", AvgPool2d<S>({.kernel_size = 3, .stride = 1, .padding = 1}));
    return layers.add("", chain(in, {{"branch_pool", out, 1}}));
  }

  Concat<S> row_and_column(const std::string& name) const {
    Concat<S> both;
    both.add("", chain(wide(384), {{name + "a", 384, {1, 3}, {0, 1}}}));
    return both.add("", chain(wide(384), {{name + "b", 384, {3, 1}, {1, 0}}}));
  }

  double width_mult_;
};

}  // namespace detail

/// images (N, H, W, 3) → logits (N, num_classes), of 299×299 or any size from 75×75 on. With aux_logits forward_all gives
/// those of the head AuxLogits behind Mixed_6e, too.
///
/// Names and weights are torchvision's: Conv2d_1a_3x3.conv, …, Mixed_5b.branch5x5_1.bn, …, AuxLogits.fc, …, fc. Weights
/// start normal with standard deviation 0.1; in the head the last convolution with 0.01, the linear map with 0.001.
///
/// Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer Vision" (2015).
template <typename S>
Trunk<S> inception_v3(const InceptionV3Options& o, Random& random) {
  if (!(o.width_mult > 0)) fail("inception_v3", "expected a positive width_mult, got ", o.width_mult);
  const detail::InceptionModules<S> make(o.width_mult);
  const auto wide = [&](Index channels) { return make.wide(channels); };
  // What a module gives: its branches one after the other.
  const auto out_a = [&](Index pool) { return 2 * wide(64) + wide(96) + wide(pool); };
  const Index out_b = wide(384) + wide(96) + out_a(64), out_c = 4 * wide(192), out_d = wide(320) + wide(192) + out_c;
  const Index out_e = wide(320) + 4 * wide(384) + wide(192);

  Trunk<S> net;
  if (o.transform_input) net.add("transform_input", detail::transform_input<S>());
  net.add("", make.chain(3, {{"Conv2d_1a_3x3", 32, 3, 0, 2}, {"Conv2d_2a_3x3", 32, 3}, {"Conv2d_2b_3x3", 64, 3, 1}}));
  net.add("maxpool1", make.max_pool());
  net.add("", make.chain(wide(64), {{"Conv2d_3b_1x1", 80, 1}, {"Conv2d_4a_3x3", 192, 3}}));
  net.add("maxpool2", make.max_pool());
  net.add("Mixed_5b", make.a(wide(192), 32));
  net.add("Mixed_5c", make.a(out_a(32), 64));
  net.add("Mixed_5d", make.a(out_a(64), 64));
  net.add("Mixed_6a", make.b(out_a(64)));
  net.add("Mixed_6b", make.c(out_b, 128));
  net.add("Mixed_6c", make.c(out_c, 160));
  net.add("Mixed_6d", make.c(out_c, 160));
  net.add("Mixed_6e", make.c(out_c, 192));
  if (o.aux_logits) net.add_head("AuxLogits", make.head(out_c, o.num_classes, random));
  net.add("Mixed_7a", make.d(out_c));
  net.add("Mixed_7b", make.e(out_d));
  net.add("Mixed_7c", make.e(out_e));
  net.add("avgpool", GlobalAvgPool2d<S>());
  net.add("dropout", Dropout<S>({.p = o.dropout}));
  net.add("fc", Linear<S>({.in_features = out_e, .out_features = o.num_classes}, random));

  detail::draw_truncated<S>(net, 0.1, random);
  if (o.aux_logits) {
    const auto draw = [&](Parameter<S>& weight, double stddev) {
      weight.value = init::truncated_normal<S>(weight.value.shape(), stddev, 2, random);
    };
    draw(net.template get<Conv2d<S>>("AuxLogits.conv1.conv").weight, 0.01);
    draw(net.template get<Linear<S>>("AuxLogits.fc").weight, 0.001);
  }
  return net;
}

}  // namespace residua::inline RESIDUA_ABI
