#!/usr/bin/env bash
# exports_no_flags.sh PREFIX: what is installed asks for C++20, Eigen and threads, and leaves the user's flags alone.
set -euo pipefail
targets=$1/share/cmake/residua/residuaTargets.cmake
pkgconfig=$1/share/pkgconfig/residua.pc

grep -q 'INTERFACE_COMPILE_FEATURES "cxx_std_20"' "$targets"
grep -q 'INTERFACE_LINK_LIBRARIES "Eigen3::Eigen;Threads::Threads"' "$targets"
if grep -nE -e 'INTERFACE_(COMPILE_OPTIONS|COMPILE_DEFINITIONS|LINK_OPTIONS)' "$targets" ||
   grep -nE -e '(^|[ "])-(m|f|O|D|W)' "$targets" "$pkgconfig"; then
  echo "expected no compiler flags in what is installed"
  exit 1
fi
