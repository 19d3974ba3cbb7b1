// One training step of a layer on its own, that it does not depend on the number of threads, and layers as after many.
#pragma once

#include <utility>

#include <gtest/gtest.h>

#include <residua/core/layer.hpp>
#include <residua/core/threads.hpp>
#include <residua/layers/init.hpp>

#include "tensors.hpp"

/// Output and input gradient of one training step, drawn from the same seed each time.
template <typename S, typename L>
std::pair<residua::Tensor<S>, residua::Tensor<S>> step(L& layer, const residua::Tensor<S>& x,
                                                       residua::TapeOptions options = {}) {
  residua::Random random(5);
  residua::Tape<S> tape(random, options);
  residua::Tensor<S> y = layer.forward(x, tape);
  residua::Tensor<S> dx = layer.backward(normal<S>(y.shape(), 8), tape);
  EXPECT_TRUE(tape.empty());
  return {y, dx};
}

template <typename S, typename L>
void expect_same_bits_for_any_threads(L layer, const residua::Tensor<S>& x) {
  const int before = residua::num_threads();
  residua::set_num_threads(1);
  const auto [y, dx] = step(layer, x);
  for (int threads : {2, 3}) {
    residua::set_num_threads(threads);
    const auto [y2, dx2] = step(layer, x);
    EXPECT_TRUE(same_bits(y, y2)) << threads << " threads";
    EXPECT_TRUE(same_bits(dx, dx2)) << threads << " threads";
  }
  residua::set_num_threads(before);
}

/// Weights and statistics as after some training.
template <typename Net>
void age(Net& net, std::uint64_t seed = 11) {
  using S = typename Net::Scalar;
  residua::Random random(seed);
  for (auto& p : net.parameters()) {
    p->value.array() += residua::init::normal<S>(p->value.shape(), 0, 0.1, random).carray();
  }
  for (auto& [path, b] : net.named_buffers()) {
    b->value.array() += residua::init::uniform<S>(b->value.shape(), 0, 0.5, random).carray();
  }
}
