#!/bin/sh
# SPDX-License-Identifier: MIT
# Makes heap_page.bundle.js and LICENSES.txt anew, from heap_page.js and the packages that
# package-lock.json pins. Needed after a change of heap_page.js only; the results are committed, so
# that a build of slabscope needs neither npm nor a network.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json heap_page.js "$work"
(cd "$work" && npm ci --no-audit --no-fund)
{
  echo "Third-party parts of heap_page.bundle.js, and so of every page that slabscope heap --format html writes."
  for package in "$work"/node_modules/d3-* "$work"/node_modules/internmap; do
    printf '\n==== %s %s ====\n\n' "$(basename "$package")" \
      "$(sed -n 's/.*"version": "\(.*\)".*/\1/p' "$package/package.json")"
    cat "$package/LICENSE"
  done
} >LICENSES.txt
notice='/* Contains d3-flame-graph (Copyright Martin Spier, Apache-2.0,
http://www.apache.org/licenses/LICENSE-2.0) and modules of D3 (Copyright Mike Bostock, ISC; d3-ease: Copyright
Mike Bostock and Robert Penner, BSD-3-Clause), which are provided "as is", without warranty of any
kind. Their licences: exporter/web/LICENSES.txt in the source of slabscope. */'
(cd "$work" && node_modules/.bin/esbuild heap_page.js --bundle --minify --format=iife \
  --target=es2020 --charset=utf8 --legal-comments=none --banner:js="$notice" \
  --outfile=heap_page.bundle.js)
cp "$work/heap_page.bundle.js" .
