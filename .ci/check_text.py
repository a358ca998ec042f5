#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks what no compiler looks at, in every text file of ours.

Fails on: a source without the SPDX line near its top, trailing space, a tab in a source, CRLF, no
newline at the end, a source over MAX_LINES, a C or C++ line over MAX_COLUMNS, an open note (to do,
fix me) without an issue number, a Python file that does not compile.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
MAX_LINES = 500
MAX_COLUMNS = 100
C_SOURCES = {".h", ".cc", ".c"}
SOURCES = {".h", ".cc", ".c", ".py", ".sh", ".cmake", ".map"}
TEXTS = SOURCES | {".md", ".txt", ".def", ".json", ".yaml", ".yml", ".css", ".js", ".html"}
SCRIPTS = {"run", "test", "quickstart", "CMakeLists.txt"}
# Third-party bundles and data that others wrote keep their own form.
FOREIGN = re.compile(r"^(exporter/web/|tests/fuzz/corpus/|bench/results/)|\.min\.(js|css)$|/vendor/")
OPEN_NOTE = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b(?!\(#\d+\))")
errors = []


def check(path, name):
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        errors.append(f"{name}: not UTF-8")
        return
    lines = text.split("\n")
    source = path.suffix in SOURCES or path.name in SCRIPTS
    if source and not any("SPDX-License-Identifier: MIT" in line for line in lines[:3]):
        errors.append(f"{name}: no SPDX line in its first three lines")
    if source and len(lines) > MAX_LINES:
        errors.append(f"{name}: {len(lines)} lines (limit {MAX_LINES})")
    if text and not text.endswith("\n"):
        errors.append(f"{name}: no newline at the end")
    for number, line in enumerate(lines, 1):
        if line.endswith((" ", "\t", "\r")):
            errors.append(f"{name}:{number}: trailing space")
        if source and "\t" in line:
            errors.append(f"{name}:{number}: tab")
        if path.suffix in C_SOURCES and len(line) > MAX_COLUMNS:
            errors.append(f"{name}:{number}: {len(line)} columns (limit {MAX_COLUMNS})")
        if OPEN_NOTE.search(line):
            errors.append(f"{name}:{number}: an open note needs an issue number")
    if path.suffix == ".py":
        try:
            compile(text, name, "exec")
        except SyntaxError as error:
            errors.append(f"{name}:{error.lineno}: {error.msg}")


def main():
    files = 0
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith((".git/", "build/")) or "__pycache__" in name or not path.is_file():
            continue
        if path.is_symlink() or FOREIGN.search(name):
            continue
        if path.suffix in TEXTS or path.name in SCRIPTS:
            files += 1
            check(path, name)
    print(f"{files} files, {len(errors)} errors")
    print("\n".join(errors))
    return 1 if errors or not files else 0


sys.exit(main())
