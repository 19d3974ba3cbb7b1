// save_checkpoint, resume and fit's Checkpoints: nothing lost, nothing changed by a file that does not fit, and a run that
// goes on as if it had never stopped.
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <residua/data/data_loader.hpp>
#include <residua/io/checkpoints.hpp>
#include <residua/io/history_file.hpp>
#include <residua/layers/dropout.hpp>
#include <residua/layers/layer_norm.hpp>
#include <residua/optim/adam.hpp>
#include <residua/optim/one_cycle_lr.hpp>
#include <residua/train/fit.hpp>

#include "errors.hpp"
#include "io/folder.hpp"
#include "small_net.hpp"

namespace {

using namespace residua;
namespace fs = std::filesystem;
using Net = Sequential<float>;

constexpr auto loss = [](const auto& outputs, const auto& targets) { return cross_entropy(outputs, targets); };

using Checkpoint = InFolder;

// --- one file --------------------------------------------------------------------------------------------------------

/// Something of every kind.
struct Everything {
  Net net = small_net::make<float>(1);
  Adam<float> optimizer{net.parameters(), {.lr = 0.01}};
  Random rng{9};
  double real = 0.1;
  Index count = 3;
  std::uint64_t word = ~0ull;
  bool flag = true;
  std::string text = "so";
  std::vector<double> numbers{1, -0.0, 1e-310};
  Tensor<double> tensor{Shape{2, 1}, 0.3};

