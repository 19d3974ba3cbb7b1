// Writes what the examples are tried on: make_inputs FOLDER PICTURES, where PICTURES has at least ten.
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

#include <residua/io/weights.hpp>
#include <residua/models/cifar_resnet.hpp>

using namespace residua;
namespace fs = std::filesystem;

namespace {

void make(const fs::path& folder, const fs::path& pictures) {
  fs::remove_all(folder);
  fs::create_directories(folder / "data");
  Random rng(1);
  save_weights(cifar_resnet20<float>({}, rng), folder / "cifar_resnet20.safetensors");
  save_weights(cifar_resnet<float>(8, {.channels = 2}, rng), folder / "small.safetensors");

  // CIFAR-10's test file: grey pictures, a class after the other.
  std::ofstream out(folder / "data" / "test_batch.bin", std::ios::binary);
  for (int i = 0; i < 10'000; ++i) out << static_cast<char>(i % 10) << std::string(3072, static_cast<char>(i));

  // Two classes of eight pictures each.
  int number = 0;
  for (const auto& entry : fs::directory_iterator(pictures)) {
    const std::string ending = entry.path().extension().string();
    if (ending != ".png" && ending != ".jpg") continue;
    const fs::path to = folder / "photos" / (number % 2 == 0 ? "even" : "odd");
    fs::create_directories(to);
    fs::copy_file(entry.path(), to / entry.path().filename());
    if (++number == 16) break;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: make_inputs FOLDER PICTURES\n");
    return 2;
  }
  try {
    make(argv[1], argv[2]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
