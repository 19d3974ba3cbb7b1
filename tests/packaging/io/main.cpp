// What a user's program does with files: writes a tensor, reads it again.
#include <iostream>
#include <vector>

#include <residua/io/safetensors.hpp>
#include <residua/residua.hpp>

using namespace residua;

int main() {
  const std::vector<TensorToWrite> tensors{to_write("weight", Tensor<float>(Shape{2, 3}, 1))};
  write_safetensors("consumer.safetensors", tensors);
  const SafetensorsFile file("consumer.safetensors");
  for (const TensorInfo& info : file.tensors()) {
    std::cout << "read " << info.name << ' ' << info.dtype << ' ' << file.read<float>(info).shape() << '\n';
  }
}
