#!/usr/bin/env bash
# build.sh COMPILER PREFIX PROGRAM: builds the consumer as a makefile would, with nothing but pkg-config, and runs it.
set -euo pipefail
export PKG_CONFIG_PATH=$2/share/pkgconfig
# shellcheck disable=SC2046  # the flags are words
"$1" -std=c++20 -O1 "$(dirname "$0")/../main.cpp" $(pkg-config --cflags --libs residua) -o "$3"
"$3"
