// Network: what every layer can be asked, and how a batch is predicted.
#pragma once

#include <algorithm>
#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include <residua/core/list.hpp>
#include <residua/core/parameter.hpp>
#include <residua/core/tape.hpp>
#include <residua/core/tensor_ops.hpp>
#include <residua/core/threads.hpp>
#include <residua/core/visit.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename Derived, typename S>
class Network;

namespace detail {

template <typename S, typename T, typename Result, typename... Arguments>
constexpr bool is_of_network(Result (T::*)(Arguments...) const) {
  return std::derived_from<T, Network<T, S>>;
}

/// Whether it is T's own forward of which T::samplewise() speaks: one that T inherits together with it, as ResidualBlock
/// does from Sequential, and not one by which it replaces that of a base.
template <typename T, typename S>
concept SpeaksOfItsForward = std::derived_from<T, Network<T, S>> || requires {
  requires is_of_network<S>(&T::forward);
};

/// What layer.samplewise() says of the layer; false where it says nothing.
template <typename S, typename T>
bool samplewise(const T& layer) {
  if constexpr (SpeaksOfItsForward<T, S> && requires { { layer.samplewise() } -> std::convertible_to<bool>; }) {
    return layer.samplewise();
  } else {
    return false;
  }
}

/// In how many pieces, of 16 samples or a few more, a batch x is predicted. Only small images are: of larger ones not even
/// a few stay in the cache, and each piece has its price, as weights are read and transformed anew.
inline Index pieces_of_batch(const Shape& x) {
  return x.rank() == 4 && x[1] * x[2] <= 64 * 64 ? x[0] / 16 : 1;
}

/// Whether it has at least so many layers, blocks among them.
template <typename S, typename Net>
bool has_layers(const Net& net, Index least) {
  struct Count : Visitor<S> {
    Index count = 0;
    void layer(const std::string&, const std::type_info&, void*) override { ++count; }
  } layers;
  walk<S>(net, layers);
  return layers.count >= least;
}

/// net(x), piece by piece: what the samples of a piece become on their way through the network stays in the cache. The
/// cuts depend on the batch alone, so the result is the same for any number of threads.
template <typename S, typename Net>
Tensor<S> predict_in_pieces(const Net& net, const Tensor<S>& x, Index pieces) {
  const Index N = x.dim(0), size = x.size() / N;
  detail::List<Tensor<S>> results;
  for (Index piece = 0; piece < pieces; ++piece) results.push_back({});
  const auto predict = [&](Index piece) {
    Tape<S> tape;
    const Index first = piece * N / pieces, last = (piece + 1) * N / pieces;
    const std::span<const S> samples(x.cdata() + first * size, x.cdata() + last * size);
    results[piece] = net.forward(Tensor<S>(x.shape().with(0, last - first), samples), tape);
  };
  // Each thread has pieces of its own where no thread would wait for long, else all work on one piece.
  const Index threads = num_threads(), rounds = (pieces + threads - 1) / threads;
  if (4 * pieces >= 3 * rounds * threads) {
    parallel_for(pieces, predict);
  } else {
    for (Index piece = 0; piece < pieces; ++piece) predict(piece);
  }
  Index rows = 0;
  for (const Tensor<S>& result : results) rows += result.dim(0);
  Tensor<S> y(results[0].shape().with(0, rows), uninitialized);
  S* to = y.data();
  for (const Tensor<S>& result : results) {
    if (result.shape().with(0, rows) != y.shape()) fail("Network", "expected all samples to give the same shape");
    to = std::copy_n(result.cdata(), result.size(), to);
  }
  return y;
}

}  // namespace detail

/// What every layer of the library, and Layer<S> around one of your own, can be asked.
template <typename Derived, typename S>
class Network {
 public:
  using Scalar = S;

  /// Prediction: evaluates x, keeps nothing. Safe to call from many threads at once. Of a large batch it is what forward gives
  /// up to rounding, as there may be another algorithm for fewer samples.
  Tensor<S> operator()(Tensor<S> x) const {
    const Index pieces = detail::pieces_of_batch(x.shape());
    if (pieces > 1 && detail::samplewise<S>(self()) && detail::has_layers<S>(self(), 8)) {  // few do not repay the copies
      try {
        return detail::predict_in_pieces(self(), x, pieces);
      } catch (const Error&) {  // comes again, with the shapes of the whole batch
      }
    }
    Tape<S> tape;
    return self().forward(std::move(x), tape);
  }

  /// Whether, as it predicts, each sample's output (a sample is a position of the first axis) depends on this sample alone.
  /// A network of some depth then predicts a large batch of small images in pieces, whose forwards may run in several threads
  /// at once.
  bool samplewise() const { return false; }

  /// Shared handles of all parameters, in visiting order.
  std::vector<ParameterHandle<S>> parameters() { return residua::parameters<S>(self()); }

  /// Those for which predicate(path, parameter) is true.
  template <typename Predicate>
  std::vector<ParameterHandle<S>> parameters_if(Predicate&& predicate) {
    return residua::parameters_if<S>(self(), predicate);
  }

  /// Pairs of path and handle, named as PyTorch names them: "layer1.0.conv1.weight".
  auto named_parameters() { return residua::named_parameters<S>(self()); }
  auto named_buffers() { return residua::named_buffers<S>(self()); }

  /// The layer at a path: net.get<Conv2d<float>>("block0.conv1"). Throws Error when there is none of that type.
  template <typename T> T& get(std::string_view path) { return residua::get<T, S>(self(), path); }
  template <typename T> const T& get(std::string_view path) const { return residua::get<T, S>(self(), path); }

 private:
  Derived& self() { return static_cast<Derived&>(*this); }
  const Derived& self() const { return static_cast<const Derived&>(*this); }
};

/// A layer of which this is always true; your own may derive from it.
template <typename Derived, typename S>
class Samplewise : public Network<Derived, S> {
 public:
  bool samplewise() const { return true; }
};

}  // namespace residua::inline RESIDUA_ABI
