// error: residua: a layer is a value and must be copyable
#include <residua/residua.hpp>

using namespace residua;

#include <memory>

struct Square {
  std::unique_ptr<int> state;
  Tensor<float> forward(Tensor<float> x, Tape<float>&) const { return x; }
  Tensor<float> backward(Tensor<float> dy, Tape<float>&) { return dy; }
  static void visit(auto&, auto&&) {}
};

int main() { Layer<float> layer = Square(); }
