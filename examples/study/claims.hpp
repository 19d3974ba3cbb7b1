// What is said of residual connections and normalisation, and what was measured.
#pragma once

#include "figures.hpp"

namespace study {

struct Claim {
  std::string claim, measured;
  enum class Verdict { holds, fails, open } verdict = Verdict::open;
};

/// The settings that the claims are about, of those that there are.
struct Chosen {
  Index shallow, deep;
  std::string shortcut;  ///< post, or pre where there is no post
  std::string norm;      ///< batch, or another where there is no batch; empty: none at all
  bool plain, none;      ///< whether there are networks without shortcuts, without norms

  explicit Chosen(const Settings& s) {
    const auto has = [](const auto& all, const auto& one) { return std::find(all.begin(), all.end(), one) != all.end(); };
    deep = *std::max_element(s.depths.begin(), s.depths.end());
    shallow = *std::min_element(s.depths.begin(), s.depths.end());
    if (has(s.depths, Index{20}) && deep > 20) shallow = 20;
    shortcut = has(s.connections, "post") ? "post" : has(s.connections, "pre") ? "pre" : "";
    plain = has(s.connections, "plain");
    none = has(s.norms, "none");
    for (const auto& name : s.norms) {
      if (name != "none" && (norm.empty() || name == "batch")) norm = name;
    }
  }
};

class Claims {
 public:
  Claims(const Settings& settings, const Results& results) : s_(settings), r_(results), c_(settings) {}

  std::vector<Claim> all() const {
    return {vanishing(), degradation(), speed(), sensitivity("learning rate", s_.sweep_lr, &Run::lr),
            sensitivity("initial scale", s_.sweep_scale, &Run::scale), gap(), robustness(), memory()};
  }

 private:
  using Entries = std::vector<const Results::Entry*>;
  using Verdict = Claim::Verdict;

  Entries runs(Index depth, const std::string& connection, const std::string& norm) const {
    return r_.of(depth, connection, norm, s_.lr);
  }
  static Spread spread(const Entries& entries, Measure measure) { return Spread(Results::values(entries, measure)); }
  static Verdict verdict(bool holds) { return holds ? Verdict::holds : Verdict::fails; }
  static std::string points(double share) { return short_number(100 * share, "%.1f") + " points"; }
  static std::string percent(double share) { return short_number(100 * share, "%.1f") + " %"; }
  static std::string chance(const Comparison& c) {
    return std::isnan(c.p) ? "" : " (paired over " + std::to_string(c.difference.count) + " runs, p = " +
                                      short_number(c.p, "%.2g") + ")";
  }
  std::string layers(Index depth) const { return std::to_string(depth) + " layers"; }
  std::string with_norm() const { return "with " + c_.norm + " norm"; }

  Claim vanishing() const {
    Claim claim{"Shortcuts keep gradients from vanishing", "needs plain, a shortcut and the norm none"};
    if (!c_.plain || c_.shortcut.empty() || !c_.none) return claim;
    const double plain = spread(runs(c_.deep, "plain", "none"), measure::first_to_last).mean;
    const double residual = spread(runs(c_.deep, c_.shortcut, "none"), measure::first_to_last).mean;
    claim.measured = "At the start of " + layers(c_.deep) + " without norm the first layer's gradient is " +
                     short_number(plain) + " of the last one's in the plain network, " +
                     short_number(residual) + " with shortcuts.";
    if (!c_.norm.empty()) {
      claim.measured += " " + std::string("With ") + c_.norm + " norm: " +
                        short_number(spread(runs(c_.deep, "plain", c_.norm), measure::first_to_last).mean) + " and " +
                        short_number(spread(runs(c_.deep, c_.shortcut, c_.norm), measure::first_to_last).mean) + ".";
    }
    claim.verdict = verdict(!(plain > 1e-3) && residual > 1e-3);
    return claim;
  }

