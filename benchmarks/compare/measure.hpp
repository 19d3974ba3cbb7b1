// Two sides do the same work in turns, and their times are compared.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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
  std::function<Difference()> difference;  ///< called once, before anything is measured
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

  void round() {
    // The other side's threads wait for more work for a while, and would take this one's cores.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    side_();
    double sum = 0;
    for (int i = 0; i < times_; ++i) sum += side_();
    rounds_.push_back(sum / times_);
  }

  Times times() const { return Times(rounds_); }

 private:
  Side side_;
  int times_;
  std::vector<double> rounds_;
};

/// Runs both sides of a case in turns, so that what else the machine does meets both.
inline Result run(const Case& c, int rounds) {
  const Comparison comparison = c.make();
  const Difference difference = comparison.difference();
  Repeated ours(comparison.ours);
  std::vector<Repeated> ways;
  for (const Way& way : comparison.peer) ways.emplace_back(way.run);
  for (int i = 0; i < rounds; ++i) {
    ours.round();
    for (Repeated& way : ways) way.round();
  }
  std::size_t best = 0;
  for (std::size_t i = 1; i < ways.size(); ++i) {
    if (ways[i].times().median < ways[best].times().median) best = i;
  }
  return {c.name, comparison.peer[best].name, ours.times(), ways[best].times(), comparison.flops, comparison.bytes,
          difference};
}

}  // namespace compare
