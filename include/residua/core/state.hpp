// State: all that must be remembered for work to go on as if it had never stopped, by name.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <residua/core/visit.hpp>

namespace residua::inline RESIDUA_ABI {

/// One remembered value: where it is, and what another value must be like to take its place.
struct StateEntry {
  using Value = std::variant<double*, Index*, std::uint64_t*, bool*, std::vector<double>*, std::string*,
                             Tensor<float>*, Tensor<double>*>;

  std::string name;
  Value value;
  Shape shape = {};                ///< of a tensor
  Layout layout = Layout::plain;   ///< of a tensor, in files
  bool may_be_empty = false;       ///< a tensor that is there only once it is needed
};

/// Sees the members that a visit shows, and writes down where they are.
///
///     v("step", self.step_);                    // a number: double, Index, std::uint64_t, bool
///     v("losses", self.losses_);                // a std::vector<double> or std::string of any length
///     v("mean", self.mean_);                    // a tensor, of the shape it has
///     v("exp_avg", self.exp_avg_, parameter);   // a tensor that is empty or like a parameter's value
///     v("inner", self.inner_);                  // anything with state of its own: a network, an optimizer, a Random …
class StateVisitor {
 public:
  explicit StateVisitor(std::vector<StateEntry>& entries, std::string section = "")
      : entries_(entries), path_(std::move(section)) {}

  template <typename T>
  [[gnu::noinline]] void operator()(std::string_view name, T& member) {
    inside(name, [&] { show(member); });
  }

  template <typename S>
  void operator()(std::string_view name, Tensor<S>& tensor, const ParameterData<S>& like) {
    inside(name, [&] { add(&tensor, like.value.shape(), like.layout, true); });
  }

  /// What `show` shows has a name below this one.
  template <typename F>
  void inside(std::string_view name, F&& show) {
    const std::size_t length = enter(name);
    show();
    path_.resize(length);
  }

 private:
  /// Appends a name to the path; returns how long the path was.
  [[gnu::noinline]] std::size_t enter(std::string_view name) {
    const std::size_t length = path_.size();
    if (!path_.empty() && path_.back() != '/' && !name.empty()) path_ += '.';
    path_ += name;
    return length;
  }

  // Not inlined: it would stand once for each member of each kind of state.
  [[gnu::noinline]] void add(StateEntry::Value value, const Shape& shape = {}, Layout layout = Layout::plain,
                             bool may_be_empty = false) {
    entries_.push_back({path_, value, shape, layout, may_be_empty});
  }

  template <typename T>
  void show(T& member) {
    if constexpr (requires { member.visit_state(*this); }) {
      member.visit_state(*this);
    } else if constexpr (requires { typename T::Scalar; }) {
      network<typename T::Scalar>(member);
    } else if constexpr (detail::Visitable<T>) {
      T::visit(member, *this);
    } else {
      static_assert(std::is_constructible_v<StateEntry::Value, T*>,
                    "residua: a visit shows numbers, vectors of double, texts, tensors, and what has a visit of its own");
      add(&member);
    }
  }

  template <typename S>
  void show(Tensor<S>& tensor) { add(&tensor, tensor.shape()); }
  template <typename S>
  void show(Parameter<S>& p) { show_tracked(p); }
  template <typename S>
  void show(Buffer<S>& b) { show_tracked(b); }

  /// One without elements is an option that is off.
  void show_tracked(auto& tracked) {
    if (!tracked.value.empty()) add(&tracked.value, tracked.value.shape(), tracked.layout);
  }

  /// Parameters and buffers, by the names that PyTorch gives them.
  template <typename S, typename Net>
  void network(Net& net) {
    struct Collect : Visitor<S> {
      explicit Collect(StateVisitor& visitor) : v(visitor) {}
      StateVisitor& v;
      void parameter(const std::string& path, Parameter<S>& p) override { v(path, p); }
      void buffer(const std::string& path, Buffer<S>& b) override { v(path, b); }
    } collect(*this);
    walk<S>(net, collect);
  }

  std::vector<StateEntry>& entries_;
  std::string path_;
};

/// What belongs to a run, put together by name, to be saved and gone on with:
///
///     State run;
///     run.add("", net).add("optimizer", optimizer).add("schedule", schedule).add("rng", rng);
///     save_checkpoint(run, "run.safetensors");         // io/checkpoint.hpp
///     resume(run, "run.safetensors");
///
/// The entries of a part are named part/entry, those of the part without a name entry alone: a network's are then
/// PyTorch's. A part is anything with a `visit` (or `visit_state`); it must outlive the State and stay in place.
class State {
 public:
  /// Throws Error for a name that is there already or has a slash in it.
  template <typename T>
    requires(!std::is_const_v<T>)
  State& add(const std::string& name, T& part) {
    if (name.find('/') != std::string::npos) fail("State", "expected a name without a slash, got '", name, "'");
    for (const Part& other : parts_) {
      if (other.name == name) fail("State", "expected parts of different names, got two named '", name, "'");
    }
    parts_.push_back({name, [&part](StateVisitor& visitor) { visitor("", part); }});
    return *this;
  }

  /// All values, as they are now.
  std::vector<StateEntry> entries() const {
    std::vector<StateEntry> all;
    for (const Part& part : parts_) {
      StateVisitor visitor(all, part.name.empty() ? "" : part.name + '/');
      part.show(visitor);
    }
    return all;
  }

 private:
  struct Part {
    std::string name;
    std::function<void(StateVisitor&)> show;
  };
  std::vector<Part> parts_;
};

}  // namespace residua::inline RESIDUA_ABI
