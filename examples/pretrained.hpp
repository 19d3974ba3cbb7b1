// What classify_image and fine_tune share: a model by name, filled from a file of PyTorch's weights.
#pragma once

#include "common.hpp"

#include <string>

#include <residua/io/weights.hpp>
#include <residua/models/by_name.hpp>

namespace examples {

using namespace residua;

/// What is done to an image before the network sees it. Inception's and GoogLeNet's pixels run from −1 to 1; torchvision's
/// transform_input computes the same.
inline ImageClassification preset_of(const std::string& model) {
  if (model.starts_with("cifar_")) return {.crop_size = 32, .resize_size = 32};
  const std::vector<double> half{0.5, 0.5, 0.5};
  if (model == "inception_v3") return {.crop_size = 299, .resize_size = 342, .mean = half, .std = half};
  if (model == "xception") return {.crop_size = 299, .resize_size = 333, .mean = half, .std = half};
  if (model == "googlenet") return {.mean = half, .std = half};
  if (model == "convnext_tiny") return {.resize_size = 236};
  return {};
}

struct Pretrained {
  std::string model, weights;

  void add_options(CLI::App& app) {
    std::vector<std::string> names;
    for (const auto& [name, make] : models_by_name<float>()) names.push_back(name);
    app.add_option("--model", model, "resnet50, densenet121, convnext_tiny ...")->required()->check(CLI::IsMember(names));
    app.add_option("--weights", weights, "safetensors file with torchvision's names")->required()->check(CLI::ExistingFile);
  }

  /// The network as it was trained, with as many classes as the file's last tensor of two axes has rows.
  Layer<float> load() const {
    Random none = Random::none();
    Layer<float> net = model_named<float>(model, classes(), none);
    load_weights(net, weights);
    return net;
  }

  /// The name of the linear map at the network's end.
  std::string head() const {
    Random none = Random::none();
    std::string last;
    for (auto& [name, p] : model_named<float>(model, 2, none).named_parameters()) {
      if (p->value.rank() == 2 && name.find("aux") == std::string::npos && name.find("Aux") == std::string::npos) {
        last = name.substr(0, name.rfind('.'));
      }
    }
    return last;
  }

 private:
  Index classes() const {
    const SafetensorsFile file(weights);
    const TensorInfo* const info = file.find(head() + ".weight");
    if (info == nullptr || info->shape.rank() != 2) fail(weights, "expected a matrix ", head(), ".weight, found none");
    return info->shape[0];
  }
};

}  // namespace examples
