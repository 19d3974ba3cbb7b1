// Batch: samples of a dataset side by side, each transformed on its way.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include <residua/core/threads.hpp>
#include <residua/data/dataset.hpp>
#include <residua/data/transforms.hpp>

namespace residua::inline RESIDUA_ABI {

template <typename S, typename Targets = std::vector<Index>>
struct Batch {
  Tensor<S> inputs;  ///< (N, …): of images (N, H, W, C)
  Targets targets;   ///< N labels, or a tensor (N, …)
};

/// What the targets of a dataset become in a batch: labels std::vector<Index>, tensors one Tensor<S>.
template <typename S, Dataset Data>
using TargetsOf = std::conditional_t<std::is_integral_v<decltype(std::declval<const Data&>()[Index{}].target)>,
                                     std::vector<Index>, Tensor<S>>;

namespace detail {

/// i / 255 for each byte i.
template <typename S>
inline constexpr auto byte_numbers = [] {
  std::array<S, 256> numbers{};
  for (int i = 0; i < 256; ++i) numbers[static_cast<std::size_t>(i)] = static_cast<S>(i) / static_cast<S>(255);
  return numbers;
}();

/// A sample's input as the network takes it.
template <typename S>
Tensor<S> to_numbers(const Tensor<std::uint8_t>& bytes) {
  Tensor<S> x(bytes.shape(), uninitialized);
  std::transform(bytes.cdata(), bytes.cdata() + bytes.size(), x.data(),
                 [](std::uint8_t byte) { return byte_numbers<S>[byte]; });
  return x;
}
template <typename S>
Tensor<S> to_numbers(Tensor<S> x) {
  return x;
}

/// Room for the targets, or inputs, of `count` samples like the first.
inline std::vector<Index> room_for(Index count, Index) { return std::vector<Index>(static_cast<std::size_t>(count)); }
template <typename S>
Tensor<S> room_for(Index count, const Tensor<S>& first) {
  Shape shape{count};
  for (Index size : first.shape()) shape.append(size);
  return Tensor<S>(shape, uninitialized);
}

/// Puts what belongs to sample n, which has an index in the dataset, into its place.
inline void put(std::vector<Index>& labels, Index n, Index label, const char*, Index) {
  labels[static_cast<std::size_t>(n)] = label;
}
template <typename S>
void put(Tensor<S>& all, Index n, const Tensor<S>& x, const char* what, Index index) {
  const Shape shape = all.shape().part(1, all.rank());
  if (x.shape() != shape) {
    fail("make_batch", "expected ", what, " of one shape, ", shape, ", got ", x.shape(), " at index ", index);
  }
  std::copy_n(x.cdata(), x.size(), all.data() + n * x.size());
}

}  // namespace detail

/// The samples at `indices`, each input passed through `transforms` in turn. What is drawn for the sample at an index
/// depends on `random` and that index alone. Throws Error for no indices, an index out of range, or inputs, as the
/// transforms give them, or targets of different shapes.
template <typename S, Dataset Data>
Batch<S, TargetsOf<S, Data>> make_batch(const Data& data, std::span<const Index> indices,
                                        const Random& random = Random(0),
                                        const std::vector<Transform<S>>& transforms = {}) {
  if (indices.empty()) fail("make_batch", "expected at least one index, got none");
  for (Index index : indices) {
    if (index < 0 || index >= data.size()) {
      fail("make_batch", "expected indices from 0 to ", data.size() - 1, ", got ", index);
    }
  }
  const auto sample_at = [&](Index index) {
    auto sample = data[index];
    using X = decltype(sample.input);
    using T = decltype(sample.target);
    static_assert(std::is_same_v<X, Tensor<S>> || std::is_same_v<X, Tensor<std::uint8_t>>,
                  "residua: a sample's input is a Tensor<S>, or a Tensor<std::uint8_t>");
    static_assert(std::is_same_v<T, Tensor<S>> || std::is_integral_v<T>,
                  "residua: a sample's target is a Tensor<S>, or a label");
    Tensor<S> x = detail::to_numbers<S>(std::move(sample.input));
    Random own = random.split(static_cast<std::uint64_t>(index));
    for (const auto& transform : transforms) x = transform(std::move(x), own);
    return Sample<S, T>{std::move(x), std::move(sample.target)};
  };

  // The first sample tells the shape of all.
  const auto count = static_cast<Index>(indices.size());
  const auto first = sample_at(indices[0]);
  Batch<S, TargetsOf<S, Data>> batch{detail::room_for(count, first.input), detail::room_for(count, first.target)};
  const auto place = [&](Index n, const auto& sample) {
    const Index index = indices[static_cast<std::size_t>(n)];
    detail::put(batch.inputs, n, sample.input, "inputs", index);
    detail::put(batch.targets, n, sample.target, "targets", index);
  };
  place(0, first);
  parallel_for(count - 1, [&](Index n) { place(n + 1, sample_at(indices[static_cast<std::size_t>(n + 1)])); });
  return batch;
}

}  // namespace residua::inline RESIDUA_ABI
