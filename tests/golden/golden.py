#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""golden.py FILE COMMAND...: what the command prints is what stands in FILE.

With GOLDEN_UPDATE=1 in the environment it is written there instead, to be reviewed as a diff:
    GOLDEN_UPDATE=1 ctest --preset release -L golden
"""
import difflib
import os
import pathlib
import subprocess
import sys


def main():
    golden = pathlib.Path(sys.argv[1])
    done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    if done.returncode != 0:
        print(done.stdout)
        return done.returncode
    if os.environ.get("GOLDEN_UPDATE"):
        golden.write_text(done.stdout, encoding="utf-8")
        return 0
    want = golden.read_text(encoding="utf-8")
    difference = list(difflib.unified_diff(want.splitlines(), done.stdout.splitlines(),
                                           str(golden), "now", lineterm="", n=1))
    print("\n".join(difference))
    return 1 if difference else 0


sys.exit(main())
