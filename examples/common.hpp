// What the examples share: how arguments and errors are dealt with.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include <residua/residua.hpp>

namespace examples {

/// Parses the arguments, then runs the program. A wrong argument is told in one line and ends with exit code 2, an
/// error in the program with 1.
template <typename Program>
int run(CLI::App& app, int argc, char** argv, Program&& program) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "%s: %s (see --help)\n", argv[0], error.what());
    return 2;
  }
  try {
    program();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[0], error.what());
    return 1;
  }
}

}  // namespace examples
