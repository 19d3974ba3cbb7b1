// Two sides do the same work in turns, and their times are compared.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "process.hpp"

namespace compare {

/// How long `work` takes, in seconds.
template <typename Work>
double seconds(Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Does the work once and returns the seconds that count: what only prepares it is left out.
using Side = std::function<double()>;

/// One of several ways in which the peer does the same; the fastest is compared with.
struct Way {
  std::string name;
  Side run;
};

/// How far the two sides' outputs are from each other, relative to the largest, and how far they may be.
struct Difference {
  double value = 0, allowed = 1;

  double share() const { return value / allowed; }
  bool agrees() const { return share() <= 1; }  // false for NaN
};

/// Of two, the one that takes the larger share of what it is allowed; NaN is worse than all.
inline Difference worse(Difference a, Difference b) {
  return std::isnan(a.value) || b.share() <= a.share() ? a : b;
}

struct Comparison {
  Side ours;
  std::vector<Way> peer;
  double flops = 0, bytes = 0;             ///< of the work; 0 where not counted
  std::function<Difference()> difference;
};

/// A comparison by name, with its tensors and networks made only when it is run.
struct Case {
  std::string name;
  std::function<Comparison()> make;
  std::string missing = "";  ///< what it needs and is not there, so that it is skipped
};

/// Quartiles of the rounds' seconds.
struct Times {
  double lower, median, upper;

  explicit Times(std::vector<double> rounds) {
    std::sort(rounds.begin(), rounds.end());
    const auto at = [&](double share) {
      return rounds[static_cast<std::size_t>(share * static_cast<double>(rounds.size() - 1) + 0.5)];
    };
    lower = at(0.25), median = at(0.5), upper = at(0.75);
  }
};

struct Result {
  std::string name, way;  ///< of the peer, the fastest
  Times ours, peer;
  double flops, bytes;
  Difference difference;

  double ratio() const { return peer.median / ours.median; }
};

/// One side, repeated within a round until the round is long enough to be measured.
class Repeated {
 public:
  explicit Repeated(Side side) : side_(std::move(side)) {
    for (int warm_up = 0; warm_up < 2; ++warm_up) side_();
    const double once = std::max(side_(), 1e-7);
    times_ = std::max(1, static_cast<int>(5e-3 / once + 0.5));
  }

  /// Seconds of one repetition.
  double round() {
    side_();
    double sum = 0;
    for (int i = 0; i < times_; ++i) sum += side_();
    return sum / times_;
  }

 private:
  Side side_;
  int times_;
};

/// Runs both sides of a case in turns, so that what else the machine does meets both: each in a process of its own, which
/// calls `prepare` first.
inline Result run(const Case& c, int rounds, const std::function<void()>& prepare) {
  // What both sides must be made for is told by one more process.
  Process teller(c.name, [&] {
    prepare();
    return [comparison = c.make()] {
      const Difference difference = comparison.difference();
      nlohmann::json told{{"flops", comparison.flops}, {"bytes", comparison.bytes}, {"allowed", difference.allowed}};
      if (!std::isnan(difference.value)) told["difference"] = difference.value;
      for (const Way& way : comparison.peer) told["ways"].push_back(way.name);
      return told.dump();
    };
  });
  const nlohmann::json told = nlohmann::json::parse(teller.turn());

  const auto side = [&](std::function<Side(const Comparison&)> of) {
    return std::make_unique<Process>(c.name, [&c, &prepare, of] {
      prepare();
      auto repeated = std::make_shared<Repeated>(of(c.make()));
      return [repeated] { return nlohmann::json(repeated->round()).dump(); };
    });
  };
  std::vector<std::unique_ptr<Process>> sides;
  sides.push_back(side([](const Comparison& made) { return made.ours; }));
  for (std::size_t i = 0; i < told["ways"].size(); ++i) {
    sides.push_back(side([i](const Comparison& made) { return made.peer[i].run; }));
  }
  std::vector<std::vector<double>> seconds(sides.size());
  for (int i = 0; i < rounds; ++i) {
    for (std::size_t k = 0; k < sides.size(); ++k) seconds[k].push_back(std::stod(sides[k]->turn()));
  }
  std::size_t best = 1;
  for (std::size_t k = 2; k < sides.size(); ++k) {
    if (Times(seconds[k]).median < Times(seconds[best]).median) best = k;
  }
  return {c.name, told["ways"][best - 1], Times(seconds[0]), Times(seconds[best]), told["flops"], told["bytes"],
          {told.value("difference", std::nan("")), told["allowed"]}};
}

}  // namespace compare
