#!/usr/bin/env bash
set -euo pipefail

if [ "${1:-}" = --help ]; then
  cat <<'HELP'
Usage: examples/run.sh [OPTIONS of train_image_classifier]

Trains a residual network on images, on Debian 12 from nothing: installs what is missing of compiler, CMake, Ninja,
Eigen, CLI11 and nlohmann-json (as root or with sudo), builds train_image_classifier and runs it. Without options it
trains on images it draws itself; with --data FOLDER on CIFAR or digits. The program's own options:

HELP
  shift
  set -- --help
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/cmake/install_missing.sh"
install_missing g++ cmake ninja-build libeigen3-dev libcli11-dev nlohmann-json3-dev

echo "== Building train_image_classifier"
cmake -S "$root" -B "$root/build/examples" -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DRESIDUA_BUILD_TESTS=OFF -DRESIDUA_BUILD_BENCHMARKS=OFF
cmake --build "$root/build/examples" --parallel "$(nproc)" --target train_image_classifier

echo "== Training"
exec "$root/build/examples/examples/train_image_classifier" "$@"
