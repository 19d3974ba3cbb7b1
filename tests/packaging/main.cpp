// What a user's program does: composes a network, trains it one step, predicts.
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <residua/residua.hpp>

using namespace residua;

/// A layer of one's own: y = a ⊙ x.
template <typename S>
struct Scale {
  Parameter<S> a;
  explicit Scale(Index features) : a(Tensor<S>(Shape{features}, S(1))) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    Tensor<S> y(x.shape(), uninitialized);
    y.matrix() = x.cmatrix() * a.value.carray().matrix().asDiagonal();
    tape.push(std::move(x));
    return y;
  }
  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto x = tape.template pop<Tensor<S>>();
    a.add_gradient(dy.cmatrix().cwiseProduct(x.cmatrix()).colwise().sum());
    dy.matrix() = dy.cmatrix() * a.value.carray().matrix().asDiagonal();
    return dy;
  }
  static void visit(auto& self, auto&& v) { v("a", self.a); }
};

int main() {
  Random rng(42);

  Sequential<float> net;
  net.add("conv1", Conv2d<float>({.in_channels = 3, .out_channels = 16, .kernel_size = 3, .padding = 1, .bias = false}, rng));
  net.add("bn1", BatchNorm<float>({.num_features = 16}));
  net.add("relu", ReLU<float>());
  net.add("scale", Scale<float>(16));
  for (int i = 0; i < 9; ++i)
    net.add("block" + std::to_string(i), ResidualBlock<float>({.in_channels = 16, .out_channels = 16}, rng));
  net.add("pool", GlobalAvgPool2d<float>());
  net.add("fc", Linear<float>({.in_features = 16, .out_features = 10}, rng));

  SGD<float> optimizer(net.parameters(), {.lr = 0.1, .momentum = 0.9, .weight_decay = 1e-4});
  Tensor<float> images(Shape{32, 32, 32, 3});
  std::vector<Index> labels(32, 7);

  optimizer.zero_grad();
  Tape<float> tape(rng);
  Tensor<float> logits = net.forward(images, tape);
  auto loss = cross_entropy(logits, labels);
  Tensor<float> dimages = net.backward(loss.gradient, tape);
  optimizer.step();

  std::cout << summary(net, images.shape());
  const auto& model = net;
  Tensor<float> scores = inference(model)(images);
  std::cout << "loss " << loss.value << ", gradient " << dimages.shape() << ", scores " << scores.shape() << '\n';
}
