// Optimizer: what moves parameters against their gradients, and what all kinds of it have in common.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include <residua/core/elementwise.hpp>
#include <residua/core/list.hpp>
#include <residua/core/parameter.hpp>
#include <residua/core/state.hpp>

namespace residua::inline RESIDUA_ABI {

/// What a schedule sees of an optimizer: each group's learning rate and, where it has one, its momentum.
class ScheduledGroups {
 public:
  virtual ~ScheduledGroups() = default;
  virtual Index group_count() const = 0;
  virtual double& lr(Index group) = 0;
  virtual double* momentum(Index group) = 0;  ///< Adam's is beta1; null where there is none
};

/// Any optimizer: what a training loop asks of it.
template <typename S>
class Optimizer : public ScheduledGroups {
 public:
  /// Moves every parameter that is not frozen and has a gradient.
  virtual void step() = 0;

  /// All parameters, group after group.
  virtual const std::vector<ParameterHandle<S>>& parameters() const = 0;

  /// Forgets the gradients; the next backward pass begins from nothing.
  void zero_grad() {
    for (auto& p : parameters()) p->grad = {};
  }

  /// Shows what a resumed run must know.
  virtual void visit_state(StateVisitor& v) = 0;
};

/// Parameters with options of their own, for example without weight decay.
template <typename S, typename Options>
struct ParameterGroup {
  std::vector<ParameterHandle<S>> parameters;
  Options options;
};

/// What the kinds of optimizers share. A kind says by which rules its options go and how it moves one parameter, and
/// keeps a Memory for each, which shows its members by `visit(self, v, parameter)`.
template <typename S, typename Options, typename Memory>
class GroupedOptimizer : public Optimizer<S> {
 public:
  using Group = ParameterGroup<S, Options>;

  /// A group's options; they may be changed between steps. Throws Error for a group that there is not.
  Options& options(Index group = 0) { return options_[checked(group)]; }
  const Options& options(Index group = 0) const { return options_[checked(group)]; }

  /// Moves every parameter that is not frozen and has a gradient. Throws Error, with nothing moved, where a gradient or
  /// what is kept for a parameter has another shape than the parameter, or where options break the constructor's rules.
  void step() final {
    check();
    for (Index i = 0; i < kept_.size(); ++i) {
      auto& p = parameter(i);
      if (p.requires_grad && !p.grad.empty()) move(options_[kept_[i].group], p.value, p.grad, kept_[i].memory);
    }
  }

  const std::vector<ParameterHandle<S>>& parameters() const final { return parameters_; }
  Index group_count() const final { return options_.size(); }
  double& lr(Index group) final { return options(group).lr; }
  double* momentum(Index group) final {
    if constexpr (requires(Options o) { o.betas; }) {
      return &options(group).betas[0];
    } else {
      return &options(group).momentum;
    }
  }

  [[gnu::cold]] void visit_state(StateVisitor& v) final {
    for (Index group = 0; group < group_count(); ++group) {
      v.inside("group" + std::to_string(group), [&] {
        v("lr", lr(group));
        v("momentum", *momentum(group));
      });
    }
    for (Index i = 0; i < kept_.size(); ++i) {
      v.inside(std::to_string(i), [&] { Memory::visit(kept_[i].memory, v, parameter(i)); });
    }
  }

 protected:
  GroupedOptimizer(const char* kind, const std::vector<ParameterHandle<S>>& parameters, const Options& options)
      : kind_(kind) {
    add_group(parameters, options);
    check_any();
  }
  GroupedOptimizer(const char* kind, const std::vector<Group>& groups) : kind_(kind) {
    for (const Group& group : groups) add_group(group.parameters, group.options);
    check_any();
  }

  /// Throws Error for options that break a rule.
  virtual void check_options(const Options& options) const = 0;

  /// One step of one parameter.
  virtual void move(const Options& options, Tensor<S>& value, const Tensor<S>& grad, Memory& memory) const = 0;

