# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Shared by scripts/quickstart and scripts/test: saying things, and installing what is missing.
# Source it from a bash script that has set -euo pipefail.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
SELF=$(basename -- "$0")
export LC_ALL=C.UTF-8

say() { printf '%s: %s\n' "$SELF" "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# packages_of GROUP: its packages, one a line, groups it names with '+' included.
packages_of() {
  local word
  sed -n "s/^$1:[[:space:]]*//p" "$ROOT/scripts/lib/packages.txt" | tr -s ' ' '\n' |
    while read -r word; do
      case $word in
        +*) packages_of "${word#+}" ;;
        *) printf '%s\n' "$word" ;;
      esac
    done
}

missing_packages() {
  local package
  for package in $(packages_of "$1" | sort -u); do
    if ! dpkg-query -W -f '${db:Status-Abbrev}\n' "$package" 2>/dev/null | grep -q '^.i'; then
      printf '%s\n' "$package"
    fi
  done
}

# as_root CMD...: runs CMD with the rights to install packages.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo -- "$@"
  else
    die "packages are missing; run this as root, or install sudo, or install them yourself: $missing"
  fi
}

# install_group GROUP: installs the group's missing packages; does nothing if there are none.
install_group() {
  local missing
  command -v apt-get >/dev/null ||
    die "this installs Debian packages and finds no apt-get; scripts/lib/packages.txt lists them"
  [ -n "$(packages_of "$1")" ] || die "scripts/lib/packages.txt has no group '$1'"
  missing=$(missing_packages "$1" | tr '\n' ' ')
  if [ -z "${missing// /}" ]; then
    say "all packages for '$1' are installed"
    return
  fi
  say "installing: $missing"
  as_root apt-get update -q >&2 || die "apt-get update failed"
  # shellcheck disable=SC2086  # one word a package
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o Dpkg::Use-Pty=0 \
    --no-install-recommends $missing >&2 ||
    die "apt-get could not install: $missing"
}

# writable_build: the build directory is ours to write to.
writable_build() {
  local dir=$ROOT
  [ ! -e "$ROOT/build" ] || dir=$ROOT/build
  [ -w "$dir" ] || die "$dir is not writable by $(id -un); was an earlier run started as root?"
}
