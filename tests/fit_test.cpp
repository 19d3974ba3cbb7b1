// fit: the same as the loop written by hand, and what it does around it. History and Progress, which it uses.
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/data/data_loader.hpp>
#include <residua/data/mix.hpp>
#include <residua/data/mixed_loader.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/loss/mse_loss.hpp>
#include <residua/optim/one_cycle_lr.hpp>
#include <residua/optim/reduce_lr_on_plateau.hpp>
#include <residua/train/fit.hpp>
#include <residua/train/interrupt.hpp>

#include "errors.hpp"
#include "small_net.hpp"

namespace {

using namespace residua;
using Net = Sequential<double>;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();
constexpr auto loss = [](const auto& outputs, const auto& targets) { return cross_entropy(outputs, targets); };

/// Images of 8×8×3 that are noise, with a brightness that tells their class of five.
ImageDataset images(Index count, std::uint64_t seed = 1) {
  Random random(seed);
  ImageDataset data{Tensor<std::uint8_t>(Shape{count, 8, 8, 3}), {}, {"0", "1", "2", "3", "4"}};
  for (Index n = 0; n < count; ++n) {
    data.labels.push_back(n % 5);
    for (Index i = 0; i < 192; ++i) {
      data.images.data()[192 * n + i] = static_cast<std::uint8_t>(40 * (n % 5) + random.below(40));
    }
  }
  return data;
}

/// A net whose dropout draws, all that a step of training needs beside it, and where it stands.
struct Started {
  Random rng{5};
  Net net = small_net::make<double>();
  SGD<double> optimizer{net.parameters(), {.lr = 0.05, .momentum = 0.9}};
  DataLoader<double> loader{images(40), {.batch_size = 8, .shuffle = true}, Random(3)};

  Started() { net.add("drop", Dropout<double>({.p = 0.1})); }
};

// --- the loop --------------------------------------------------------------------------------------------------------

TEST(Fit, IsTheLoopWrittenByHand) {
  Started by_hand, by_fit;
  OneCycleLR schedule_by_hand(by_hand.optimizer, {.max_lr = 0.1, .total_steps = 16});
  AveragedModel<Net> average_by_hand(by_hand.net, {.decay = 0.9});
  std::vector<double> losses;
  for (Index epoch = 0; epoch < 2; ++epoch) {
    double sum = 0;
    for (auto [inputs, labels] : by_hand.loader.epoch(epoch)) {
      by_hand.optimizer.zero_grad();
      Tape<double> tape(by_hand.rng, {.input_gradient = false});
      auto step_loss = cross_entropy(by_hand.net.forward(inputs, tape), labels);
      by_hand.net.backward(step_loss.gradient, tape);
      clip_grad_norm<double>(by_hand.net.parameters(), 0.5);
      by_hand.optimizer.step();
      schedule_by_hand.step();
      average_by_hand.update(by_hand.net);
      sum += step_loss.value * static_cast<double>(labels.size());
    }
    losses.push_back(sum / 40);
  }

  OneCycleLR schedule(by_fit.optimizer, {.max_lr = 0.1, .total_steps = 16});
  AveragedModel<Net> average(by_fit.net, {.decay = 0.9});
  const auto result = fit(by_fit.net, by_fit.optimizer, by_fit.loader, loss, by_fit.rng,
                          {.epochs = 2, .schedule = &schedule, .max_norm = 0.5, .average = &average});
  small_net::expect_same(small_net::state<double>(by_fit.net), small_net::state<double>(by_hand.net));
  small_net::expect_same(small_net::state<double>(average.module), small_net::state<double>(average_by_hand.module));
  EXPECT_EQ(result.history.column("loss"), losses);
  EXPECT_EQ(result.history.column("lr").back(), by_hand.optimizer.lr(0));
  EXPECT_EQ(result.steps, 10);
  EXPECT_EQ(result.epochs, 2);
  EXPECT_FALSE(result.stopped);
}

TEST(Fit, SameBitsForAnyNumberOfThreadsAndWorkers) {
  const int threads = num_threads();
  const auto trained = [](int many, Index workers) {
    set_num_threads(many);
    Started run;
    const DataLoader<double> loader(images(40), {.batch_size = 8, .shuffle = true, .num_workers = workers}, Random(3));
    const auto validate = [&](const Net& net) { return evaluate(net, loader, loss).measures(); };
    return fit(run.net, run.optimizer, loader, loss, run.rng, {.epochs = 2, .validate = validate}).history.csv();
  };
  const std::string history = trained(1, 0);
  EXPECT_EQ(trained(2, 1), history);
  EXPECT_EQ(trained(3, 3), history);
  set_num_threads(threads);
}

/// y = w x without anything that looks at a whole batch.
struct Line {
  Random rng{1};
  Sequential<double> net;
  Line() { net.add("fc", Linear<double>({.in_features = 192, .out_features = 5}, rng)); }
};
struct Rows {
  ImageDataset images;
  Index size() const { return images.size(); }
  Sample<double> operator[](Index i) const {
    const auto image = images[i];
    return {image.input.cast<double>().reshaped(Shape{192}), image.target};
  }
};

TEST(Fit, AccumulatesBatchesIntoOneStep) {
  Line small, large;
  SGD<double> small_steps(small.net.parameters(), {.lr = 1e-5}), large_steps(large.net.parameters(), {.lr = 1e-5});
  // 40 samples: five steps of 4 + 4, and five of 8, over the same order.
  const DataLoader<double, Rows> fours(Rows{images(40)}, {.batch_size = 4}, Random(1));
  const DataLoader<double, Rows> eights(Rows{images(40)}, {.batch_size = 8}, Random(1));
  const auto result = fit(small.net, small_steps, fours, loss, small.rng, {.epochs = 2, .accumulate = 2});
  fit(large.net, large_steps, eights, loss, large.rng, {.epochs = 2});
  EXPECT_EQ(result.steps, 10);
  const auto got = small_net::state<double>(small.net), expected = small_net::state<double>(large.net);
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_TRUE(got[i].second.carray().isApprox(expected[i].second.carray(), 1e-12)) << got[i].first;
  }
}

