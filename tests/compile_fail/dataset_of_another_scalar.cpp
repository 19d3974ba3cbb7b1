// error: residua: a sample's input is a Tensor<S>, or a Tensor<std::uint8_t>
#include <residua/residua.hpp>

using namespace residua;

struct Ones {
  Index size() const { return 1; }
  Sample<double> operator[](Index) const { return {Tensor<double>(Shape{1}, 1), 0}; }
};

int main() { DataLoader<float, Ones>(Ones(), {}, Random(1)).batch(0, 0); }
