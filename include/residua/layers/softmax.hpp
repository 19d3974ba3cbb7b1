// Softmax: positive numbers that sum to one.
#pragma once

#include <residua/core/layer.hpp>
#include <residua/core/tensor_ops.hpp>
#include <residua/kernels/softmax.hpp>

namespace residua::inline RESIDUA_ABI {

struct SoftmaxOptions {
  Index dim = -1;  ///< the axis that sums to one; the features by default
};

/// y = e^x / Σ e^x   along axis `dim`, computed as e^(x − max x). As in PyTorch, what is −∞ throughout gives NaN.
/// Throws Error for an axis the input does not have, or an empty input.
template <typename S>
class Softmax : public Network<Softmax<S>, S> {
 public:
  SoftmaxOptions options;

  explicit Softmax(const SoftmaxOptions& o = {}) : options(o) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    if (options.dim < -x.rank() || options.dim >= x.rank()) {
      tape.fail("Softmax", "expected an input with an axis ", options.dim, ", got ", x.shape());
    }
    if (x.empty()) tape.fail("Softmax", "expected an input that is not empty, got ", x.shape());
    const S* const in = x.cdata();
    Tensor<S> y = detail::take_over(x);
    kernels::softmax(in, y.data(), axis_of(y.shape()));
    tape.push_for(false, y);
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto y = tape.template pop<Tensor<S>>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("Softmax", dy, y.shape(), tape);
    const S* const in = dy.cdata();
    Tensor<S> dx = detail::take_over(dy);
    kernels::softmax_gradient(y.cdata(), in, dx.data(), axis_of(y.shape()));
    return dx;
  }

  bool samplewise() const { return options.dim == -1; }

  static void visit(auto&, auto&&) {}

 private:
  kernels::AxisView axis_of(const Shape& x) const {
    const Index axis = detail::axis_of("Softmax", x, options.dim);
    return {x.part(0, axis).size(), x[axis], x.part(axis + 1, x.rank()).size()};
  }
};

}  // namespace residua::inline RESIDUA_ABI
