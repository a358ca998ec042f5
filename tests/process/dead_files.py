#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Who forks for months, and starts nothing, leaves no pile of dead children's files behind."""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402

PILE = 600  # more than a sweep looks at: what is dead is not kept for a report then
FORKS = 400  # one in 32 sweeps
SWEEP = 64  # files that one sweep removes at most

FORKER = """
import os, sys
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
"""


def run(environment, forks):
    subprocess.run([sys.executable, "-c", FORKER, str(forks)], env=environment, check=True)


def test_forks_remove_what_forks_left():
    memory = pathlib.Path("/dev/shm")
    if not os.access(memory, os.W_OK) or pathlib.Path("/run/slabscope").exists():
        raise slabtest.Skip("needs a file system in memory, and to be asked for its directory")
    with tempfile.TemporaryDirectory(dir=memory) as place:
        environment = {**slabtest.preloaded(), "XDG_RUNTIME_DIR": place}
        environment.pop("SLABSCOPE_DIR", None)
        directory = pathlib.Path(place, "slabscope")
        run(environment, 1)
        slabtest.equal(bool(list(directory.glob("*.scope"))), True, "a child that was killed has a file")
        long_ago = time.time() - 3600
        for number in range(PILE):
            dead = directory / f"1-1-{number:016x}.scope"
            dead.write_bytes(b"whoever holds no lock is dead")
            os.utime(dead, (long_ago, long_ago))
        run(environment, FORKS)
        left = len(list(directory.glob("1-1-*.scope")))
        # The start of the program may have swept once itself.
        if left > PILE - 2 * SWEEP:
            raise AssertionError(f"{left} of {PILE} dead files are left after {FORKS} forks")


if __name__ == "__main__":
    slabtest.main()
