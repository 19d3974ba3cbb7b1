// Concat: branches side by side, joined over the features.
#pragma once

#include <utility>
#include <vector>

#include <residua/blocks/children.hpp>
#include <residua/blocks/fork.hpp>
#include <residua/blocks/inference.hpp>
#include <residua/core/tensor_ops.hpp>

namespace residua::inline RESIDUA_ABI {

/// y = [branch_1(x), branch_2(x), …], one after the other along the last axis: an image's channels.
///
///     Concat<float> module;                                        // Inception
///     module.add("branch1", Conv2d<float>({…}, rng)).add("branch2", Sequential<float>(…));
///
///     Concat<float> layer;                                         // DenseNet: y = [x, f(x)]
///     layer.add("", Identity<float>()).add("denselayer1", f);
///
/// The branches agree in all other axes. What names there may be, Children tells. Throws Error in forward where the
/// branches do not agree or there is none.
template <typename S>
class Concat : public Children<Concat<S>, S> {
 public:
  Tensor<S> forward(Tensor<S> x, Tape<S>& tape) const {
    auto scope = tape.scope("");
    if (this->children_.empty()) tape.fail("Concat", "expected at least 1 branch, got 0");
    const bool wanted = tape.input_gradient();
    bool wanted_after = false;
    std::vector<Tensor<S>> parts;
    std::vector<Index> ends{0};  // the features of branch i are ends[i] … ends[i + 1] - 1
    for (const auto& [name, branch] : this->children_) {
      tape.set_input_gradient(wanted);
      const bool last = static_cast<Index>(parts.size()) + 1 == this->size();
      parts.push_back(residua::forward(branch, name, last ? std::move(x) : x, tape));
      wanted_after = wanted_after || tape.input_gradient();
      check_part(parts, tape);
      ends.push_back(ends.back() + parts.back().features());
    }
    tape.set_input_gradient(wanted_after);
    Tensor<S> y = concat(parts, -1);
    tape.push_for(false, y.shape(), std::move(ends));
    return y;
  }

  Tensor<S> backward(Tensor<S> dy, Tape<S>& tape) {
    auto scope = tape.scope("");
    const auto [shape, ends] = tape.template pop<Shape, std::vector<Index>>();
    const bool wanted = tape.output_gradient();
    if (wanted) detail::check_gradient("Concat", dy, shape, tape);
    const Index* const end = ends.data();
    // dx = Σ_i dbranch_i. Where one is empty nobody wants the sum.
    std::vector<Tensor<S>> parts;
    for (Index i = this->size(); i-- > 0;) {
      auto& [name, branch] = this->children_[i];
      Tensor<S> part = wanted ? slice(dy, -1, end[i], end[i + 1]) : Tensor<S>();
      parts.push_back(residua::backward(branch, name, std::move(part), tape));
    }
    return detail::sum_of_fork(std::move(parts), "Concat", tape);
  }

  bool samplewise() const { return this->all_samplewise(); }

  /// The same function for prediction only: that of each branch.
  Layer<S> inference() const {
    Concat result;
    for (const auto& [name, branch] : this->children_) result.children_.push_back({name, branch.inference()});
    return result;
  }

 private:
  /// Throws Error where the last part does not go with the first.
  static void check_part(const std::vector<Tensor<S>>& parts, const Tape<S>& tape) {
    const Shape &first = parts.front().shape(), &last = parts.back().shape();
    if (last.rank() < 1 || last.rank() != first.rank() || last.with(-1, 0) != first.with(-1, 0)) {
      tape.fail("Concat", "expected branches that agree in all axes but the last, got ", first, " and ", last);
    }
  }
};

}  // namespace residua::inline RESIDUA_ABI