  explicit Everything(Index steps = 0) {
    for (Index i = 0; i < steps; ++i) {
      for (auto& p : net.parameters()) p->grad = Tensor<float>(p->value.shape(), 0.1f * static_cast<float>(i + 1));
      optimizer.step();
      rng.bits();
    }
  }
  static void visit(auto& self, auto&& v) {
    v("real", self.real);
    v("count", self.count);
    v("word", self.word);
    v("flag", self.flag);
    v("text", self.text);
    v("numbers", self.numbers);
    v("tensor", self.tensor);
  }
  State state() { return State().add("", net).add("optimizer", optimizer).add("rng", rng).add("own", *this); }
};

TEST_F(Checkpoint, BringsBackEveryBit) {
  Everything saved(2), other;
  save_checkpoint(saved.state(), path("a"), {{"who", "we"}});
  other.real = 0;
  other.text = "something longer";
  other.numbers.clear();
  other.flag = false;
  other.tensor = Tensor<double>(Shape{2, 1});
  const Metadata metadata = resume(other.state(), path("a"));
  EXPECT_EQ(metadata.at("who"), "we");
  small_net::expect_same(small_net::state<float>(other.net), small_net::state<float>(saved.net));
  EXPECT_EQ(other.real, 0.1);
  EXPECT_EQ(other.word, ~0ull);
  EXPECT_TRUE(other.flag);
  EXPECT_EQ(other.text, "so");
  EXPECT_EQ(other.numbers, saved.numbers);
  EXPECT_TRUE(std::signbit(other.numbers[1]));
  EXPECT_EQ(other.tensor, saved.tensor);
  EXPECT_EQ(other.rng.bits(), saved.rng.bits());
  // Saved again it is the same file: also what no getter shows came back.
  Everything third;
  resume(third.state(), path("a"));
  save_checkpoint(third.state(), path("b"), {{"who", "we"}});
  EXPECT_EQ(content(path("a")), content(path("b")));
}

TEST_F(Checkpoint, HasPyTorchsNamesAndShapes) {
  Everything run(1);
  save_checkpoint(run.state(), path("a"));
  const SafetensorsFile file(path("a"));
  const TensorInfo* const weight = file.find("layer2.0.branch.0.conv.weight");
  std::string names;
  for (const TensorInfo& info : file.tensors()) names += info.name + '\n';
  ASSERT_NE(weight, nullptr) << names;
  EXPECT_EQ(weight->shape, (Shape{12, 8, 3, 3}));
  const auto value = run.net.named_parameters();
  const TensorInfo* tracked = file.find("stem.bn.num_batches_tracked");
  ASSERT_NE(tracked, nullptr) << names;
  EXPECT_EQ(tracked->dtype, Dtype::I64);
  EXPECT_EQ(tracked->shape, Shape{});
  const Tensor<float> stem = file.read<float>(*file.find("stem.conv.weight"));
  EXPECT_EQ(to_channels_last(stem), run.net.get<Conv2d<float>>("stem.conv").weight.value);
  const TensorInfo* moment = file.find("optimizer/0.exp_avg");
  ASSERT_NE(moment, nullptr) << names;
  EXPECT_EQ(moment->shape, stem.shape());
}

TEST_F(Checkpoint, OfAnotherRunIsRefusedWithAllDifferencesAndNothingChanged) {
  Everything saved(1), other;
  save_checkpoint(saved.state(), path("a"));
  other.net = small_net::make<float>(2);
  Random rng(1);
  Net wider;
  wider.add("stem", small_net::conv_bn<float>(3, 9, 3, 1, rng)).add("extra", Linear<float>({2, 2}, rng));
  State state;
  state.add("", wider).add("rng", other.rng);
  const auto before = small_net::state<float>(wider);
  const std::string text = message([&] { resume(state, path("a")); });
  for (const char* part :
       {"a: expected a checkpoint of this run, got another one; missing: extra.weight, extra.bias; unexpected: ",
        "optimizer/group0.lr", "fc.weight", "own/text",
        "different: stem.conv.weight (expected F32 [9, 3, 3, 3], got F32 [8, 3, 3, 3])"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\nin: " << text;
  }
  small_net::expect_same(small_net::state<float>(wider), before);
  EXPECT_EQ(other.rng.bits(), Random(9).bits());
}

TEST_F(Checkpoint, GivesOnePartWhereTheOthersAreLeftAside) {
  Everything saved(2), other;
  save_checkpoint(saved.state(), path("a"));
  State net;
  net.add("", other.net);
  resume(net, path("a"), {.ignore_other_parts = true});
  small_net::expect_same(small_net::state<float>(other.net), small_net::state<float>(saved.net));
}

TEST_F(Checkpoint, ThatIsDamagedAnywhereIsRefused) {
  Everything saved(1);
  save_checkpoint(saved.state(), path("a"));
  const std::string whole = content(path("a"));
  Random random(4);
  for (int i = 0; i < 200; ++i) {
    std::string damaged = whole;
    if (i % 2 == 0) {
      damaged[static_cast<std::size_t>(random.below(static_cast<Index>(whole.size())))] ^=
          static_cast<char>(1 << random.below(8));
    } else {
      damaged.resize(static_cast<std::size_t>(random.below(static_cast<Index>(whole.size()))));
    }
    put(path("b"), damaged);
    Everything other;
    const auto before = small_net::state<float>(other.net);
    EXPECT_NE(message([&] { resume(other.state(), path("b")); }), "no error") << i;
    small_net::expect_same(small_net::state<float>(other.net), before);
    EXPECT_EQ(other.text, "so");
  }
}

struct Counter {
  Index count;
  static void visit(auto& self, auto&& v) { v("count", self.count); }
};

TEST_F(Checkpoint, RefusesCountsThatAreNone) {
  Counter good{5}, bad{-1};
  State bad_state, good_state;
  bad_state.add("", bad);
  good_state.add("", good);
  save_checkpoint(bad_state, path("a"));
  EXPECT_EQ(message([&] { resume(good_state, path("a")); }),
            path("a") + ": expected a count from 0 to 2^53 as count, got -1");
  EXPECT_EQ(good.count, 5);
}

// --- a whole run -----------------------------------------------------------------------------------------------------

ImageDataset noise(Index count) {
  Random random(2);
  ImageDataset data{Tensor<std::uint8_t>(Shape{count, 8, 8, 3}), {}, {"0", "1", "2", "3", "4"}};
  for (Index i = 0; i < data.images.size(); ++i) data.images.data()[i] = static_cast<std::uint8_t>(random.below(256));
  for (Index n = 0; n < count; ++n) data.labels.push_back(n % 5);
  return data;
}

/// A training with everything that has state; the same from the start each time it is made.
struct Training {
  Random rng{5};
  Net net = small_net::make<float>();
  AdamW<float> optimizer{net.parameters(), {.lr = 0.01}};
  OneCycleLR schedule{optimizer, {.max_lr = 0.02, .total_steps = 12}};
  AveragedModel<Net> average{net, {.decay = 0.9}};
  DataLoader<float> loader{noise(32), {.batch_size = 8, .shuffle = true}, Random(3), {RandomHorizontalFlip{}}};
  FitOptions<Net> options{.epochs = 3, .schedule = &schedule, .average = &average, .keep_best = true};

  Training() {
    net.add("drop", Dropout<float>({.p = 0.1}));
    average.module = net;
    options.validate = [this](const Net& now) { return evaluate(now, loader, loss).measures(); };
  }
  FitResult<Net> run(std::vector<FitCallback> callbacks) {
    options.callbacks = std::move(callbacks);
    return fit(net, optimizer, loader, loss, rng, options);
  }
};

FitCallback stop_at(Index step) {
  return [step](FitEvent& event) { event.stop = event.at == FitEvent::At::step && event.step == step; };
}

TEST_F(Checkpoint, FromAnyStepARunEndsWithTheSameBytes) {
  Training undisturbed;
  undisturbed.run({Checkpoints(path("whole")), HistoryFile(path("whole.csv"))});
  const std::string last = content(Checkpoints::in(path("whole"))[0]), history = content(path("whole.csv"));
  ASSERT_GT(last.size(), 10'000u);
  for (Index step = 1; step <= 12; ++step) {
    const std::string folder = path("stopped" + std::to_string(step));
    Training first;
    const auto result = first.run({Checkpoints(folder), stop_at(step), HistoryFile(path("stopped.csv"))});
    EXPECT_TRUE(result.stopped);
    EXPECT_EQ(result.steps, step);
    Training second;
    EXPECT_FALSE(second.run({Checkpoints(folder, {.resume = true}), HistoryFile(path("stopped.csv"))}).stopped);
    EXPECT_EQ(content(Checkpoints::in(folder)[0]), last) << "stopped after step " << step;
    EXPECT_EQ(content(path("stopped.csv")), history) << "stopped after step " << step;
  }
}

TEST_F(Checkpoint, OfARunThatIsDoneGoesNowhere) {
  Training first, second;
  const auto done = first.run({Checkpoints(path("run"))});
  const auto again = second.run({Checkpoints(path("run"), {.resume = true})});
  EXPECT_EQ(again.steps, 12);
  EXPECT_EQ(again.history.csv(), done.history.csv());
  Net best = *done.best, best_again = *again.best;
  small_net::expect_same(small_net::state<float>(best_again), small_net::state<float>(best));
}

TEST_F(Checkpoint, KeepsTheLastFewAndCleansUp) {
  fs::create_directories(path("run"));
  put(path("run/step-000000000099.safetensors.tmp"), "left by a killed process");
  put(path("run/notes.txt"), "mine");
  Training training;
  training.run({Checkpoints(path("run"), {.keep = 2, .every_steps = 1})});
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(path("run"))) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"notes.txt", "step-000000000011.safetensors", "step-000000000012.safetensors"}));
}

