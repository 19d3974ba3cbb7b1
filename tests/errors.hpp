// What an action that must fail says.
#pragma once

#include <string>

#include <residua/core/error.hpp>

/// The text of the Error that `action` throws, or "no error".
inline std::string message(auto&& action) {
  try {
    action();
  } catch (const residua::Error& error) {
    return error.what();
  }
  return "no error";
}
