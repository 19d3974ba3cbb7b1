// All models by name, as tests/models/make_model.py makes them: nothing in them is random in training.
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

namespace zoo {

using namespace residua;

template <typename S>
std::map<std::string, std::function<Layer<S>(Random&)>> models() {
  return {
      {"resnet18", [](Random& r) -> Layer<S> { return resnet18<S>({}, r); }},
      {"resnet34", [](Random& r) -> Layer<S> { return resnet34<S>({}, r); }},
      {"resnet50", [](Random& r) -> Layer<S> { return resnet50<S>({}, r); }},
      {"resnet101", [](Random& r) -> Layer<S> { return resnet101<S>({}, r); }},
      {"resnet152", [](Random& r) -> Layer<S> { return resnet152<S>({}, r); }},
      {"resnext50_32x4d", [](Random& r) -> Layer<S> { return resnext50_32x4d<S>({}, r); }},
      {"resnext101_32x8d", [](Random& r) -> Layer<S> { return resnext101_32x8d<S>({}, r); }},
      {"wide_resnet50_2", [](Random& r) -> Layer<S> { return wide_resnet50_2<S>({}, r); }},
      {"densenet121", [](Random& r) -> Layer<S> { return densenet121<S>({}, r); }},
      {"densenet169", [](Random& r) -> Layer<S> { return densenet169<S>({}, r); }},
      {"mobilenet_v2", [](Random& r) -> Layer<S> { return mobilenet_v2<S>({.dropout = 0}, r); }},
      {"googlenet", [](Random& r) -> Layer<S> { return googlenet<S>({.dropout = 0, .dropout_aux = 0}, r); }},
      {"inception_v3", [](Random& r) -> Layer<S> { return inception_v3<S>({.dropout = 0}, r); }},
      {"convnext_tiny", [](Random& r) -> Layer<S> { return convnext_tiny<S>({.stochastic_depth_prob = 0}, r); }},
      {"xception", [](Random& r) -> Layer<S> { return xception<S>({}, r); }},
      {"cifar_resnet20", [](Random& r) -> Layer<S> { return cifar_resnet20<S>({}, r); }},
      {"cifar_resnet32", [](Random& r) -> Layer<S> { return cifar_resnet32<S>({}, r); }},
      {"cifar_resnet44", [](Random& r) -> Layer<S> { return cifar_resnet44<S>({}, r); }},
      {"cifar_resnet56", [](Random& r) -> Layer<S> { return cifar_resnet56<S>({}, r); }},
      {"cifar_resnet110", [](Random& r) -> Layer<S> { return cifar_resnet110<S>({}, r); }},
      {"cifar_resnet1202", [](Random& r) -> Layer<S> { return cifar_resnet1202<S>({}, r); }},
      {"cifar_resnet20_b",
       [](Random& r) -> Layer<S> { return cifar_resnet20<S>({.shortcut = Shortcut::projection}, r); }},
      {"cifar_preact_resnet110", [](Random& r) -> Layer<S> { return cifar_preact_resnet110<S>({}, r); }},
      {"cifar_preact_resnet164", [](Random& r) -> Layer<S> { return cifar_preact_resnet164<S>({}, r); }},
      {"cifar_preact_resnet1001", [](Random& r) -> Layer<S> { return cifar_preact_resnet1001<S>({}, r); }},
  };
}

}  // namespace zoo
