// Rescale: each feature times one number plus another, which are given and not learned.
#pragma once

#include <algorithm>
#include <vector>

#include <residua/core/options.hpp>
#include <residua/kernels/columns.hpp>
#include <residua/layers/norm_checks.hpp>
#include <residua/layers/scale_shift.hpp>

namespace residua::inline RESIDUA_ABI {

struct RescaleOptions {
  std::vector<double> scale = {}, shift = {};  ///< one of each for every feature
};

/// y = x · scale + shift   for each feature. It has no parameters: how a network wants its images, for example.
///
/// Throws Error for no features, or another number of shifts than of scales, and in forward for another number of
/// features or an empty input.
template <typename S>
class Rescale : public Samplewise<Rescale<S>, S> {
 public:
  RescaleOptions options;

  explicit Rescale(const RescaleOptions& o) : options(o) {
    if (o.scale.empty() || o.scale.size() != o.shift.size()) {
      fail("Rescale", "expected a scale and a shift for each feature, got ", o.scale.size(), " and ", o.shift.size());
    }
  }

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    detail::check_features("Rescale", static_cast<Index>(options.scale.size()), 1, x.shape(), tape);
    tape.push_for(false, x.shape());
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    const kernels::WideRows wide(y.rows(), y.features());
    kernels::map_columns(wide, y.data(), [](auto v, auto a, auto b) { return v * a + b; }, in,
                         kernels::repeated(of(options.scale).cdata(), wide),
                         kernels::repeated(of(options.shift).cdata(), wide));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto shape = tape.template pop<Shape>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("Rescale", dy, shape, tape);
    const S* const in = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);
    const kernels::WideRows wide(dx.rows(), dx.features());
    kernels::map_columns(wide, dx.data(), [](auto d, auto a) { return d * a; }, in,
                         kernels::repeated(of(options.scale).cdata(), wide));
    return dx;
  }

  Layer<S> inference() const { return ScaleShift<S>(of(options.scale), of(options.shift)); }

  static void visit(auto&, auto&&) {}

 private:
  static Tensor<S> of(const std::vector<double>& numbers) {
    Tensor<S> result(Shape{static_cast<Index>(numbers.size())}, uninitialized);
    std::transform(numbers.begin(), numbers.end(), result.data(), [](double v) { return static_cast<S>(v); });
    return result;
  }
};

}  // namespace residua::inline RESIDUA_ABI
