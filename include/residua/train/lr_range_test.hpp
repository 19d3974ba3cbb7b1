// lr_range_test: which learning rates a network can be trained with.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <residua/core/tape.hpp>
#include <residua/train/history.hpp>

namespace residua::inline RESIDUA_ABI {

struct LRRangeTestOptions {
  double start_lr = 1e-5;
  double end_lr = 10;
  Index num_iter = 100;     ///< steps between them
  double diverge_th = 5;    ///< stop when the loss is this many times its smallest so far
};

/// Trains a copy of `net` while the learning rate grows from step to step, by the same factor each time:
///
///     lr_i = start_lr · (end_lr / start_lr)^(i / (num_iter − 1)),   i = 0 … num_iter − 1
///
/// and returns a row with lr and loss for each step, the loss before the step. A good learning rate is somewhat below the
/// one where the loss falls fastest; where it rises again, rates are too large. `make_optimizer` makes an optimizer for
/// the copy's parameters:
///
///     const auto sgd = [](auto parameters) { return SGD<float>(parameters, {.lr = 1, .momentum = 0.9}); };
///     std::cout << lr_range_test(net, sgd, loader, loss, rng).csv();
///
/// It ends early with a loss that is diverge_th times the smallest so far or not finite; that row is the last. The loader
/// is gone through as often as is needed, one epoch after another. Nothing happens to `net`, and `random` is a copy.
/// Throws Error for learning rates that are not 0 < start_lr < end_lr, num_iter below 2, a diverge_th of 1 or less, or a
/// loader without batches.
///
/// Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), section 3.3.
template <typename Net, typename MakeOptimizer, typename Loader, typename LossFunction>
History lr_range_test(const Net& net, MakeOptimizer&& make_optimizer, const Loader& loader, LossFunction&& loss,
                      Random random, const LRRangeTestOptions& o = {}) {
  const char* const place = "lr_range_test";
  if (!(o.start_lr > 0 && o.start_lr < o.end_lr && std::isfinite(o.end_lr))) {
    fail(place, "expected learning rates of which 0 < start_lr < end_lr, got ", o.start_lr, " and ", o.end_lr);
  }
  if (o.num_iter < 2) fail(place, "expected num_iter of at least 2, got ", o.num_iter);
  if (!(o.diverge_th > 1)) fail(place, "expected diverge_th above 1, got ", o.diverge_th);
  if (loader.size() < 1) fail(place, "expected a loader with at least one batch, got none");

  Net copy = net;
  auto optimizer = make_optimizer(copy.parameters());
  History history;
  double smallest = std::numeric_limits<double>::infinity();
  for (Index step = 0, epoch = 0; step < o.num_iter; ++epoch) {
    for (auto&& batch : loader.epoch(epoch)) {
      const double done = static_cast<double>(step) / static_cast<double>(o.num_iter - 1);
      const double lr = o.start_lr * std::pow(o.end_lr / o.start_lr, done);
      for (Index group = 0; group < optimizer.group_count(); ++group) optimizer.lr(group) = lr;

      optimizer.zero_grad();
      Tape<typename Net::Scalar> tape(random, {.input_gradient = false});
      auto l = loss(copy.forward(std::move(batch.inputs), tape), batch.targets);
      history.add({{"lr", lr}, {"loss", l.value}});
      smallest = std::min(smallest, l.value);
      if (!std::isfinite(l.value) || l.value > o.diverge_th * smallest) return history;
      copy.backward(std::move(l.gradient), tape);
      optimizer.step();
      if (++step == o.num_iter) break;
    }
  }
  return history;
}

}  // namespace residua::inline RESIDUA_ABI
