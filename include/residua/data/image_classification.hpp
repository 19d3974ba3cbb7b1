// ImageClassification: what torchvision's networks expect to be done to an image before they see it.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <residua/core/random.hpp>
#include <residua/data/batch.hpp>
#include <residua/data/resize.hpp>
#include <residua/data/transforms.hpp>

namespace residua::inline RESIDUA_ABI {

/// The preset of torchvision that weights for ImageNet come with, for an image in red, green and blue:
///
///     const ImageClassification preset;                  // ResNet's first weights; later ones: {.resize_size = 232}
///     Tensor<float> scores = net(preset(read_image("dog.jpg")));
///
/// The shorter side is resized to resize_size, a square of crop_size is cut out of the middle, and bytes x become
/// (x / 255 − mean) / std.
struct ImageClassification {
  Index crop_size = 224;
  Index resize_size = 256;
  std::vector<double> mean = {0.485, 0.456, 0.406};
  std::vector<double> std = {0.229, 0.224, 0.225};
  InterpolationMode interpolation = InterpolationMode::bilinear;

  /// The part the network sees, (crop_size, crop_size, 3), still as bytes.
  Tensor<std::uint8_t> crop(Tensor<std::uint8_t> image) const {
    return center_crop(resize_shorter_side(std::move(image), resize_size, interpolation), crop_size);
  }

  /// A batch of one, (1, crop_size, crop_size, 3); `concat` makes larger ones. Throws Error as resize and Normalize do.
  Tensor<float> operator()(Tensor<std::uint8_t> image) const {
    Random none(0);
    Tensor<float> x = Normalize{mean, std}(detail::to_numbers<float>(crop(std::move(image))), none);
    const Shape batch{1, x.dim(0), x.dim(1), x.dim(2)};
    return std::move(x).reshaped(batch);
  }
};

}  // namespace residua::inline RESIDUA_ABI
