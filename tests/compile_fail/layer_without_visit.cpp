// error: residua: a layer needs static void visit(auto& self, auto&& v)
#include <residua/residua.hpp>

using namespace residua;

struct Square {
  Tensor<float> forward(Tensor<float> x, Tape<float>&) const { return x; }
  Tensor<float> backward(Tensor<float> dy, Tape<float>&) { return dy; }
};

int main() { Layer<float> layer = Square(); }
