// Visiting: all that is written once over the visit of layers.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include <residua/core/parameter.hpp>
#include <residua/core/record.hpp>

namespace residua::inline RESIDUA_ABI {

/// Sees the parameters, buffers and layers of a network, each with its path, in PyTorch's order: a layer's own
/// parameters where its visit names them, children in between.
template <typename S>
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void parameter(const std::string& /*path*/, Parameter<S>&) {}
  virtual void buffer(const std::string& /*path*/, Buffer<S>&) {}
  /// A layer, before its contents. Leaves are the layers without layers inside.
  virtual void layer(const std::string& /*path*/, const std::type_info&, void* /*address*/) {}
};

namespace detail {

struct AnyVisit {
  void operator()(std::string_view, auto&&) const {}
};

template <typename T>
concept Visitable = requires(T& self) { std::remove_const_t<T>::visit(self, AnyVisit{}); };

/// What a layer's visit is given: extends the path and tells parameters, buffers and layers apart.
template <typename S>
class Walk {
 public:
  Walk(Visitor<S>& visitor, std::string path) : visitor_(visitor), path_(std::move(path)) {}

  template <typename Member>
  void operator()(std::string_view name, Member& member) {
    const std::size_t length = path_.size();
    enter(name);
    node(member);
    path_.resize(length);
  }

  template <typename Member>
  void node(Member& member) {
    if constexpr (std::is_base_of_v<Parameter<S>, Member>) {
      if (!member.value.empty()) visitor_.parameter(path_, member);
    } else if constexpr (std::is_base_of_v<Buffer<S>, Member>) {
      if (!member.value.empty()) visitor_.buffer(path_, member);
    } else if constexpr (requires { member.walk(*this); }) {
      member.walk(*this);
    } else {
      static_assert(Visitable<Member>, "residua: visit shows parameters, buffers and layers of the layer's own scalar");
      visitor_.layer(path_, typeid(Member), &member);
      Member::visit(member, *this);
    }
  }

 private:
  // Not inlined: it would stand once for each member of each layer.
  [[gnu::noinline]] void enter(std::string_view name) {
    if (name.empty()) return;
    if (!path_.empty()) path_ += '.';
    path_ += name;
  }

  Visitor<S>& visitor_;
  std::string path_;
};

}  // namespace detail

/// Shows all parameters, buffers and layers of `net`, itself included, to `visitor`; of a const one, to be read only.
template <typename S, typename Net>
void walk(Net& net, Visitor<S>& visitor, const std::string& path = "") {
  detail::Walk<S>(visitor, path).node(const_cast<std::remove_const_t<Net>&>(net));
}

namespace detail {

/// Whether one of `handles` is `handle`.
template <typename T>
bool contains(const std::vector<Handle<T>>& handles, const Handle<T>& handle) {
  for (const Handle<T>& other : handles) {
    if (other == handle) return true;
  }
  return false;
}

/// Whether `member` is seen for the first time: a layer that stands under two names is counted once, under the first.
inline bool first_seen(std::vector<const void*>& seen, const void* member) {
  const auto place = std::lower_bound(seen.begin(), seen.end(), member, std::less<>());
  if (place != seen.end() && *place == member) return false;
  seen.insert(place, member);
  return true;
}

}  // namespace detail

/// All parameters with their paths, as PyTorch's named_parameters(): each once, under its first name.
template <typename S, typename Net>
  requires(!std::is_const_v<Net>)
std::vector<std::pair<std::string, ParameterHandle<S>>> named_parameters(Net& net) {
  struct Collect : Visitor<S> {
    std::vector<std::pair<std::string, ParameterHandle<S>>> found;
    std::vector<const void*> seen;
    void parameter(const std::string& path, Parameter<S>& p) override {
      if (detail::first_seen(seen, &p)) found.emplace_back(path, p.handle());
    }
  } collect;
  walk<S>(net, collect);
  return std::move(collect.found);
}

/// All buffers with their paths, as PyTorch's named_buffers(): each once, under its first name.
template <typename S, typename Net>
  requires(!std::is_const_v<Net>)
std::vector<std::pair<std::string, BufferHandle<S>>> named_buffers(Net& net) {
  struct Collect : Visitor<S> {
    std::vector<std::pair<std::string, BufferHandle<S>>> found;
    std::vector<const void*> seen;
    void buffer(const std::string& path, Buffer<S>& b) override {
      if (detail::first_seen(seen, &b)) found.emplace_back(path, b.handle());
    }
  } collect;
  walk<S>(net, collect);
  return std::move(collect.found);
}

/// All parameters, in the order of named_parameters().
template <typename S, typename Net>
  requires(!std::is_const_v<Net>)
std::vector<ParameterHandle<S>> parameters(Net& net) {
  struct Collect : Visitor<S> {
    std::vector<ParameterHandle<S>> found;
    void parameter(const std::string&, Parameter<S>& p) override {
      if (!detail::contains(found, p.handle())) found.push_back(p.handle());
    }
  } collect;
  walk<S>(net, collect);
  return std::move(collect.found);
}

/// The parameters for which predicate(path, parameter) is true, for groups of them with options of their own. No weight
/// decay for biases and norms:
///
///     const auto is_matrix = [](const std::string&, const ParameterData<float>& p) { return p.value.rank() > 1; };
///     SGD<float> optimizer({{net.parameters_if(is_matrix), {.lr = 0.1, .weight_decay = 5e-4}},
///                           {net.parameters_if(std::not_fn(is_matrix)), {.lr = 0.1}}});
template <typename S, typename Net, typename Predicate>
  requires(!std::is_const_v<Net>)
std::vector<ParameterHandle<S>> parameters_if(Net& net, Predicate&& predicate) {
  std::vector<ParameterHandle<S>> handles;
  for (auto& [path, handle] : named_parameters<S>(net)) {
    if (predicate(path, std::as_const(*handle))) handles.push_back(handle);
  }
  return handles;
}

/// Calls f(layer) for every layer of type T in `net`, in visiting order:
///
///     for_each_layer<BatchNorm<float>>(net, [](BatchNorm<float>& norm) { norm.options.frozen = true; });
template <typename T, typename Net, typename F>
  requires(!std::is_const_v<Net>)
void for_each_layer(Net& net, F&& f) {
  struct Each : Visitor<typename T::Scalar> {
    std::remove_reference_t<F>* call;
    void layer(const std::string&, const std::type_info& type, void* address) override {
      if (type == typeid(T)) (*call)(*static_cast<T*>(address));
    }
  } each;
  each.call = &f;
  walk<typename T::Scalar>(net, each);
}

/// The layer at `path`. Throws Error when there is none, or one of another type.
template <typename T, typename S, typename Net>
T& get(Net& net, std::string_view path) {
  struct Find : Visitor<S> {
    std::string_view wanted;
    void* found = nullptr;
    std::string other;
    void layer(const std::string& path, const std::type_info& type, void* address) override {
      if (path != wanted || found != nullptr) return;
      if (type == typeid(T)) {
        found = address;
      } else {
        other = detail::short_name(type);
      }
    }
  } find;
  find.wanted = path;
  walk<S>(net, find);
  if (find.found == nullptr && find.other.empty()) fail("get", "there is no layer named '", path, "'");
  if (find.found == nullptr) {
    fail("get", "'", path, "' is a ", find.other, ", not a ", detail::short_name(typeid(T)), " of this scalar");
  }
  return *static_cast<T*>(find.found);
}

}  // namespace residua::inline RESIDUA_ABI
