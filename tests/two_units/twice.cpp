// The other of two translation units that include the library.
#include <residua/residua.hpp>

using namespace residua;

Tensor<float> twice(Tensor<float> x);

Tensor<float> twice(Tensor<float> x) {
  x.array() *= 2;
  return Identity<float>()(std::move(x));
}