TEST(Fit, GivesTheLastStepOfAnEpochWhatIsLeft) {
  Line small, by_hand;
  SGD<double> optimizer(small.net.parameters(), {.lr = 1e-5}), other(by_hand.net.parameters(), {.lr = 1e-5});
  const DataLoader<double, Rows> loader(Rows{images(12)}, {.batch_size = 4}, Random(1));
  EXPECT_EQ(fit(small.net, optimizer, loader, loss, small.rng, {.accumulate = 2}).steps, 2);
  const auto add = [&](Index i, double share) {
    auto [inputs, labels] = loader.batch(0, i);
    Tape<double> tape(by_hand.rng);
    auto step_loss = cross_entropy(by_hand.net.forward(inputs, tape), labels);
    step_loss.gradient.array() *= share;
    by_hand.net.backward(step_loss.gradient, tape);
  };
  add(0, 0.5);
  add(1, 0.5);
  other.step();
  other.zero_grad();
  add(2, 1);
  other.step();
  small_net::expect_same(small_net::state<double>(small.net), small_net::state<double>(by_hand.net));
}

TEST(Fit, LearnsFromMixedBatchesAndGoesOnInTheMiddleOfThem) {
  const DataLoader<double> loader(images(40), {.batch_size = 8, .shuffle = true, .num_workers = 1}, Random(3));
  const MixedLoader mixed(loader, CutMix{.num_classes = 5}, Random(7));
  Started run;
  const auto result = fit(run.net, run.optimizer, mixed, loss, run.rng, {.epochs = 2});
  EXPECT_EQ(result.history.columns(), (std::vector<std::string>{"epoch", "step", "lr", "loss"}));
  EXPECT_EQ(result.steps, 10);

  std::vector<Tensor<double>> inputs, targets;
  for (auto [x, t] : mixed.epoch(1)) {
    inputs.push_back(x);
    targets.push_back(t);
  }
  ASSERT_EQ(inputs.size(), 5u);
  EXPECT_NE(inputs[3], loader.batch(1, 3).inputs);
  std::size_t i = 3;
  for (auto [x, t] : mixed.epoch(1, 3)) {
    EXPECT_EQ(x, inputs[i]);
    EXPECT_EQ(t, targets[i++]);
  }
  EXPECT_EQ(i, 5u);
}

struct Doubled {
  Index size() const { return 64; }
  Sample<double, Tensor<double>> operator[](Index i) const {
    const double x = static_cast<double>(i) / 64;
    return {Tensor<double>(Shape{1}, x), Tensor<double>(Shape{1}, 2 * x + 1)};
  }
};