TEST_F(Checkpoint, GoesOnFromAnOlderOneWhereTheNewestIsDamaged) {
  Training first, second, undisturbed;
  first.run({Checkpoints(path("run"), {.every_steps = 1}), stop_at(7)});
  const auto found = Checkpoints::in(path("run"));
  std::string damaged = content(found[0]);
  damaged[damaged.size() - 9] ^= 1;
  put(found[0], damaged);
  second.run({Checkpoints(path("run"), {.resume = true})});
  undisturbed.run({});
  small_net::expect_same(small_net::state<float>(second.net), small_net::state<float>(undisturbed.net));

  for (const auto& file : Checkpoints::in(path("run"))) put(file, "nothing");
  EXPECT_NE(message([&] { Training().run({Checkpoints(path("run"), {.resume = true})}); }), "no error");
}

TEST_F(Checkpoint, DoesNotMixTwoRunsInOneFolder) {
  Training first, second;
  first.run({Checkpoints(path("run"))});
  EXPECT_EQ(message([&] { second.run({Checkpoints(path("run"))}); }),
            path("run") + ": expected a folder without checkpoints, or resume = true, found step-000000000012.safetensors");
  EXPECT_EQ(message([&] { Checkpoints("x", {.keep = 0}); }), "Checkpoints: expected keep of at least 1, got 0");
}

