// The images of the study: CIFAR-10, or textured shapes drawn on the spot.
#pragma once

#include "settings.hpp"

#include <residua/data/cifar.hpp>
#include <residua/data/textured_shapes.hpp>

namespace study {

struct Images {
  ImageDataset train, test;
  Normalize normalize;

  explicit Images(const Settings& s) {
    if (s.data.empty()) {
      train = textured_shapes(s.train_images, Random(1));
      test = textured_shapes(s.test_images, Random(2));
      normalize = {{0.5, 0.5, 0.5}, {0.25, 0.25, 0.25}};
    } else {
      train = read_cifar10(s.data, Split::train).first(s.train_images);
      test = read_cifar10(s.data, Split::test).first(s.test_images);
      normalize = {{0.4914, 0.4822, 0.4465}, {0.2470, 0.2435, 0.2616}};
    }
  }

  /// Batches to learn from.
  DataLoader<float> training(const Settings& s, const Random& random) const {
    std::vector<Transform<float>> transforms;
    if (s.augment) transforms = {RandomCrop{.size = 32, .padding = 4}, RandomHorizontalFlip{}};
    transforms.push_back(normalize);
    return {train, {.batch_size = s.batch, .shuffle = true, .drop_last = true}, random, transforms};
  }

  /// Batches to be judged by, after what is done to the images.
  DataLoader<float> judging(const ImageDataset& images, std::vector<Transform<float>> done = {}) const {
    done.push_back(normalize);
    return {images, {.batch_size = 100}, Random(3), done};
  }
};

}  // namespace study
