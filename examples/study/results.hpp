// What came out, put side by side: means and spreads over seeds, and whether a difference is more than chance.
#pragma once

#include "store.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

namespace study {

inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// A number of a result; JSON has no NaN and no infinity, and writes null.
inline double number(const json& j) { return j.is_number() ? j.get<double>() : nan; }

/// Mean, standard deviation and range of some numbers.
struct Spread {
  std::size_t count = 0;
  double mean = nan, deviation = 0, least = nan, most = nan;

  Spread() = default;
  explicit Spread(const std::vector<double>& values) : count(values.size()) {
    if (values.empty()) return;
    const double n = static_cast<double>(count);
    mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    for (const double value : values) deviation += (value - mean) * (value - mean);
    deviation = count < 2 ? 0 : std::sqrt(deviation / (n - 1));
    least = *std::min_element(values.begin(), values.end());
    most = *std::max_element(values.begin(), values.end());
  }
};

/// Two settings compared seed by seed.
struct Comparison {
  Spread difference;  ///< first minus second
  double p = nan;     ///< how likely so large a mean difference is where there is none: paired t-test, two-sided
};

/// The probability that a t-distributed number with `freedom` degrees lies further from 0 than t.
inline double t_tail(double t, double freedom) {
  // With x = √freedom · tan θ the density is cos^(freedom − 1) θ up to a constant; Simpson's rule on either side of t.
  const double angle = std::atan(std::abs(t) / std::sqrt(freedom)), half_pi = std::acos(0.0);
  const auto area = [&](double from, double to) {
    constexpr int parts = 2000;
    const double step = (to - from) / parts;
    double sum = 0;
    for (int i = 0; i <= parts; ++i) {
      const double weight = i == 0 || i == parts ? 1 : i % 2 == 1 ? 4 : 2;
      sum += weight * std::pow(std::max(0.0, std::cos(from + i * step)), freedom - 1);
    }
    return sum * step / 3;
  };
  return area(angle, half_pi) / area(0, half_pi);
}

inline Comparison compare(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> differences;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (std::isfinite(a[i]) && std::isfinite(b[i])) differences.push_back(a[i] - b[i]);
  }
  Comparison result{Spread(differences)};
  if (differences.size() < 2) return result;
  const double n = static_cast<double>(differences.size()), error = result.difference.deviation / std::sqrt(n);
  result.p = error > 0 ? t_tail(result.difference.mean / error, n - 1) : result.difference.mean == 0 ? 1 : 0;
  return result;
}

/// A measure of one result.
using Measure = double (*)(const json& result);

namespace measure {

inline double test_accuracy(const json& r) { return number(r["test"]["accuracy"]); }
inline double train_accuracy(const json& r) { return number(r["train"]["accuracy"]); }
inline double gap(const json& r) { return train_accuracy(r) - test_accuracy(r); }
inline double noise_loss(const json& r) { return test_accuracy(r) - number(r["noise"]); }
inline double blur_loss(const json& r) { return test_accuracy(r) - number(r["blur"]); }

/// Of the last epoch, as it was trained; what diverged is worse than any other.
inline double train_loss(const json& r) {
  const json& losses = r["epochs"]["loss"];
  return r["diverged"] == true || losses.empty() ? std::numeric_limits<double>::infinity() : number(losses.back());
}

/// The gradient norm of the first traced layer at the start, as a share of the last one's.
inline double first_to_last(const json& r) {
  const json& layers = r["start"]["layers"];
  return layers.empty() ? nan : number(layers.front()["gradient_norm"]) / number(layers.back()["gradient_norm"]);
}

}  // namespace measure

/// The place in an epoch, counted from 0, at which the accuracy on what was not seen reached `target`; between two epochs
/// as if it had grown evenly. None where it never did.
inline std::optional<double> epoch_of(const json& result, double target) {
  double before = 0;
  const json& accuracies = result["epochs"]["val_accuracy"];
  for (std::size_t epoch = 0; epoch < accuracies.size(); ++epoch) {
    const double now = number(accuracies[epoch]);
    if (now >= target) return static_cast<double>(epoch) + (target - before) / std::max(now - before, 1e-12);
    before = now;
  }
  return std::nullopt;
}

/// The value at a place between epochs of what was measured after each.
inline double at_epoch(const json& values, double epoch) {
  const auto whole = static_cast<std::size_t>(epoch);
  const auto value = [&](std::size_t i) { return i == 0 || values.empty() ? 0 : number(values[std::min(i, values.size()) - 1]); };
  return value(whole) + (epoch - static_cast<double>(whole)) * (value(whole + 1) - value(whole));
}

class Results {
 public:
  struct Entry {
    Run run;
    json result;
  };

  Results(const std::vector<Run>& runs, const Store& store) {
    for (const Run& run : runs) (run.step_batch > 0 ? steps_ : entries_).push_back({run, store[run]});
  }

  /// The trainings.
  const std::vector<Entry>& all() const { return entries_; }

  /// What one step of a network took, and its parameters and gradients.
  struct Memory {
    double peak, parameters;
  };
  Memory memory(Index depth, bool checkpointed) const {
    const auto is_it = [&](const Entry& e) { return e.run.depth == depth && e.run.checkpointed == checkpointed; };
    const json& result = std::find_if(steps_.begin(), steps_.end(), is_it)->result;
    return {number(result["peak_bytes"]), number(result["parameter_bytes"])};
  }

  /// The trainings with these settings, ordered by seed; `lr` and `scale` as given.
  std::vector<const Entry*> of(Index depth, const std::string& connection, const std::string& norm, double lr,
                               double scale = 1) const {
    std::vector<const Entry*> found;
    for (const Entry& e : entries_) {
      if (e.run.depth == depth && e.run.connection == connection && e.run.norm == norm && e.run.lr == lr &&
          e.run.scale == scale) {
        found.push_back(&e);
      }
    }
    return found;
  }

  static std::vector<double> values(const std::vector<const Entry*>& entries, Measure measure) {
    std::vector<double> all;
    for (const Entry* entry : entries) all.push_back(measure(entry->result));
    return all;
  }

 private:
  std::vector<Entry> entries_, steps_;
};

}  // namespace study
