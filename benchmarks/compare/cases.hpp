// All cases, one function for each kind.
#pragma once

#include <string>
#include <vector>

#include "measure.hpp"

namespace compare {

std::vector<Case> convolution_cases();
std::vector<Case> matmul_cases();
std::vector<Case> layer_cases();      ///< norms, pooling, activations, losses
std::vector<Case> optimizer_cases();
std::vector<Case> network_cases(const std::string& models);  ///< those whose TorchScript file is in that folder

}  // namespace compare
