#!/usr/bin/env bash
# formulas_are_inlined.sh PROGRAM...: every formula over packs is inlined in a loop compiled for the packs' instruction set.
# Left as a function of its own, it would be compiled without it, and be many times slower.
set -euo pipefail
for program in "$@"; do
  left=$(nm -C "$program" | grep -E ' [tW] .*residua::.*kernels::Pack<' | grep -vE ' void residua::[^<]*(with_vectors_|copy_part)' || true)
  if [ -n "$left" ]; then
    echo "$program has formulas that were not inlined:"
    echo "$left"
    exit 1
  fi
done