  Claim degradation() const {
    Claim claim{"Deeper plain networks train worse; residual ones do not", "needs two depths, plain and a shortcut"};
    if (!c_.plain || c_.shortcut.empty() || c_.shallow == c_.deep) return claim;
    const std::string norm = c_.norm.empty() ? "none" : c_.norm;
    const auto losses = [&](Index depth, const std::string& connection) {
      return Results::values(runs(depth, connection, norm), measure::train_loss);
    };
    const auto sentence = [&](const std::string& connection, const Comparison& difference) {
      return shown(connection) + " " + short_number(Spread(losses(c_.shallow, connection)).mean, "%.2f") + " → " +
             short_number(Spread(losses(c_.deep, connection)).mean, "%.2f") + chance(difference);
    };
    const Comparison plain = compare(losses(c_.deep, "plain"), losses(c_.shallow, "plain"));
    const Comparison residual = compare(losses(c_.deep, c_.shortcut), losses(c_.shallow, c_.shortcut));
    claim.measured = "Training loss at the end, from " + layers(c_.shallow) + " to " + std::to_string(c_.deep) + ", norm " +
                     norm + ": " + sentence("plain", plain) + "; " + sentence(c_.shortcut, residual) + ".";
    const auto growth = [&](const std::string& connection) {  // may be infinite, where a network diverged
      return Spread(losses(c_.deep, connection)).mean - Spread(losses(c_.shallow, connection)).mean;
    };
    claim.verdict = verdict(growth("plain") > 0 && growth(c_.shortcut) <= growth("plain") / 10);
    return claim;
  }

  Claim speed() const {
    Claim claim{"Norms speed training up", "needs a norm beside none"};
    if (c_.norm.empty() || !c_.none) return claim;
    const std::string connection = c_.shortcut.empty() ? "plain" : c_.shortcut;
    const auto steps = [&](const std::string& norm, std::string& text) {
      std::vector<double> all, seconds;
      const Entries entries = runs(c_.shallow, connection, norm);
      for (const auto* entry : entries) {
        if (const auto epoch = epoch_of(entry->result, s_.target)) {
          all.push_back(at_epoch(entry->result["epochs"]["step"], *epoch));
          seconds.push_back(at_epoch(entry->result["times"]["epochs"], *epoch));
        }
      }
      text = all.empty() ? "never" : "after " + short_number(Spread(all).mean, "%.0f") + " steps (" +
                                     short_number(Spread(seconds).mean, "%.1f") + " s)";
      if (!all.empty() && all.size() < entries.size()) text += " in " + std::to_string(all.size()) + " runs of " + std::to_string(entries.size());
      return all.size() < entries.size() ? std::numeric_limits<double>::infinity() : Spread(all).mean;
    };
    std::string with, without;
    const double steps_with = steps(c_.norm, with), steps_without = steps("none", without);
    claim.measured = "The " + shown(connection) + " network of " + layers(c_.shallow) + " reaches " + percent(s_.target) + " " +
                     with + " " + with_norm() + ", " + without + " without.";
    claim.verdict = verdict(steps_with < steps_without);
    return claim;
  }

  /// How far accuracy moves over a sweep. A norm with which every value does clearly better than any
  /// without holds too.
  Claim sensitivity(const std::string& name, std::vector<double> values, double Run::*varied) const {
    Claim claim{"Norms make training insensitive to the " + name, "needs the sweep with none and a norm"};
    const auto& norms = s_.sweep_norms;
    const auto norm = std::find_if(norms.begin(), norms.end(), [](const auto& n) { return n != "none"; });
    if (values.empty() || norm == norms.end() || std::find(norms.begin(), norms.end(), "none") == norms.end()) return claim;
    values.push_back(Run{0, "", "", 1, s_.lr, 1}.*varied);
    const auto accuracies = [&](const std::string& of) {  // the mean over the connections of the least and the most
      Spread all;
      std::vector<double> least, most;
      for (const auto& connection : s_.connections) {
        std::vector<double> reached;
        for (const double value : values) {
          const Run run = Run{s_.sweep_depth, connection, of, 1, s_.lr, 1}.with(varied, value);
          const auto found = r_.of(run.depth, run.connection, run.norm, run.lr, run.scale);
          if (!found.empty()) reached.push_back(measure::test_accuracy(found[0]->result));
        }
        least.push_back(Spread(reached).least);
        most.push_back(Spread(reached).most);
      }
      all.least = Spread(least).mean;
      all.most = Spread(most).mean;
      return all;
    };
    const Spread with = accuracies(*norm), without = accuracies("none");
    const auto span = [](const Spread& s) { return percent(s.least) + " to " + percent(s.most); };
    claim.measured = "From " + short_number(*std::min_element(values.begin(), values.end())) + " to " +
                     short_number(*std::max_element(values.begin(), values.end())) + ", accuracy is " + span(with) + " with " +
                     *norm + " norm, " + span(without) + " without (" + layers(s_.sweep_depth) + ").";
    claim.verdict = verdict(with.most - with.least < without.most - without.least ||
                            with.least > without.most + 0.05);
    return claim;
  }

