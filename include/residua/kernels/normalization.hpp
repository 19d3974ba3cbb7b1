// Normalisation of rows (LayerNorm, RMSNorm) and of groups of channels (GroupNorm, InstanceNorm, BatchNorm).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <residua/core/tensor.hpp>
#include <residua/core/threads.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/kernels/relu.hpp>

namespace residua::inline RESIDUA_ABI::kernels {

// --- rows ------------------------------------------------------------------------------------------------------------

/// How the rows of a matrix are normalised:  y = (x − mean) · rstd · weight + bias,   rstd = 1 / √(variance + eps),
/// mean and variance of each row.
template <typename S>
struct RowNorm {
  Index rows, features;
  double eps;
  bool centered;           ///< false: 0 takes the place of the mean, as in RMSNorm
  const S *weight, *bias;  ///< (features); null where there is none

  /// The same for one of `samples` equal runs of rows, whose weights and biases are `stride` apart.
  RowNorm of_sample(Index sample, Index samples, Index stride) const {
    const auto own = [&](const S* v) { return v ? v + sample * stride : nullptr; };
    return {rows / samples, features, eps, centered, own(weight), own(bias)};
  }
};

/// Rows longer than this are read piece by piece, each piece twice while it is in the cache.
inline constexpr Index row_piece = 4096;

/// Mean (0 where not `centered`) and variance around it, in two passes over each piece of the row.
template <typename V, typename S>
RESIDUA_INLINE void row_moments(const S* x, Index n, bool centered, S& mean, S& variance) {
  double center = 0, squares = 0;
  for (Index first = 0; first < n; first += row_piece) {
    const Index count = std::min(row_piece, n - first);
    const S total = centered ? sum_row<V>(count, [](const V& v) { return v; }, x + first) : S(0);
    const S c = total / static_cast<S>(count);
    const V around = c;
    const S sum = sum_row<V>(count, [&](const V& v) { return (v - around) * (v - around); }, x + first);
    // Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm" (1979)
    const double share = static_cast<double>(count) / static_cast<double>(first + count), delta = double{c} - center;
    center += delta * share;
    squares += double{sum} + delta * delta * share * static_cast<double>(first);
  }
  mean = static_cast<S>(center);
  variance = static_cast<S>(squares / static_cast<double>(n));
}

/// x (rows, features) → y, which may be the same memory. Mean and rstd of each row → statistics (rows, 2), unless null.
template <typename S>
void row_norm(const RowNorm<S>& norm, const S* x, S* y, S* statistics) {
  const Index C = norm.features;
  parallel_ranges(norm.rows, std::max<Index>(1, 32768 / C), [&](Index first, Index last) {
    with_best_vectors([=](auto bytes) {
      using V = Pack<S, bytes>;
      for (Index row = first; row < last; ++row) {
        const S* const in = x + row * C;
        S* const out = y + row * C;
        S mean, variance;
        row_moments<V>(in, C, norm.centered, mean, variance);
        const S rstd = S(1) / std::sqrt(variance + static_cast<S>(norm.eps));
        const V m = mean, r = rstd;
        if (norm.weight && norm.bias) {
          map_row<V>(C, out, [&](const V& v, const V& w, const V& b) { return (v - m) * r * w + b; }, in, norm.weight,
                     norm.bias);
        } else if (norm.weight) {
          map_row<V>(C, out, [&](const V& v, const V& w) { return (v - m) * r * w; }, in, norm.weight);
        } else {
          map_row<V>(C, out, [&](const V& v) { return (v - m) * r; }, in);
        }
        if (statistics) {
          statistics[2 * row] = mean;
          statistics[2 * row + 1] = rstd;
        }
      }
    });
  });
}

/// dx of rows first … last - 1, which may be dy's memory:  with g = dy · weight and z = (x − mean) · rstd,
/// dx = rstd · (g − Σg / n − z · Σ(g · z) / n), without Σg where the mean is not taken off. On the way, unless null, adds
/// the rows' part to  dweight = Σ_rows dy · z  and  dbias = Σ_rows dy.
template <typename S>
void row_norm_gradient(const RowNorm<S>& norm, const S* weight, const S* x, const S* statistics, const S* dy,
                       Index first, Index last, S* dx, S* dweight, S* dbias) {
  with_best_vectors([=](auto bytes) {
    using V = Pack<S, bytes>;
    const Index C = norm.features;
    for (Index row = first; row < last; ++row) {
      const V mean = statistics[2 * row], rstd = statistics[2 * row + 1];
      const S *const in = x + row * C, *const d = dy + row * C;
      S total = 0, product = 0;  // Σg and Σ(g · z)
      for (Index piece = 0; piece < C; piece += row_piece) {
        V sum, sum_of_products;
        for_each_vector<V>(piece, std::min(C, piece + row_piece), [&](Index i, auto n) RESIDUA_INLINE_LAMBDA {
          const V z = (load_ahead<V>(in + i, n) - mean) * rstd, dy_i = load_ahead<V>(d + i, n);
          const V g = dy_i * load<V>(weight + i, n);
          sum += g;
          sum_of_products += g * z;
          if (dx != nullptr) store_ahead<V>(dx + row * C + i, g, n);  // rounded as in Σg, so that a single feature gives 0
          if (dweight == nullptr) return;
          store<V>(dweight + i, load<V>(dweight + i, n) + dy_i * z, n);
          store<V>(dbias + i, load<V>(dbias + i, n) + dy_i, n);
        });
        total += sum_of_lanes(sum);
        product += sum_of_lanes(sum_of_products);
      }
      if (dx == nullptr) continue;
      const V shift = norm.centered ? total / static_cast<S>(C) : S(0), slope = product / static_cast<S>(C);
      for_each_vector<V>(0, C, [&](Index i, auto n) RESIDUA_INLINE_LAMBDA {
        S* const g = dx + row * C + i;
        const V z = (load<V>(in + i, n) - mean) * rstd;
        store<V>(g, (load<V>(g, n) - shift - z * slope) * rstd, n);
      });
    }
  });
}

/// Adds features at … at + n - 1 of all rows to  dweight = Σ_rows dy · (x − mean) · rstd  and  dbias = Σ_rows dy.
template <typename S>
void add_row_norm_parameter_gradients(const RowNorm<S>& norm, const S* x, const S* statistics, const S* dy, Index at,
                                      Index n, S* dweight, S* dbias) {
  for (Index row = 0; row < norm.rows; ++row) {
    const S *const d = dy + row * norm.features + at, *const in = x + row * norm.features + at;
    const S mean = statistics[2 * row], rstd = statistics[2 * row + 1];
    map_range(n, dweight, [=](auto w, auto g, auto v) { return w + g * ((v - mean) * rstd); },
              static_cast<const S*>(dweight), d, in);
    add_range(n, dbias, d);
  }
}

/// dx, which may be dy's memory, and dweight, dbias; null for what is not wanted. `statistics` are row_norm's.
template <typename S>
void row_norm_gradient(const RowNorm<S>& norm, const S* x, const S* statistics, const S* dy, S* dx, S* dweight,
                       S* dbias) {
  const Index C = norm.features;
  const bool learns = dweight || dbias;
  const Tensor<S> ones(Shape{norm.weight ? 0 : C}, S(1));
  const S* const weight = norm.weight ? norm.weight : ones.cdata();
  Tensor<S> sums(Shape{2, learns ? C : 0});  // dweight and dbias
  S* const to = sums.data();

  // Short rows give a block's part of the sums while they are in the cache. Of long ones the parts would be as large as
  // the rows: their sums are cut by features instead.
  const bool together = learns && C <= row_piece;
  if (learns && !together) {
    parallel_ranges(C, row_piece / 4, [&](Index first, Index last) {
      add_row_norm_parameter_gradients(norm, x, statistics, dy, first, last - first, to + first, to + C + first);
    });
  }
  const WideRows blocks(norm.rows, C);
  const Tensor<S> total = sum_over_blocks<S>(blocks, together ? 2 : 0, [&](Index block, S* part) {
    const Index first = block * blocks.grain, last = first + blocks.rows_in(block);
    if (together) std::fill_n(part, 2 * C, S(0));
    row_norm_gradient(norm, weight, x, statistics, dy, first, last, dx, together ? part : nullptr,
                      together ? part + C : nullptr);
  });
  const Tensor<S>& result = together ? total : sums;
  if (dweight) std::copy_n(result.cdata(), C, dweight);
  if (dbias) std::copy_n(result.cdata() + C, C, dbias);
}

/// As row_norm, with a weight and a bias of each sample's own: each sample is rows / samples rows, and the weights and
/// biases of neighbouring samples are `stride` apart.
template <typename S>
void row_norm(const RowNorm<S>& norm, Index samples, Index stride, const S* x, S* y, S* statistics) {
  parallel_for(samples, [&](Index sample) {
    const RowNorm<S> own = norm.of_sample(sample, samples, stride);
    const Index first = sample * own.rows, at = first * own.features;
    row_norm(own, x + at, y + at, statistics ? statistics + 2 * first : nullptr);
  });
}

/// Likewise dx, dweight and dbias.
template <typename S>
void row_norm_gradient(const RowNorm<S>& norm, Index samples, Index stride, const S* x, const S* statistics,
                       const S* dy, S* dx, S* dweight, S* dbias) {
  parallel_for(samples, [&](Index sample) {
    const RowNorm<S> own = norm.of_sample(sample, samples, stride);
    const Index first = sample * own.rows, at = first * own.features;
    row_norm_gradient(own, x + at, statistics + 2 * first, dy + at, dx ? dx + at : nullptr, dweight + sample * stride,
                      dbias + sample * stride);
  });
}

// --- groups of channels ----------------------------------------------------------------------------------------------

/// How the channels of samples, pixels × channels each, are normalised:  y = (x − mean) · rstd · weight + bias,
/// rstd = 1 / √(variance + eps), mean and variance of each group of channels of a sample. To BatchNorm the whole batch
/// is one sample, and each channel a group.
template <typename S>
struct GroupNorm {
  Index samples, pixels, channels, groups;
  double eps;
  bool of_input;           ///< false: mean and variance are given, and do not depend on x
  const S *weight, *bias;  ///< (channels); null where there is none

