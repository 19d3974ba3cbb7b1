// error: residua: visit shows parameters, buffers and layers of the layer's own scalar
#include <residua/residua.hpp>

using namespace residua;

struct Scale {
  Parameter<double> a{Tensor<double>(Shape{1})};
  Tensor<float> forward(Tensor<float> x, Tape<float>&) const { return x; }
  Tensor<float> backward(Tensor<float> dy, Tape<float>&) { return dy; }
  static void visit(auto& self, auto&& v) { v("a", self.a); }
};

int main() { Layer<float> layer = Scale(); }