  /// Throws Error for anything that step() would stumble over.
  void check() {
    for (const Options& options : options_) check_options(options);
    for (Index i = 0; i < kept_.size(); ++i) {
      const auto& p = parameter(i);
      check_shape("gradient", p.grad, i);
      const auto check_member = [&](std::string_view name, auto& member, const auto&...) {
        if constexpr (requires { member.shape(); }) check_shape(name, member, i);
      };
      Memory::visit(kept_[i].memory, check_member, p);
    }
  }

 private:
  ParameterData<S>& parameter(Index i) const { return *parameters_[static_cast<std::size_t>(i)]; }

  void add_group(const std::vector<ParameterHandle<S>>& parameters, const Options& options) {
    for (const auto& p : parameters) {
      if (detail::contains(parameters_, p)) {
        fail(kind_, "expected each parameter once, got number ", parameters_.size(), " again");
      }
      parameters_.push_back(p);
      kept_.push_back({options_.size(), {}});
    }
    options_.push_back(options);
  }

  void check_any() const {
    if (parameters_.empty()) fail(kind_, "expected at least one parameter, got none");
  }

  void check_shape(std::string_view what, const Tensor<S>& tensor, Index i) const {
    const Shape& expected = parameter(i).value.shape();
    if (!tensor.empty() && tensor.shape() != expected) {
      fail(kind_, "expected a ", what, " of shape ", expected, " for parameter ", i, ", got ", tensor.shape());
    }
  }

  Index checked(Index group) const {
    if (group < 0 || group >= group_count()) {
      fail(kind_, "expected a group from 0 to ", group_count() - 1, ", got ", group);
    }
    return group;
  }

  struct Kept {
    Index group;
    Memory memory;
  };

  const char* kind_;
  detail::List<Options> options_;  // by group
  std::vector<ParameterHandle<S>> parameters_;
  detail::List<Kept> kept_;  // by parameter
};

namespace detail {

inline void require_not_negative(std::string_view place, std::string_view option, double value) {
  if (!(value >= 0)) fail(place, "expected ", option, " of at least 0, got ", value);
}

/// For the share of an average that stays at a step.
inline void require_below_one(std::string_view place, std::string_view option, double value) {
  if (!(value >= 0 && value < 1)) fail(place, "expected ", option, " from 0 to below 1, got ", value);
}

/// Zeros of a parameter's shape where nothing was kept for it before.
template <typename S>
void keep_from_now_on(Tensor<S>& kept, const Tensor<S>& value) {
  if (kept.empty()) kept = Tensor<S>(value.shape());
}

/// Calls body(p, g, kept) for each number of a parameter, as many at once as a vector holds, in parallel: p is to be changed,
/// g its gradient, `kept` an array of what is kept for it, to be changed too; zeros where a tensor is not there.
template <typename S, typename Body, typename... Kept>
void move_each(Tensor<S>& value, const Tensor<S>& grad, const Body& body, Kept&... kept) {
  S* const p = value.data();
  const S* const g = grad.cdata();
  const std::array<S*, sizeof...(Kept)> k{(kept.empty() ? nullptr : kept.data())...};
  parallel_ranges(value.size(), 8192, [=](Index first, Index last) {
    kernels::with_best_vectors([=](auto bytes) {
      using V = kernels::Pack<S, bytes>;
      kernels::for_each_vector<V>(first, last, [=](Index at, auto count) RESIDUA_INLINE_LAMBDA {
        V number = kernels::load_ahead<V>(p + at, count), of_it[sizeof...(Kept)];
        for (std::size_t i = 0; i < k.size(); ++i) {
          if (k[i] != nullptr) of_it[i] = kernels::load_ahead<V>(k[i] + at, count);
        }
        body(number, kernels::load_ahead<V>(g + at, count), of_it);
        kernels::store_ahead<V>(p + at, number, count);
        for (std::size_t i = 0; i < k.size(); ++i) {
          if (k[i] != nullptr) kernels::store_ahead<V>(k[i] + at, of_it[i], count);
        }
      });
    });
  });
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
