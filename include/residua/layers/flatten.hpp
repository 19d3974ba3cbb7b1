// Flatten: several axes into one.
#pragma once

#include <utility>

#include <residua/core/layer.hpp>
#include <residua/core/tensor_ops.hpp>

namespace residua::inline RESIDUA_ABI {

struct FlattenOptions {
  Index start_dim = 1;
  Index end_dim = -1;
};

/// Makes one axis of the axes start_dim … end_dim.   (N, T, C) → (N, T·C)
///
/// Images (N, H, W, C) flattened from axis 1 to the last are copied to PyTorch's order, (N, C·H·W) with the channels
/// outermost, so that a Linear behind it has PyTorch's weight. Everything else is only reshaped, and shares memory.
/// Throws Error for axes the input does not have, or the end before the start.
template <typename S>
class Flatten : public Network<Flatten<S>, S> {
 public:
  FlattenOptions options;

  explicit Flatten(const FlattenOptions& o = {}) : options(o) {}

  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    const Shape shape = x.shape(), flat = flattened(shape, tape);
    tape.push_for(false, shape);
    return (reorders(shape) ? to_channels_first(x) : std::move(x)).reshaped(flat);
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    const auto shape = tape.template pop<Shape>();
    if (!tape.output_gradient()) return {};
    detail::check_gradient("Flatten", dy, flattened(shape, tape), tape);
    if (!reorders(shape)) return std::move(dy).reshaped(shape);
    return to_channels_last(std::move(dy).reshaped(Shape{shape[0], shape[3], shape[1], shape[2]}));
  }

  bool samplewise() const { return options.start_dim > 0; }

  static void visit(auto&, auto&&) {}

 private:
  std::pair<Index, Index> axes(const Shape& x) const {
    const auto counted = [&](Index axis) { return axis < 0 ? axis + x.rank() : axis; };
    return {counted(options.start_dim), counted(options.end_dim)};
  }

  bool reorders(const Shape& x) const { return x.rank() == 4 && axes(x) == std::pair<Index, Index>(1, 3); }

  Shape flattened(const Shape& x, const Tape<S>& tape) const {
    const auto [start, end] = axes(x);
    if (start < 0 || end < start || end >= x.rank()) {
      tape.fail("Flatten", "expected an input with axes ", options.start_dim, " to ", options.end_dim, ", got ", x);
    }
    Shape flat = x.part(0, start);
    flat.append(x.part(start, end + 1).size());
    for (Index axis = end + 1; axis < x.rank(); ++axis) flat.append(x[axis]);
    return flat;
  }
};

}  // namespace residua::inline RESIDUA_ABI
