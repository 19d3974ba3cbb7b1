#!/usr/bin/env bash
# umbrella_is_complete.sh INCLUDE COMPILER FLAGS...: every header under INCLUDE, io/ and models/ apart, comes with residua.hpp.
set -euo pipefail
cd "$1"
shift
missing=$(comm -23 <(find residua -name '*.hpp' -not -path 'residua/io/*' -not -path 'residua/models/*' | sort) \
                   <("$@" -I. -MM residua/residua.hpp | grep -oE 'residua/[a-z0-9_/]+\.hpp' | sort -u))
if [ -n "$missing" ]; then
  echo "residua.hpp does not include"
  echo "$missing"
  exit 1
fi