  /// Compares norm and none, residual where there is one, over all depths and seeds.
  Comparison norm_minus_none(Measure measure, double& with, double& without) const {
    std::vector<double> a, b;
    for (const Index depth : s_.depths) {
      const std::string connection = c_.shortcut.empty() ? "plain" : c_.shortcut;
      for (const double value : Results::values(runs(depth, connection, c_.norm), measure)) a.push_back(value);
      for (const double value : Results::values(runs(depth, connection, "none"), measure)) b.push_back(value);
    }
    with = Spread(a).mean;
    without = Spread(b).mean;
    return compare(a, b);
  }

  /// What puts a gap or a loss into proportion: where nothing was learned, there is nothing to lose.
  std::string accuracies() const {
    double with, without;
    norm_minus_none(measure::test_accuracy, with, without);
    return " (Test accuracy: " + percent(with) + " and " + percent(without) + ".)";
  }

  Claim gap() const {
    Claim claim{"Norms narrow the gap between training and test", "needs a norm beside none"};
    if (c_.norm.empty() || !c_.none) return claim;
    double with, without;
    const Comparison difference = norm_minus_none(measure::gap, with, without);
    claim.measured = "Training accuracy is above test accuracy by " + points(with) + " " + with_norm() + ", by " +
                     points(without) + " without" + chance(difference) + "." + accuracies();
    claim.verdict = verdict(with < without);
    return claim;
  }

  Claim robustness() const {
    Claim claim{"Norms make networks robust to noise and blur", "needs a norm beside none"};
    if (c_.norm.empty() || !c_.none) return claim;
    double noise, noise_without, blur, blur_without;
    const Comparison difference = norm_minus_none(measure::noise_loss, noise, noise_without);
    norm_minus_none(measure::blur_loss, blur, blur_without);
    claim.measured = "Noise of 0.1 takes " + points(noise) + " of accuracy " + with_norm() + ", " + points(noise_without) +
                     " without" + chance(difference) + "; blur of 1 pixel " + points(blur) + " and " + points(blur_without) +
                     "." + accuracies();
    claim.verdict = verdict(noise < noise_without && blur < blur_without);
    return claim;
  }

  Claim memory() const {
    Claim claim{"Checkpoints let memory grow with the root of depth", "needs two --memory-depths"};
    const std::set<Index> depths(s_.memory_depths.begin(), s_.memory_depths.end());
    if (depths.size() < 2) return claim;
    const Index shallow = *depths.begin(), deep = *depths.rbegin();
    const auto power = [&](bool checkpointed) {
      const auto few = r_.memory(shallow, checkpointed), many = r_.memory(deep, checkpointed);
      return std::log((many.peak - many.parameters) / (few.peak - few.parameters)) /
             std::log(static_cast<double>(deep) / static_cast<double>(shallow));
    };
    const auto megabytes = [&](bool checkpointed) {
      return short_number(r_.memory(deep, checkpointed).peak / 1e6, "%.0f") + " MB";
    };
    claim.measured = "A step of " + std::to_string(s_.memory_batch) + " images through " + layers(deep) + " takes " +
                     megabytes(true) + " with checkpoints, " + megabytes(false) + " without; from " + layers(shallow) + " on, parameters aside, memory grows as depth to the power of " +
                     short_number(power(true), "%.2f") + " and " + short_number(power(false), "%.2f") + ".";
    claim.verdict = verdict(power(true) < 0.6);
    return claim;
  }

  const Settings& s_;
  const Results& r_;
  const Chosen c_;
};

}  // namespace study
