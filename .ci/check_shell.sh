#!/bin/sh
# SPDX-License-Identifier: MIT
# check_shell.sh: shellcheck has nothing to say about our shell scripts.
set -eu
cd -- "$(dirname -- "$0")/.."
command -v shellcheck >/dev/null || {
  echo "shellcheck is not installed"
  exit 77
}
list=$(mktemp)
trap 'rm -f "$list"' EXIT
find .ci scripts bench tests -type f | while read -r file; do
  case $(head -n 1 "$file" | tr -d '\0') in
    '#!'*sh | '# shellcheck '*) printf '%s\n' "$file" ;;
  esac
done >"$list"
[ -s "$list" ] || {
  echo "no scripts found"
  exit 1
}
xargs shellcheck -x <"$list"
echo "$(wc -l <"$list") scripts"
