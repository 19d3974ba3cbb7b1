// The names that the pages' fragments take as given.
#pragma once

#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <residua/residua.hpp>

using namespace residua;

#define GIVEN                                                                                                   \
  Random rng(42);                                                                                               \
  Sequential<float> net;                                                                                        \
  net.add("pool", GlobalAvgPool2d<float>());                                                                    \
  net.add("fc", Linear<float>({.in_features = 3, .out_features = 10}, rng));                                    \
  SGD<float> optimizer(net.parameters(), {.lr = 0.1});                                                          \
  Tensor<float> images(Shape{8, 32, 32, 3});                                                                    \
  std::vector<Index> labels(8, 7);
