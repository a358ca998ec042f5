#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The program $MISUSE_PROGRAM ends by SIGABRT after one line on stderr, which is what the first line of
its source $MISUSE_SOURCE says, and which names the address that the program announced on stdout
(unless the line begins with "stderr, of any object": two lists that share a block share what follows it)."""
import os
import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402


def test_misuse():
    program = os.environ["MISUSE_PROGRAM"]
    pattern = pathlib.Path(os.environ["MISUSE_SOURCE"]).read_text(encoding="utf-8").splitlines()[0]
    any_object = pattern.startswith("// stderr, of any object: ")
    pattern = pattern.split(": ", 1)[1]
    for mode in ("sampled", "all", "off"):
        done = slabtest.run([program], env=slabtest.preloaded(SLABSCOPE_TRACK=mode))
        what = f"track={mode}, stderr {done.stderr!r}"
        slabtest.equal(len(done.stderr.splitlines()), 1, f"lines on stderr ({what})")
        slabtest.equal(bool(re.match(pattern, done.stderr)), True, f"matches {pattern!r} ({what})")
        if not any_object:
            slabtest.contains(done.stderr, done.stdout.strip(), f"the address ({what})")
        slabtest.equal(done.returncode, -signal.SIGABRT, f"exit code ({what})")


slabtest.main()
