#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""abi_layout.py FOLDER: prints a C++ program that prints where every field of the scope file lies.

The fields are read from diag/abi/layout.h itself, so that a new one cannot be forgotten; the compiler
says where they are. golden.abi_layout compares what it prints with abi_layout.txt.
"""
import pathlib
import re
import sys

STRUCT = re.compile(r"^struct (\w+) \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^\s+[\w:]+ (\w+)(?:\[\w+\])?;", re.MULTILINE)
CONSTANT = re.compile(r"^inline constexpr uint\d+_t (k\w+) =", re.MULTILINE)
COUNTER = re.compile(r"^COUNTER\(\s*(\w+)", re.MULTILINE)


def main():
    folder = pathlib.Path(sys.argv[1])
    text = (folder / "layout.h").read_text(encoding="utf-8")
    print('#include <cstddef>\n#include <cstdio>\n#include "diag/abi/layout.h"\nusing namespace slabscope::abi;\nint main() {')
    for name in CONSTANT.findall(text):
        print(f'  std::printf("%-44s %llu\\n", "{name}", static_cast<unsigned long long>({name}));')
    for name, body in STRUCT.findall(text):
        fields = FIELD.findall(body)
        if name == "ProcessCounters":
            fields = COUNTER.findall((folder / "counters.def").read_text(encoding="utf-8"))
        print(f'  std::printf("%-44s %7s %7zu\\n", "{name}", "", sizeof({name}));')
        for field in fields:
            print(f'  std::printf("%-44s %7zu %7zu\\n", "  {name}.{field}", offsetof({name}, {field}), '
                  f"sizeof({name}::{field}));")
    print("}")


main()