TEST(Fit, LearnsNumbersToo) {
  Random rng(1);
  Linear<double> line({.in_features = 1, .out_features = 1}, rng);
  SGD<double> optimizer(line.parameters(), {.lr = 0.5, .momentum = 0.5});
  const DataLoader<double, Doubled> loader(Doubled{}, {.batch_size = 16, .shuffle = true}, rng);
  const auto square = [](const Tensor<double>& y, const Tensor<double>& t) { return mse_loss(y, t); };
  const auto result = fit(line, optimizer, loader, square, rng, {
      .epochs = 60, .validate = [&](const Linear<double>& now) { return evaluate(now, loader, square).measures(); }});
  EXPECT_EQ(result.history.columns(), (std::vector<std::string>{"epoch", "step", "lr", "loss", "val_loss"}));
  EXPECT_LT(result.history.column("val_loss").back(), 1e-6);
  EXPECT_NEAR(line.weight.value(0, 0), 2, 1e-2);
}

// --- validation, the best epoch, the end -----------------------------------------------------------------------------

/// Runs with a column val_score that is what the test says, epoch after epoch.
FitResult<Net> scored(Started& run, std::vector<double> scores, FitOptions<Net> options) {
  std::size_t epoch = 0;
  options.epochs = static_cast<Index>(scores.size());
  options.validate = [&](const Net&) { return Measures{{"score", scores[epoch++]}}; };
  options.monitor = "val_score";
  return fit(run.net, run.optimizer, run.loader, loss, run.rng, options);
}

TEST(Fit, StopsWhenPatienceIsAtItsEnd) {
  Started run;
  const auto result = scored(run, {5, 3, 4, 3, 2, 1}, {.patience = 2});
  EXPECT_EQ(result.epochs, 4);
  EXPECT_EQ(result.best_epoch, 2);
  EXPECT_EQ(result.best_value, 3);
  EXPECT_FALSE(result.stopped);
  EXPECT_FALSE(result.best);
}

TEST(Fit, CountsOnlyWhatIsBetterByMinDelta) {
  Started run;
  EXPECT_EQ(scored(run, {5, 4.9, 4.8, 4.7}, {.min_delta = 0.5}).best_epoch, 1);
}

TEST(Fit, KnowsThatMoreCanBeBetterAndThatNaNNeverIs) {
  Started run;
  EXPECT_EQ(scored(run, {nan, 1, 3, nan, 2}, {.goal = Goal::max}).best_epoch, 3);
}

TEST(Fit, KeepsTheBestNetwork) {
  Started run;
  std::vector<std::vector<std::pair<std::string, Tensor<double>>>> states;
  FitOptions<Net> options{.keep_best = true};
  options.callbacks.push_back([&](FitEvent& event) {
    if (event.at == FitEvent::At::epoch) states.push_back(small_net::state<double>(run.net));
  });
  auto result = scored(run, {3, 1, 2}, options);
  ASSERT_TRUE(result.best);
  small_net::expect_same(small_net::state<double>(*result.best), states[1]);
  small_net::expect_same(small_net::state<double>(run.net), states[2]);
}

TEST(Fit, StepsAPlateauScheduleByTheMonitoredColumn) {
  Started run;
  ReduceLROnPlateau schedule(run.optimizer, {.patience = 0});
  scored(run, {1, 1, 1}, {.schedule = &schedule, .schedule_every = Every::epoch});
  EXPECT_NEAR(run.optimizer.lr(0), 0.05 * 0.01, 1e-15);
}

TEST(Fit, TellsCallbacksWhereItIsAndStopsForThem) {
  Started run;
  std::string told;
  FitOptions<Net> options{.epochs = 3, .max_norm = 1e9};
  options.callbacks = {[&](FitEvent& event) {
                         told += std::to_string(static_cast<int>(event.at)) + ":" + std::to_string(event.epoch) +
                                 std::to_string(event.batch) + std::to_string(event.step) + " ";
                         EXPECT_EQ(event.gradient_norm > 0, event.at != FitEvent::At::start);
                       },
                       [](FitEvent& event) { event.stop = event.step == 7; }};
  const auto result = fit(run.net, run.optimizer, run.loader, loss, run.rng, options);
  EXPECT_EQ(told, "0:000 1:011 1:022 1:033 1:044 1:055 2:105 1:116 1:127 3:127 ");
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.steps, 7);
  EXPECT_EQ(result.history.rows(), 1u);
}

