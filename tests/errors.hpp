// What an action that must fail says.
#pragma once

#include <string>

#include <gtest/gtest.h>

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

/// Passes where `action` throws an Error whose text contains `part`.
inline void expect_error(auto&& action, const std::string& part) {
  const std::string text = message(action);
  EXPECT_NE(text.find(part), std::string::npos) << "got: " << text << "\nexpected in it: " << part;
}
