#!/usr/bin/env bash
set -euo pipefail

if [ $# -gt 0 ]; then
  cat <<'HELP'
Usage: tests/run.sh [--help]

Builds residua and runs all its tests, on Debian 12 from nothing:
  1. installs what is missing of compiler, CMake, Ninja, Eigen, CLI11, nlohmann-json, libpng, libjpeg-turbo,
     GoogleTest, Google Benchmark and pkg-config (as root or with sudo)
  2. builds and tests the release preset: layers, training, examples, packaging
  3. builds and tests again under the address and undefined-behaviour sanitizers

Builds stand in build/release and build/asan. Tests on real images run where RESIDUA_DATA names a folder that
contains cifar-10-batches-bin, those on real JPEG files where RESIDUA_JPEGS also names one that contains the same images
in *.records (each a label byte, a 32-bit little-endian length and a file); elsewhere they are skipped, by name.
HELP
  [ "$1" = --help ] && exit 0 || exit 2
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source cmake/install_missing.sh
install_missing g++ cmake ninja-build libeigen3-dev libcli11-dev nlohmann-json3-dev libpng-dev libjpeg62-turbo-dev \
                libgtest-dev libbenchmark-dev pkg-config

jobs=$(nproc)
for preset in release asan; do
  echo "== Building the $preset preset"
  cmake --preset "$preset"
  cmake --build --preset "$preset" --parallel "$jobs"
  echo "== Testing the $preset preset"
  ctest --preset "$preset" --parallel "$jobs"
done
echo "== All tests passed"
