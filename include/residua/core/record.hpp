// What the tape keeps: values of any type, and the names of types.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cxxabi.h>
#include <new>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <residua/core/memory.hpp>

namespace residua::inline RESIDUA_ABI {

namespace detail {

/// One value of any copyable type, in memory from the cache.
class Record {
 public:
  template <typename T>
  static Record of(T value) {
    static_assert(alignof(T) <= alignment);
    Record record;
    record.memory_ = Storage(sizeof(T));
    new (record.memory_.data()) T(std::move(value));
    record.type_ = &typeid(T);
    record.destroy_ = &destroy_as<T>;
    if constexpr (std::is_invocable_v<T&>) record.call_ = &call_as<T>;
    return record;
  }

  Record(Record&& other) noexcept { *this = std::move(other); }
  Record& operator=(Record&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(type_, other.type_);
    std::swap(destroy_, other.destroy_);
    std::swap(call_, other.call_);
    return *this;
  }
  ~Record() {
    if (type_ != nullptr) destroy_(memory_.data());
  }

  const std::type_info& type() const { return *type_; }
  template <typename T> T& as() { return *static_cast<T*>(memory_.data()); }
  void operator()() { call_(memory_.data()); }

 private:
  Record() = default;

  template <typename T> static void destroy_as(void* object) { static_cast<T*>(object)->~T(); }
  template <typename T> static void call_as(void* object) { (*static_cast<T*>(object))(); }

  Storage memory_;
  const std::type_info* type_ = nullptr;
  void (*destroy_)(void*) = nullptr;
  void (*call_)(void*) = nullptr;
};

/// A type's name as users write it: without namespaces and template arguments.
inline std::string short_name(const std::type_info& type) {
  int status = 0;
  char* raw = abi::__cxa_demangle(type.name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? raw : type.name();
  std::free(raw);
  name = name.substr(0, name.find('<'));
  const auto colon = name.rfind("::");
  return colon == std::string::npos ? name : name.substr(colon + 2);
}

}  // namespace detail

}  // namespace residua::inline RESIDUA_ABI
