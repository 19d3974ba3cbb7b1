// AveragedModel: a network whose parameters are the average of those another had in training.
#pragma once

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <residua/core/elementwise.hpp>
#include <residua/core/visit.hpp>

namespace residua::inline RESIDUA_ABI {

struct AveragedModelOptions {
  std::optional<double> decay = {};  ///< the share of the average that stays at an update; none: all count alike
  bool use_buffers = false;          ///< average the buffers too (but counts); otherwise they are copied
};

namespace detail {

template <typename Net>
struct ScalarOf {
  using type = typename Net::Scalar;
};
template <template <typename> class Net, typename S>
  requires(!requires { typename Net<S>::Scalar; })
struct ScalarOf<Net<S>> {
  using type = S;
};

}  // namespace detail

/// Averages a network over the steps of its training, as PyTorch's torch.optim.swa_utils.AveragedModel:
///
///     AveragedModel average(net, {.decay = 0.999});
///     …
///     optimizer.step();
///     average.update(net);
///     …
///     average.module(images);
///
/// The first update copies; later ones move each number of `module` towards the network's:
///
///     module = decay module + (1 − decay) net                exponential average (Polyak and Juditsky 1992)
///     module = module + (net − module) / (n_averaged + 1)    without decay: the average of all
///
/// Averages of all: Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018.
template <typename Net>
class AveragedModel {
  using S = typename detail::ScalarOf<Net>::type;

 public:
  Net module;

  /// Throws Error for a decay that is not from 0 to 1.
  explicit AveragedModel(const Net& net, const AveragedModelOptions& options = {}) : module(net), options_(options) {
    if (options.decay && !(*options.decay >= 0 && *options.decay <= 1)) {
      fail("AveragedModel", "expected decay from 0 to 1, got ", *options.decay);
    }
  }

  /// Takes the network as it is now into the average. Throws Error, with nothing changed, for a network whose
  /// parameters or buffers have other names or shapes than module's.
  void update(const Net& net) {
    const auto from = Contents::of(net), to = Contents::of(module);
    check(from.parameters, to.parameters);
    check(from.buffers, to.buffers);
    for (std::size_t i = 0; i < to.parameters.size(); ++i) {
      follow(to.parameters[i].second->value, from.parameters[i].second->value, share());
    }
    for (std::size_t i = 0; i < to.buffers.size(); ++i) {
      const bool averaged = options_.use_buffers && to.buffers[i].second->layout != Layout::count;
      follow(to.buffers[i].second->value, from.buffers[i].second->value, averaged ? share() : S(1));
    }
    ++n_averaged_;
  }

  /// How many updates there were.
  Index n_averaged() const { return n_averaged_; }

  static void visit(auto& self, auto&& v) {
    v("n_averaged", self.n_averaged_);
    v("module", self.module);
  }

 private:
  struct Contents {
    std::vector<std::pair<std::string, ParameterHandle<S>>> parameters;
    std::vector<std::pair<std::string, BufferHandle<S>>> buffers;

    static Contents of(const Net& net) {
      Net& seen = const_cast<Net&>(net);  // to be read only, where it is not module
      return {named_parameters<S>(seen), named_buffers<S>(seen)};
    }
  };

  static void check(const auto& from, const auto& to) {
    for (std::size_t i = 0; i < from.size() && i < to.size(); ++i) {
      const Shape &got = from[i].second->value.shape(), &expected = to[i].second->value.shape();
      if (from[i].first == to[i].first && got == expected) continue;
      fail("AveragedModel", "expected '", to[i].first, "' of shape ", expected, ", got '", from[i].first, "' of shape ",
           got);
    }
    if (from.size() != to.size()) {
      fail("AveragedModel", "expected ", to.size(), " parameters or buffers, got ", from.size());
    }
  }

  /// How far an average moves at the present update.
  S share() const {
    if (n_averaged_ == 0) return S(1);
    return static_cast<S>(options_.decay ? 1 - *options_.decay : 1 / static_cast<double>(n_averaged_ + 1));
  }

  /// In the average's own memory, so that neither shares storage with the network.
  static void follow(Tensor<S>& average, const Tensor<S>& value, S share) {
    S* const to = average.data();
    const bool all = share == S(1);
    kernels::map(average.size(), to, [=](auto a, auto x) { return all ? x : a + share * (x - a); }, to, value.cdata());
  }

  AveragedModelOptions options_;
  Index n_averaged_ = 0;
};

}  // namespace residua::inline RESIDUA_ABI
