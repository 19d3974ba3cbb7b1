// Children: named layers, in order.
#pragma once

#include <algorithm>
#include <string>
#include <typeinfo>
#include <utility>

#include <residua/core/layer.hpp>
#include <residua/core/list.hpp>

namespace residua::inline RESIDUA_ABI {

/// What blocks made of a list of layers share. Layers without a name are called by their number, "0", "1", …, as in
/// PyTorch; the empty name adds nothing to the path of what is inside, and any number of layers may have it. Throws Error
/// for another name that is taken or that contains a dot.
template <typename Derived, typename S>
class Children : public Network<Derived, S> {
 public:
  Children() = default;
  Children(const Children&) = default;
  Children(Children&&) noexcept = default;

  /// A block with the same names is assigned layer by layer, into the parameters that are there; any other replaces all.
  Children& operator=(Children other) {
    if (!same_names(other)) {
      children_ = std::move(other.children_);
      return *this;
    }
    for (Index i = 0; i < size(); ++i) children_[i].layer = std::move(other.children_[i].layer);
    return *this;
  }

  Derived& add(std::string name, Layer<S> layer) {
    if (name.find('.') != std::string::npos) fail(type_name(), "expected a name without dots, got '", name, "'");
    if (!name.empty() && find(name) != nullptr) fail(type_name(), "expected a name that is not taken, got '", name, "'");
    children_.push_back({std::move(name), std::move(layer)});
    return static_cast<Derived&>(*this);
  }
  Derived& add(Layer<S> layer) { return add(std::to_string(children_.size()), std::move(layer)); }

  Index size() const { return children_.size(); }
  const std::string& name(Index i) const { return at(i).name; }
  Layer<S>& operator[](Index i) { return const_cast<Layer<S>&>(at(i).layer); }
  const Layer<S>& operator[](Index i) const { return at(i).layer; }

  static void visit(auto& self, auto&& v) {
    for (Index i = 0; i < self.size(); ++i) v(self.name(i), self[i]);
  }

 protected:
  struct Child {
    std::string name;
    Layer<S> layer;
  };

  bool all_samplewise() const {
    for (const Child& child : children_) {
      if (!child.layer.samplewise()) return false;
    }
    return true;
  }

  static std::string type_name() { return detail::short_name(typeid(Derived)); }

  const Child& at(Index i) const {
    if (i < 0 || i >= size()) fail(type_name(), "expected a position below ", size(), ", got ", i);
    return children_[i];
  }

  /// The child of that name, or null.
  const Child* find(const std::string& name) const {
    for (const Child& child : children_) {
      if (child.name == name) return &child;
    }
    return nullptr;
  }

  detail::List<Child> children_;

 private:
  bool same_names(const Children& other) const {
    return std::equal(children_.begin(), children_.end(), other.children_.begin(), other.children_.end(),
                      [](const Child& a, const Child& b) { return a.name == b.name; });
  }
};

}  // namespace residua::inline RESIDUA_ABI
