// What a study is asked to do: the grid of runs, and what all of them share.
#pragma once

#include "../common.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace study {

using namespace residua;
using nlohmann::json;

/// One training: a cell of the grid, or of one of the sweeps. Or one step, whose memory is measured.
struct Run {
  Index depth;
  std::string connection, norm;
  std::uint64_t seed;
  double lr;
  double scale;          ///< by which the initial weights are multiplied
  Index step_batch = 0;  ///< images of the one step; 0: a training
  bool checkpointed = depth > 200;

  json described() const {
    json all = {{"depth", depth}, {"connection", connection}, {"norm", norm}, {"seed", seed}, {"lr", lr}, {"scale", scale}};
    if (step_batch > 0) all.update({{"step_batch", step_batch}, {"checkpointed", checkpointed}});
    return all;
  }
  std::string key() const { return described().dump(); }

  Run with(double Run::*member, double value) const {
    Run run = *this;
    run.*member = value;
    return run;
  }
};

struct Settings {
  std::vector<Index> depths{8, 20, 56};
  std::vector<std::string> connections{"plain", "post", "pre"}, norms{"none", "batch", "layer", "group"};
  Index seeds = 3;

  Index sweep_depth = 20;
  std::vector<std::string> sweep_norms{"none", "batch"};
  std::vector<double> sweep_lr{0.01, 0.03, 0.3, 1}, sweep_scale{0.25, 0.5, 2, 4};

  std::vector<Index> memory_depths{20, 56, 110, 302, 602, 1202};
  Index memory_batch = 32;

  std::string data;  ///< CIFAR-10's folder; empty: textured shapes
  Index train_images = 10'000, test_images = 2'000;
  Index width = 16, epochs = 15, batch = 64;
  double lr = 0.1, weight_decay = 1e-4, target = 0.5;
  bool augment = true;

  std::string report = "study-report";
  int jobs = 0;
  bool quick = false;
  std::string only;  ///< the key of the one run to do, in a process of its own

  /// Small enough for a first look: a few minutes on two cores.
  void make_quick() {
    depths = {8, 20, 44};
    connections = {"plain", "post"};
    norms = {"none", "batch"};
    seeds = 2;
    sweep_depth = 8;
    sweep_lr = {0.001, 0.1};
    sweep_scale = {0.25, 4};
    memory_depths = {20, 56, 110, 302, 602};
    memory_batch = 16;
    train_images = 1400;
    test_images = 400;
    width = 8;
    epochs = 5;
    batch = 16;
    lr = 0.01;
    target = 0.3;
    augment = false;
  }

  /// The whole study, each run once: the grid, then learning rates and initial scales for one depth and the first seed,
  /// then the memory of one step by depth.
  std::vector<Run> runs() const {
    std::vector<Run> all;
    std::set<std::string> keys;
    const auto add = [&](const Run& run) {
      if (keys.insert(run.key()).second) all.push_back(run);
    };
    for (const Index depth : depths) {
      for (const auto& connection : connections) {
        for (const auto& norm : norms) {
          for (Index seed = 1; seed <= seeds; ++seed) {
            add({depth, connection, norm, static_cast<std::uint64_t>(seed), lr, 1});
          }
        }
      }
    }
    for (const auto& connection : connections) {
      for (const auto& norm : sweep_norms) {
        const Run middle{sweep_depth, connection, norm, 1, lr, 1};
        if (!sweep_lr.empty() || !sweep_scale.empty()) add(middle);
        for (const double value : sweep_lr) add(middle.with(&Run::lr, value));
        for (const double value : sweep_scale) add(middle.with(&Run::scale, value));
      }
    }
    for (const Index depth : memory_depths) {
      for (const bool checkpointed : {false, true}) {
        add({depth, "post", "batch", 1, 0, 1, memory_batch, checkpointed});
      }
    }
    return all;
  }

  /// What all runs of a report folder have in common.
  json shared() const {
    return {{"data", data.empty() ? "textured shapes" : "CIFAR-10"}, {"train_images", train_images},
            {"test_images", test_images}, {"width", width}, {"epochs", epochs}, {"batch", batch},
            {"weight_decay", weight_decay}, {"target", target}, {"augment", augment}};
  }
};

/// How a connection is called in the report.
inline std::string shown(const std::string& connection) {
  return connection == "plain" ? "plain" : connection == "post" ? "residual" : "pre-activated";
}

}  // namespace study
