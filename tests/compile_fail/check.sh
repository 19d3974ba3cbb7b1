#!/usr/bin/env bash
# check.sh SOURCE COMPILER FLAGS...: fails unless the compiler refuses the source with a first error that contains what
# the source's first line promises ("// error: ...").
set -euo pipefail
source=$1
shift
expected=$(sed -n '1s|^// error: ||p' "$source")
[ -n "$expected" ] || { echo "$source: expected '// error: ...' in the first line"; exit 1; }

if output=$("$@" -fsyntax-only "$source" 2>&1); then
  echo "$source compiles, and must not"
  exit 1
fi
first=$(grep -m 1 'error:' <<<"$output")
echo "$first"
[[ $first == *"$expected"* ]] || { echo "expected: $expected"; exit 1; }
