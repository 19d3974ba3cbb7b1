// Subsample: the shortcut without parameters.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/core/options.hpp>
#include <residua/core/threads.hpp>

namespace residua::inline RESIDUA_ABI {

struct SubsampleOptions {
  Index in_channels = 0;
  Index out_channels = 0;
  Pair stride = 2;
};

/// Every stride-th pixel, the channels padded with zeros: half of the new ones in front, half behind. "Option A" of
/// He et al. 2015.
///
///     y[n, i, j, front + c] = x[n, i·stride, j·stride, c],   front = ⌊(out_channels − in_channels) / 2⌋
///     x (N, H, W, in_channels) → y (N, ⌈H/stride⌉, ⌈W/stride⌉, out_channels)
///
/// Throws Error for fewer channels out than in, and in forward for another number of channels or an empty batch.
template <typename S>
class Subsample : public Samplewise<Subsample<S>, S> {
 public:
  SubsampleOptions options;

  explicit Subsample(const SubsampleOptions& o) : options(o) {
    detail::require_at_least("Subsample", "in_channels", 1, o.in_channels);
    detail::require_at_least("Subsample", "out_channels", o.in_channels, o.out_channels);
    detail::require_at_least("Subsample", "stride", 1, o.stride);
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    if (x.rank() != 4 || x.dim(-1) != options.in_channels || x.empty()) {
      tape.fail("Subsample", "expected an input [N, H, W, ", options.in_channels, "] that is not empty, got ", x.shape());
    }
    Tensor<S> y(out_shape(x.shape()), uninitialized);
    const S* const from = x.cdata();
    fill(y, x.shape(), [&](Index small, Index large, S* to) { std::copy_n(from + large, x.features(), to + small); });
    tape.push_for(false, x.shape());
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto shape = tape.template pop<Shape>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("Subsample", dy, out_shape(shape), tape);
    Tensor<S> dx(shape, uninitialized);
    const S* const from = dy.cdata();
    fill(dx, shape, [&](Index small, Index large, S* to) { std::copy_n(from + small, shape[3], to + large); });
    return dx;
  }

  static void visit(auto&, auto&&) {}

 private:
  Shape out_shape(const Shape& x) const {
    return {x[0], (x[1] - 1) / options.stride.height + 1, (x[2] - 1) / options.stride.width + 1, options.out_channels};
  }

  /// Zeros, and then copy(position in y, position in x, result's memory) of the first channel of each pixel that is kept.
  template <typename F>
  void fill(Tensor<S>& result, const Shape& x, F&& copy) const {
    const Shape y = out_shape(x);
    const Index front = (options.out_channels - options.in_channels) / 2, size = result.size() / x[0];
    S* const to = result.data();
    parallel_for(x[0], [&](Index n) {
      std::fill_n(to + n * size, size, S(0));
      for (Index i = 0; i < y[1]; ++i) {
        for (Index j = 0; j < y[2]; ++j) {
          copy(((n * y[1] + i) * y[2] + j) * y[3] + front,
               ((n * x[1] + i * options.stride.height) * x[2] + j * options.stride.width) * x[3], to);
        }
      }
    });
  }
};

}  // namespace residua::inline RESIDUA_ABI
