// What this machine can do at most, measured.
#pragma once

#include <string>
#include <vector>

namespace compare {

/// Multiplications and additions a second that one instruction set reaches.
struct Rate {
  std::string instructions;
  double flops;
};

struct Peaks {
  std::vector<Rate> rates;  ///< of every instruction set the processor has, the widest first
  double bytes;             ///< a second read and written by a copy much larger than the caches

  double flops() const;     ///< of the fastest instruction set
};

/// With so many threads at once.
Peaks measure_peaks(int threads);

}  // namespace compare
