// error: residua: a layer needs Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const, with the network's S
#include <residua/residua.hpp>

using namespace residua;

struct Square {
  Tensor<float> forward(Tensor<float> x, Tape<float>&) { return x; }
  Tensor<float> backward(Tensor<float> dy, Tape<float>&) { return dy; }
  static void visit(auto&, auto&&) {}
};

int main() { Layer<float> layer = Square(); }