TEST(Fit, EndsAtALossThatIsNotFiniteAndSaysWhere) {
  Started run;
  Index calls = 0;
  const auto exploding = [&](const Tensor<double>& outputs, const std::vector<Index>& labels) {
    auto value = cross_entropy(outputs, labels);
    if (++calls == 8) value.value = nan;
    return value;
  };
  std::vector<std::pair<std::string, Tensor<double>>> last;
  const FitCallback remember = [&](FitEvent&) { last = small_net::state<double>(run.net); };
  EXPECT_EQ(message([&] {
              fit(run.net, run.optimizer, run.loader, exploding, run.rng, {.epochs = 2, .callbacks = {remember}});
            }),
            "fit: expected a finite loss, got nan at step 8 (epoch 2, batch 3)");
  small_net::expect_same(small_net::state<double>(run.net), last);
}

TEST(Fit, TellsWhatIsWrong) {
  Started run;
  const auto fails = [&](const FitOptions<Net>& options) {
    return message([&] { fit(run.net, run.optimizer, run.loader, loss, run.rng, options); });
  };
  EXPECT_EQ(fails({.epochs = -1}), "fit: expected epochs of at least 0, got -1");
  EXPECT_EQ(fails({.accumulate = 0}), "fit: expected accumulate of at least 1, got 0");
  EXPECT_EQ(fails({.max_norm = nan}), "fit: expected max_norm of at least 0, got nan");
  EXPECT_EQ(fails({.patience = -1}), "fit: expected patience of at least 0, got -1");
  EXPECT_EQ(fails({.min_delta = -1}), "fit: expected min_delta of at least 0, got -1");
  EXPECT_EQ(fails({.monitor = "charm"}), "fit: expected to monitor something that is measured, got charm");
  const DataLoader<double> none(images(5), {.batch_size = 8, .drop_last = true}, Random(1));
  EXPECT_EQ(message([&] { fit(run.net, run.optimizer, none, loss, run.rng); }),
            "fit: expected a loader with at least one batch, got none");
}

TEST(Evaluate, CountsEverySampleOnce) {
  Started run;
  const DataLoader<double> sevens(images(40), {.batch_size = 7}, Random(1)), whole(images(40), {.batch_size = 40}, Random(1));
  const Net& net = run.net;
  const Evaluation parts = evaluate(net, sevens, loss), all = evaluate(net, whole, loss);
  const auto [inputs, labels] = whole.batch(0, 0);
  EXPECT_NEAR(all.loss, cross_entropy(net(inputs), labels).value, 1e-15);
  EXPECT_NEAR(parts.loss, all.loss, 1e-12);
  EXPECT_EQ(parts.metrics->confusion_matrix(), all.metrics->confusion_matrix());
  EXPECT_EQ(parts.metrics->rows(), 40);
  EXPECT_EQ(parts.measures().size(), 2u);
}

// --- history, progress, interrupt ------------------------------------------------------------------------------------

TEST(History, IsATableOfNumbers) {
  History history;
  EXPECT_EQ(history.rows(), 0u);
  history.add({{"epoch", 1}, {"loss", 0.1}});
  history.add({{"epoch", 2}, {"loss", nan}});
  EXPECT_EQ(history.rows(), 2u);
  EXPECT_EQ(history.column("epoch"), (std::vector<double>{1, 2}));
  EXPECT_EQ(history.csv(), "epoch,loss\n1,0.1\n2,nan\n");
  EXPECT_EQ(message([&] { history.add({{"epoch", 3}}); }), "History: expected the columns epoch,loss, got epoch");
  EXPECT_EQ(message([&] { history.column("x"); }), "History: expected one of the columns epoch,loss, got x");
  EXPECT_EQ(message([&] { History().add({{"a,b", 1}}); }),
            "History: expected names without commas, quotes and line breaks, got 'a,b'");
}

TEST(Progress, WritesPlainLinesIntoAFile) {
  std::FILE* const file = std::tmpfile();
  {
    Progress progress(file, 100, "images");
    for (Index done = 5; done <= 100; done += 5) progress.update(done, "text");
  }
  std::rewind(file);
  int lines = 0;
  char line[200];
  std::string last;
  while (std::fgets(line, sizeof line, file)) {
    ++lines;
    last = line;
  }
  std::fclose(file);
  EXPECT_EQ(lines, 10);
  EXPECT_EQ(last.substr(0, 12), "100%  text  ");
  EXPECT_NE(last.find(" images/s  0:00 in all\n"), std::string::npos) << last;
  EXPECT_EQ(last.find('\r'), std::string::npos);
  Progress(nullptr, 10, "images").update(5, "text");
}

TEST(Interrupt, NotesASignal) {
  const Interrupt interrupt;
  EXPECT_FALSE(interrupt.requested());
  std::raise(SIGINT);
  EXPECT_TRUE(interrupt.requested());
  EXPECT_EQ(interrupt.signal(), SIGINT);
}

}  // namespace