TEST_F(Checkpoint, WhenTheFolderVanishesStopsOrGoesOnAsTold) {
  const FitCallback vanish = [&](FitEvent& event) {
    if (event.at == FitEvent::At::step && event.step == 6) fs::remove_all(path("run"));
  };
  Training stopping, going_on, undisturbed;
  expect_error([&] { stopping.run({Checkpoints(path("run")), vanish}); }, "could not open its folder: No such file");
  std::FILE* const told = std::tmpfile();
  going_on.options.progress = told;
  const auto result = going_on.run({Checkpoints(path("run"), {.on_error = OnSaveError::go_on}), vanish});
  EXPECT_EQ(result.steps, 12);
  std::rewind(told);
  char line[400];
  bool found = false;
  while (std::fgets(line, sizeof line, told)) found = found || std::string(line).starts_with("going on without saving: ");
  std::fclose(told);
  EXPECT_TRUE(found);
  undisturbed.run({});
  small_net::expect_same(small_net::state<float>(going_on.net), small_net::state<float>(undisturbed.net));
}

TEST_F(Checkpoint, KeepsTheLastGoodOneWhenTheWeightsAreGone) {
  Training training;
  const FitCallback spoil = [&](FitEvent& event) {
    if (event.at == FitEvent::At::step && event.step == 8) {
      training.average.module.parameters()[0]->value.data()[0] = 1;
      training.net.parameters()[0]->value.data()[0] = std::numeric_limits<float>::quiet_NaN();
    }
  };
  EXPECT_EQ(message([&] { training.run({spoil, Checkpoints(path("run"))}); }),
            "Checkpoints: expected finite numbers to save, found others in stem.conv.weight");
  const auto found = Checkpoints::in(path("run"));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].filename(), "step-000000000004.safetensors");
  Training again;
  EXPECT_EQ(again.run({Checkpoints(path("run"), {.resume = true})}).steps, 12);
}

TEST_F(Checkpoint, OfAnotherLoaderIsRefused) {
  Training first, second;
  first.run({Checkpoints(path("run")), stop_at(3)});
  const DataLoader<float> larger(noise(32), {.batch_size = 16}, Random(3));
  second.options.callbacks = {Checkpoints(path("run"), {.resume = true})};
  EXPECT_EQ(message([&] { fit(second.net, second.optimizer, larger, loss, second.rng, second.options); }),
            "fit: expected to go on within an epoch of 2 batches, got batch 3");
}

TEST_F(Checkpoint, HistoryFileHasTimesOfItsOwn) {
  Training training;
  training.run({HistoryFile(path("history.csv"))});
  EXPECT_TRUE(content(path("history.csv")).starts_with("epoch,step,lr,loss,accuracy,val_loss,val_accuracy\n1,4,"));
  const std::string times = content(path("history.times.csv"));
  EXPECT_TRUE(times.starts_with("epoch,seconds\n1,")) << times;
  EXPECT_EQ(std::count(times.begin(), times.end(), '\n'), 4);
  EXPECT_NE(message([&] { Training().run({HistoryFile(path("nowhere/history.csv"))}); }), "no error");
}

}  // namespace
