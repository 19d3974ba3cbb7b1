// What stands between residua and libtorch: tensors, the ways of keeping images in memory, and whether outputs agree.
#pragma once

#include <torch/script.h>
#include <torch/torch.h>

#include <residua/io/layout.hpp>
#include <residua/residua.hpp>

#include "measure.hpp"

namespace compare {

using namespace residua;

inline Tensor<float> random_tensor(const Shape& shape, std::uint64_t seed = 1) {
  Random random(seed);
  return init::normal<float>(shape, 0, 1, random);
}

inline std::vector<Index> random_labels(Index rows, Index classes) {
  std::vector<Index> labels(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<Index>(i * 7919) % classes;
  return labels;
}

/// Labels as libtorch takes them.
inline at::Tensor to_peer(const std::vector<Index>& labels) {
  return at::tensor(std::vector<std::int64_t>(labels.begin(), labels.end()), at::kLong);
}

/// A way of keeping images in memory, of which libtorch is taken at its best.
struct Format {
  const char* name;
  at::MemoryFormat memory;
};
inline constexpr Format contiguous{"contiguous", at::MemoryFormat::Contiguous};
inline constexpr Format channels_last{"channels-last", at::MemoryFormat::ChannelsLast};

/// Those that differ for inputs of this shape.
inline std::vector<Format> formats(const Shape& shape) {
  return shape.rank() == 4 ? std::vector{contiguous, channels_last} : std::vector{contiguous};
}

/// A copy with libtorch's order of axes: images (N, H, W, C) become (N, C, H, W), and so do convolutions' weights.
inline at::Tensor to_peer(const Tensor<float>& x, Format format = contiguous) {
  std::vector<std::int64_t> sizes;
  for (Index axis = 0; axis < x.rank(); ++axis) sizes.push_back(x.dim(axis));
  const at::Tensor same = torch::from_blob(const_cast<float*>(x.cdata()), sizes);
  return x.rank() == 4 ? same.permute({0, 3, 1, 2}).clone(format.memory) : same.clone();
}

/// A copy of a tensor as libtorch has it in files, in our order.
inline Tensor<float> from_peer(const at::Tensor& t, Layout layout) {
  const at::Tensor plain = t.detach().to(at::kFloat).contiguous();
  Shape shape;
  for (const std::int64_t size : plain.sizes()) shape.append(size);
  const std::span<const float> values(plain.data_ptr<float>(), static_cast<std::size_t>(plain.numel()));
  return from_file_layout(Tensor<float>(shape, values), layout);
}

inline constexpr double output_tolerance = 2e-5, gradient_tolerance = 1e-4, network_tolerance = 1e-4;

/// The largest difference relative to the largest element.
inline Difference difference(const Tensor<float>& ours, const at::Tensor& peer, double allowed) {
  const at::Tensor a = to_peer(ours), b = peer.detach();
  if (a.sizes() != b.sizes()) fail("compare", "expected outputs of one shape, got ", ours.shape(), " and another");
  return {((a - b).abs().max() / b.abs().max()).item<double>(), allowed};
}

inline Difference difference(double ours, double peer, double allowed) {
  return {std::abs(ours - peer) / std::abs(peer), allowed};
}

}  // namespace compare
