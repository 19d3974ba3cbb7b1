// All models, by a name that is only known when the program runs. Costs the compiler all of them.
#pragma once

#include <functional>
#include <map>
#include <string>

#include <residua/models/cifar_resnet.hpp>
#include <residua/models/convnext.hpp>
#include <residua/models/densenet.hpp>
#include <residua/models/googlenet.hpp>
#include <residua/models/inception_v3.hpp>
#include <residua/models/mobilenet_v2.hpp>
#include <residua/models/resnet.hpp>
#include <residua/models/xception.hpp>

namespace residua::inline RESIDUA_ABI {

/// Builds one model with a number of classes, all else as by default.
template <typename S>
using ModelMaker = std::function<Layer<S>(Index num_classes, Random& random)>;

/// The makers of all models by name.
template <typename S>
const std::map<std::string, ModelMaker<S>>& models_by_name() {
  static const std::map<std::string, ModelMaker<S>> makers{
      {"resnet18", [](Index n, Random& r) -> Layer<S> { return resnet18<S>({.num_classes = n}, r); }},
      {"resnet34", [](Index n, Random& r) -> Layer<S> { return resnet34<S>({.num_classes = n}, r); }},
      {"resnet50", [](Index n, Random& r) -> Layer<S> { return resnet50<S>({.num_classes = n}, r); }},
      {"resnet101", [](Index n, Random& r) -> Layer<S> { return resnet101<S>({.num_classes = n}, r); }},
      {"resnet152", [](Index n, Random& r) -> Layer<S> { return resnet152<S>({.num_classes = n}, r); }},
      {"resnext50_32x4d", [](Index n, Random& r) -> Layer<S> { return resnext50_32x4d<S>({.num_classes = n}, r); }},
      {"resnext101_32x8d", [](Index n, Random& r) -> Layer<S> { return resnext101_32x8d<S>({.num_classes = n}, r); }},
      {"wide_resnet50_2", [](Index n, Random& r) -> Layer<S> { return wide_resnet50_2<S>({.num_classes = n}, r); }},
      {"densenet121", [](Index n, Random& r) -> Layer<S> { return densenet121<S>({.num_classes = n}, r); }},
      {"densenet169", [](Index n, Random& r) -> Layer<S> { return densenet169<S>({.num_classes = n}, r); }},
      {"mobilenet_v2", [](Index n, Random& r) -> Layer<S> { return mobilenet_v2<S>({.num_classes = n}, r); }},
      {"googlenet", [](Index n, Random& r) -> Layer<S> { return googlenet<S>({.num_classes = n}, r); }},
      {"inception_v3", [](Index n, Random& r) -> Layer<S> { return inception_v3<S>({.num_classes = n}, r); }},
      {"convnext_tiny", [](Index n, Random& r) -> Layer<S> { return convnext_tiny<S>({.num_classes = n}, r); }},
      {"xception", [](Index n, Random& r) -> Layer<S> { return xception<S>({.num_classes = n}, r); }},
      {"cifar_resnet20", [](Index n, Random& r) -> Layer<S> { return cifar_resnet20<S>({.num_classes = n}, r); }},
      {"cifar_resnet32", [](Index n, Random& r) -> Layer<S> { return cifar_resnet32<S>({.num_classes = n}, r); }},
      {"cifar_resnet44", [](Index n, Random& r) -> Layer<S> { return cifar_resnet44<S>({.num_classes = n}, r); }},
      {"cifar_resnet56", [](Index n, Random& r) -> Layer<S> { return cifar_resnet56<S>({.num_classes = n}, r); }},
      {"cifar_resnet110", [](Index n, Random& r) -> Layer<S> { return cifar_resnet110<S>({.num_classes = n}, r); }},
      {"cifar_resnet1202", [](Index n, Random& r) -> Layer<S> { return cifar_resnet1202<S>({.num_classes = n}, r); }},
      {"cifar_preact_resnet110", [](Index n, Random& r) -> Layer<S> { return cifar_preact_resnet110<S>({.num_classes = n}, r); }},
      {"cifar_preact_resnet164", [](Index n, Random& r) -> Layer<S> { return cifar_preact_resnet164<S>({.num_classes = n}, r); }},
      {"cifar_preact_resnet1001",
       [](Index n, Random& r) -> Layer<S> { return cifar_preact_resnet1001<S>({.num_classes = n}, r); }},
  };
  return makers;
}

/// The model of that name:
///
///     Random none = Random::none();                            // a file will fill it
///     Layer<float> net = model_named<float>("resnet50", 1000, none);
///     load_weights(net, "resnet50.safetensors");
///
/// Throws Error, with all the names, for one that is none of them.
template <typename S>
Layer<S> model_named(const std::string& name, Index num_classes, Random& random) {
  const auto& makers = models_by_name<S>();
  const auto found = makers.find(name);
  if (found != makers.end()) return found->second(num_classes, random);
  std::string names;
  for (const auto& [other, make] : makers) names += (names.empty() ? "" : ", ") + other;
  fail("model_named", "expected one of ", names, ", got '", name, "'");
}

}  // namespace residua::inline RESIDUA_ABI
