#!/usr/bin/env bash
# formulas_are_inlined.sh PROGRAM...: every formula over packs is inlined in a loop compiled for the packs' instruction set.
# Left as a function of its own, it would be compiled without it, and be many times slower.
set -euo pipefail
for program in "$@"; do
  symbols=$(nm -C "$program" | grep -E ' [tW] ')
  if ! grep -q ' void residua::[^<]*with_vectors_' <<<"$symbols"; then
    echo "$program has no loops over packs, or no symbols to tell them by"
    exit 1
  fi
  left=$(grep 'residua::.*kernels::Pack<' <<<"$symbols" | grep -vE ' void residua::[^<]*(with_vectors_|copy_part)' || true)
  if [ -n "$left" ]; then
    echo "$program has formulas that were not inlined:"
    echo "$left"
    exit 1
  fi
done
