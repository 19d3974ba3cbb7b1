// error: residua: a layer needs Tensor<S> backward(Tensor<S> dy, Tape<S>& tape), with the network's S
#include <residua/residua.hpp>

using namespace residua;

struct Square {
  Tensor<float> forward(Tensor<float> x, Tape<float>&) const { return x; }
  static void visit(auto&, auto&&) {}
};

int main() { Layer<float> layer = Square(); }
