#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each test that docs/testing.md names exists, and each rule of a cache's life has one.

  check_named_tests.py

A name in backquotes of the form Suite.Name or Suite.Start* is a unit test in tests/; a row of the life's
table that names none says why. Rows S1 to S13 must all be there.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFINED = re.compile(r"^TEST(?:_F|_P)?\((\w+), (\w+)\)", re.MULTILINE)
NAMED = re.compile(r"`([A-Z]\w+)\.(\w+\*?|\*)`")


def defined_tests():
    for path in ROOT.glob("tests/**/*_test.cc"):
        yield from DEFINED.findall(path.read_text(encoding="utf-8"))


def exists(suite, name, defined):
    if name.endswith("*"):
        return any(s == suite and n.startswith(name[:-1]) for s, n in defined)
    return (suite, name) in defined


def main():
    text = (ROOT / "docs/testing.md").read_text(encoding="utf-8")
    defined = set(defined_tests())
    problems = [f"docs/testing.md names {suite}.{name}, which is no test"
                for suite, name in NAMED.findall(text) if not exists(suite, name, defined)]
    rows = re.findall(r"^\| (S\d+)\b[^|]*\|([^|]*)\|$", text, re.MULTILINE)
    found = {number for number, _ in rows}
    problems += [f"docs/testing.md has no row for S{i}" for i in range(1, 14) if f"S{i}" not in found]
    # Rules whose tests are programs of the build, not of GoogleTest, name them as ctest does.
    registered = (ROOT / "tests/style/CMakeLists.txt").read_text(encoding="utf-8")
    for number, tests in rows:
        by_ctest = [name for name in re.findall(r"`style\.(\w+)`", tests) if name in registered]
        if not NAMED.search(tests) and not by_ctest:
            problems.append(f"docs/testing.md: row {number} names no test")
    print("\n".join(problems) or f"{len(NAMED.findall(text))} names of tests, all there")
    return 1 if problems else 0


sys.exit(main())
