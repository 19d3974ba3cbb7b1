// Probes: callbacks that see what flows through a network, by the names of its layers.
#pragma once

#include <functional>
#include <string>

#include <residua/core/tape.hpp>

namespace residua::inline RESIDUA_ABI {

/// Sees every named layer's activation y and, in backward, the gradient dy by it. An observer of a tape, or of fit:
///
///     Tape<float> tape(rng);
///     tape.observe(Probes<float>{
///         .activation = [&](const std::string& path, const Tensor<float>& y) { … },     // path: layer1.0.conv1
///         .gradient = [&](const std::string& path, const Tensor<float>& dy) { … }});
///
/// Paths are those of named_parameters(), without the parameter's own name; blocks are seen too, after the layers inside
/// them. A gradient that nobody wants is not seen, nor is what a Checkpoint does a second time. What a probe throws comes
/// out of forward or backward as any error does: the network stays usable. A tape without an observer pays nothing.
template <typename S>
struct Probes {
  using Probe = std::function<void(const std::string& path, const Tensor<S>& values)>;

  Probe activation = {};  ///< of y, after a layer's forward
  Probe gradient = {};    ///< of dy, after a layer's backward

  void operator()(const Observation<S>& seen) const {
    if (!seen.backward && activation) activation(seen.path, seen.output);
    if (seen.backward && gradient && !seen.output_gradient.empty()) gradient(seen.path, seen.output_gradient);
  }
};

}  // namespace residua::inline RESIDUA_ABI
