// The images in expected.ppm: what PIL and torchvision compute. make_images.py makes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include <residua/core/tensor.hpp>

inline const std::filesystem::path expected_folder = std::filesystem::path(__FILE__).parent_path();

/// The files that were read and changed for them.
inline const std::filesystem::path images_folder = expected_folder.parent_path() / "fuzz" / "corpus" / "images";

/// All images (H, W, 3) by name.
inline std::map<std::string, residua::Tensor<std::uint8_t>> expected_images() {
  using namespace residua;
  std::map<std::string, Tensor<std::uint8_t>> images;
  std::ifstream in(expected_folder / "expected.ppm", std::ios::binary);
  for (std::string magic; std::getline(in, magic);) {
    std::string name;
    Index width = 0, height = 0, most = 0;
    std::getline(in, name);
    in >> width >> height >> most;
    in.get();
    Tensor<std::uint8_t> image(Shape{height, width, 3});
    in.read(reinterpret_cast<char*>(image.data()), image.size());
    if (magic != "P6" || most != 255 || !in) fail("expected.ppm", "expected images, got something else at ", name);
    images.emplace(name.substr(2), std::move(image));
  }
  return images;
}