  Index sample_size() const { return pixels * channels; }
};

/// Mean and biased variance of each group of a sample, written for each of its channels.   x (pixels, C) → (2, C)
template <typename S>
void group_moments(const GroupNorm<S>& norm, const S* x, S* moments) {
  const Index C = norm.channels, width = C / norm.groups;
  const Tensor<S> of_channels = column_moments(x, norm.pixels, C);
  const auto pixels = static_cast<double>(norm.pixels), channels = static_cast<double>(width);
  const S *means = of_channels.cdata(), *squares = means + C;
  for (Index at = 0; at < C; at += width, means += width, squares += width) {
    double sum = 0, around = 0;  // Σ over the channels, and Σ(x − mean)² over all values
    for (Index c = 0; c < width; ++c) sum += double{means[c]};
    const double mean = sum / channels;
    for (Index c = 0; c < width; ++c) {
      around += double{squares[c]} + (double{means[c]} - mean) * (double{means[c]} - mean) * pixels;
    }
    std::fill_n(moments + at, width, static_cast<S>(mean));
    std::fill_n(moments + C + at, width, static_cast<S>(around / (channels * pixels)));
  }
}

/// 1 / √(variance + eps), times weight where there is one.   (C) → (C)
template <typename S>
Tensor<S> channel_scale(const GroupNorm<S>& norm, const S* variance, bool weighted) {
  Tensor<S> scale(Shape{norm.channels}, uninitialized);
  S* const to = scale.data();
  for (Index c = 0; c < norm.channels; ++c) {
    to[c] = (weighted && norm.weight ? norm.weight[c] : S(1)) / std::sqrt(variance[c] + static_cast<S>(norm.eps));
  }
  return scale;
}

/// How many numbers are written before it is written down which of them a ReLU stopped.
template <typename S>
Index norm_run(const GroupNorm<S>& norm) {
  return WideRows(norm.pixels, norm.channels).block_size();
}

/// x (samples, pixels, C) → y, which may be the same memory. moments (samples, 2, C), mean and biased variance, are
/// written when they are the input's, else read. In the same pass y = relu?(y + sum?), whose sum may be y's memory, and
/// unless `stopped` is null the bits of what the ReLU stopped, for a single sample, in runs of norm_run.
template <typename S>
void group_norm(const GroupNorm<S>& norm, const S* x, S* y, S* moments, const S* sum = nullptr, bool relu = false,
                std::uint8_t* stopped = nullptr) {
  const Index C = norm.channels, size = norm.sample_size();
  const WideRows wide(norm.pixels, C);
  const Tensor<S> shift = repeated(norm.bias, wide);
  const S least = relu && stopped == nullptr ? S(0) : -std::numeric_limits<S>::infinity();
  const bool past = stopped == nullptr && is_past_caches(norm.samples * size * Index(sizeof(S)), x == y || sum == y);
  const auto then = [&](Index block) {
    if (stopped == nullptr) return;
    const Index run = wide.block_size(), first = block * run;
    relu_range<S>(std::min(run, size - first), y + first, y + first, stopped + block * relu_bytes(run));
  };
  parallel_for(norm.samples, [&](Index sample) {
    const S* const in = x + sample * size;
    S* const mean = moments + sample * 2 * C;
    if (norm.of_input) group_moments(norm, in, mean);
    const Tensor<S> means = repeated<S>(mean, wide);
    const Tensor<S> scale = repeated(channel_scale<S>(norm, mean + C, true).cdata(), wide);
    const MatrixOrZeros<S> added{sum ? sum + sample * size : nullptr};
    map_columns_then(wide, y + sample * size, past, [least](auto v, auto m, auto a, auto b, auto s) {
      const auto result = (v - m) * a + b + s;
      return where(result < least, least, result);  // NaN stays NaN
    }, then, in, means, scale, shift, added);
  });
}

/// dx, which may be dy's memory, and dweight, dbias; null for what is not wanted. `moments` are group_norm's.
template <typename S>
void group_norm_gradient(const GroupNorm<S>& norm, const S* x, const S* moments, const S* dy, S* dx, S* dweight,
                         S* dbias) {
  const Index C = norm.channels, size = norm.sample_size(), width = C / norm.groups;
  const S share = S(1) / static_cast<S>(width * norm.pixels);
  const WideRows wide(norm.pixels, C);
  const bool past = is_past_caches(norm.samples * size * Index(sizeof(S)), dx == dy);
  Tensor<S> parts(Shape{norm.samples, 2, C}, uninitialized);  // each sample's part of dweight and dbias
  S* const part = parts.data();
  parallel_for(norm.samples, [&](Index sample) {
    const S* const in = x + sample * size;
    const S* const d = dy + sample * size;
    const S* const mean = moments + sample * 2 * C;
    const Tensor<S> rstd = channel_scale(norm, mean + C, false), scale = channel_scale(norm, mean + C, true);
    Tensor<S> sums(Shape{2, C});  // Σ dy, Σ dy · (x − mean)
    if (dweight || dbias || norm.of_input) sums = column_gradients(d, in, mean, norm.pixels, C);
    const S *const sum = sums.cdata(), *const product = sum + C, *const r = rstd.cdata(), *const a = scale.cdata();
    S* const own = part + sample * 2 * C;
    for (Index c = 0; c < C; ++c) own[c] = product[c] * r[c];
    std::copy_n(sum, C, own + C);
    if (!dx) return;

    // dx = scale · dy − rstd · Σ(weight · dy) / m − (x − mean) · rstd³ · Σ(weight · dy · (x − mean)) / m,
    // sums over the m values of a group; with mean and variance that do not depend on x only the first term.
    Tensor<S> shift(Shape{C}), slope(Shape{C});
    S *const b = shift.data(), *const s = slope.data();
    for (Index at = 0; norm.of_input && at < C; at += width) {
      double total = 0, along = 0;
      for (Index c = at; c < at + width; ++c) {
        total += double{a[c]} * double{sum[c]};
        along += double{a[c]} * double{product[c]};
      }
      std::fill_n(b + at, width, static_cast<S>(total) * share);
      std::fill_n(s + at, width, static_cast<S>(along) * r[at] * r[at] * share);
    }
    const auto dx_of = [](auto g, auto v, auto m, auto u, auto w, auto z) { return g * u - w - (v - m) * z; };
    map_columns_then(wide, dx + sample * size, past, dx_of, [](Index) {}, d, in, repeated(mean, wide),
                     repeated(scale.cdata(), wide), repeated(shift.cdata(), wide), repeated(slope.cdata(), wide));
  });
  if (!dweight && !dbias) return;
  const Tensor<S> total = column_sums(parts.cdata(), norm.samples, 2 * C);
  if (dweight) std::copy_n(total.cdata(), C, dweight);
  if (dbias) std::copy_n(total.cdata() + C, C, dbias);
}

}  // namespace residua::inline RESIDUA_ABI::kernels
