#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Leak checks without end of a program that forks, starts threads and loads libraries all the time.

    torture.py [CHECKS [SEED]]        ctest runs a few; 1000 is the acceptance (docs/testing.md)

Four checks in ten are ended by SIGKILL at a random moment. After each check no thread of the program is
left stopped, and each of its three counters goes on. At the end it exits as it should, having seen no
signal, no child that was not its own, and no system call that failed.
"""
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import equal, eventually, hears  # noqa: E402

CHECKS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
sys.argv = sys.argv[:1]
ONE_CHECK = 120.0  # seconds; more is a hang


def stat(path):
    """The fields of /proc/…/stat from the state on; none if it is gone."""
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def stopped_threads(pid):
    states = [stat(task / "stat") for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return [fields[0] for fields in states if fields is not None and fields[0] in "tT"]


def zombie_copies(pid):
    """Copies of the program that nobody has taken away: their exit signal is 0."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            children = (task / "children").read_text(encoding="utf-8").split()
        except OSError:
            continue
        for child in children:
            fields = stat(f"/proc/{child}/stat")
            if fields is not None and fields[0] == "Z" and fields[35] == "0":
                found.append(int(child))
    return found


def remove_files_of_the_dead():
    """What children that ended without exit() leave in a directory of its owner's choice, by the hundred a second."""
    for path in pathlib.Path(os.environ["SLABSCOPE_DIR"]).glob("*.scope"):
        if not pathlib.Path(f"/proc/{path.name.split('-')[1]}").exists():
            path.unlink(missing_ok=True)


def rounds(path):
    return struct.unpack("<3Q", path.read_bytes()[:24])


def check(pid, kill_after):
    """The seconds that one check took; None if it was killed."""
    started = time.monotonic()
    with slabtest.process([slabtest.BIN, "leaks", str(pid), "--json", "--no-symbols"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as checker:
        if kill_after is not None:
            try:
                checker.wait(timeout=kill_after)
            except subprocess.TimeoutExpired:
                checker.kill()
                checker.wait()
                return None
        out, err = checker.communicate(timeout=ONE_CHECK)
        equal(checker.returncode, 0, f"exit code of the check ({err.decode().strip()})")
        report = json.loads(out)
        if report["reachability"] != "checked":
            # A thread may be held up in the kernel by a child of vfork or a full disk; no more.
            print("not checked:", report["reachability"], flush=True)
        return time.monotonic() - started


def test_checks():
    print(f"{CHECKS} checks, seed {SEED}", flush=True)
    chance = random.Random(SEED)
    killed = 0
    longest = 0.0
    most_copies = 0
    with tempfile.TemporaryDirectory(prefix="slabscope-torture-") as scratch:
        counters = pathlib.Path(scratch) / "rounds"
        counters.write_bytes(bytes(4096))
        library = slabtest.PROGRAMS / "lost_plugin.so"
        if not library.exists():
            library = slabtest.PROGRAMS / "liblost_plugin.so"
        with slabtest.process([slabtest.PROGRAMS / "restless", counters, library],
                              env=slabtest.preloaded(SLABSCOPE_TRACK="all"), stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as child:
            hears(child, "ready")
            for number in range(CHECKS):
                kill_after = chance.uniform(0, 0.06) if chance.random() < 0.4 else None
                took = check(child.pid, kill_after)
                killed += took is None
                longest = max(longest, took or 0)
                equal(child.poll(), None, f"exit code of the program after check {number}")
                eventually(lambda: not stopped_threads(child.pid), "no thread is stopped", ONE_CHECK)
                before = rounds(counters)
                eventually(lambda: all(now > then for now, then in zip(rounds(counters), before)),
                           f"the program's counters go on after check {number}", ONE_CHECK)
                remove_files_of_the_dead()
                most_copies = max(most_copies, len(zombie_copies(child.pid)))
            # A check that is not killed takes away what killed ones left.
            eventually(lambda: check(child.pid, None) is not None and not zombie_copies(child.pid),
                       "no copy is left", ONE_CHECK)
            child.stdin.close()
            equal(child.wait(timeout=ONE_CHECK), 0, "exit code of the program")
            print(f"killed {killed}, longest check {longest:.2f} s, forks, threads, loads "
                  f"{rounds(counters)}, copies left at once {most_copies}", flush=True)


slabtest.main()
