#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""hot_path.py LIBRARY PAGE: the instructions of malloc and free in LIBRARY are those that PAGE explains.

PAGE (docs/hot-path.md) has a table for each function, one row an instruction, in order, up to the
padding: "| `mov (%rax),%rdx` | what it is for |". Here both are read, and a difference is printed
as a diff. Addresses differ from build to build, so that they become names:
    0x1ecc8(%rip) -> GOT or the symbol       a jump within the function -> slow (or its offset)
"""
import difflib
import re
import subprocess
import sys

FUNCTIONS = ("malloc", "free")


def normal(operands, function):
    """The operands without what the linker chose; `comment` of objdump names what %rip leads to."""
    text, _, target = operands.partition("#")
    text = text.strip()
    if target:
        symbol = re.search(r"<([^>+]+)(\+0x[0-9a-f]+)?>", target)
        name = symbol.group(1) if symbol else "?"
        if name.startswith("_GLOBAL_OFFSET_TABLE_"):
            text = re.sub(r"-?0x[0-9a-f]+\(%rip\)", "GOT(%rip)", text)
        else:
            plain = re.sub(r"^_ZN\d+slabscope\d+(\w+?)E$", r"\1", name)
            text = re.sub(r"-?0x[0-9a-f]+\(%rip\)", f"{plain}{symbol.group(2) or ''}(%rip)", text)
    jump = re.fullmatch(r"[0-9a-f]+ <([^>+]+)(\+0x[0-9a-f]+)?>", text)
    if jump:
        text = "slow" if jump.group(1) == function else "slow function"
    return text


def instructions(library, function):
    """What objdump shows of the function, without the padding between and after its parts."""
    shown = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", f"--disassemble={function}", library],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    lines = []
    for line in shown.splitlines():
        found = re.match(r"\s+[0-9a-f]+:\s+(\S+)\s*(.*)$", line)
        if not found or re.match(r"nop|cs|data16|xchg", found.group(1)):
            continue
        lines.append(f"{found.group(1)} {normal(found.group(2), function)}".strip())
    return lines


def explained(page, function):
    """The code cells of the table that follows the heading "## function"."""
    with open(page, encoding="utf-8") as file:
        text = file.read()
    part = re.search(rf"^## {function}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not part:
        sys.exit(f'{page}: no heading "## {function}"')
    return re.findall(r"^\| `([^`]+)` \|", part.group(1), re.M)


def main():
    library, page = sys.argv[1:]
    failed = False
    for function in FUNCTIONS:
        now = instructions(library, function)
        if not now:
            sys.exit(f"{library}: objdump shows no function {function}")
        difference = list(difflib.unified_diff(explained(page, function), now, page,
                                               f"{function} now", lineterm="", n=1))
        print("\n".join(difference))
        failed |= bool(difference)
    return 1 if failed else 0


sys.exit(main())
