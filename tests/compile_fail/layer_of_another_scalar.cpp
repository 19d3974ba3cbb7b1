// error: residua: a layer needs Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const, with the network's S
#include <residua/residua.hpp>

using namespace residua;

int main() { Layer<float> layer = ReLU<double>(); }
