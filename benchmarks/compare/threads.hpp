// How many threads both sides work with.
#pragma once

#include <cblas.h>

#include "peer.hpp"

namespace compare {

inline void use_threads(int threads) {
  set_num_threads(threads);
  at::set_num_threads(threads);  // OpenMP's too
  openblas_set_num_threads(threads);
}

}  // namespace compare
