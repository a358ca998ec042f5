#!/bin/sh
# SPDX-License-Identifier: MIT
# check_format.sh: clang-format has nothing to change in our C and C++ sources.
# Put it right with: .ci/check_format.sh -i
set -eu
cd -- "$(dirname -- "$0")/.."
command -v clang-format >/dev/null || {
  echo "clang-format is not installed"
  exit 77
}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
find slab diag preload exporter bench tests -type f \( -name '*.h' -o -name '*.cc' -o -name '*.c' \) | sort >"$list"
[ -s "$list" ] || {
  echo "no sources found"
  exit 1
}
if [ "${1-}" = -i ]; then
  xargs clang-format -i <"$list"
else
  xargs clang-format --dry-run -Werror <"$list"
fi
echo "$(wc -l <"$list") files"
