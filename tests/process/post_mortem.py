#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is known of a process that was killed, aborted or ran out of memory in the middle of a leak:
who leaked, by function and line; the last events; and the moment when it held most."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import contains, equal, slabscope, slabscope_json  # noqa: E402

PEAK = 20000
LINES = (slabtest.SOURCE / "tests/process/leak_loop.c").read_text(encoding="utf-8").splitlines()


def line_of(text):
    return next(number for number, line in enumerate(LINES, 1) if text in line)


def leaker(*arguments, mode="all"):
    return slabtest.process([slabtest.PROGRAMS / "leak_loop", *arguments],
                            env=slabtest.preloaded(SLABSCOPE_TRACK=mode), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def expect_leak(child):
    """Who leaked, in the report of a dead process; the report."""
    report = slabscope_json("report", str(child.pid), "--json")
    equal(report["target"]["state"], "died", "state")
    top = report["leaks"][0]["stack"]
    equal(top[0]["function"], "leak_one", "who leaks")
    equal((pathlib.Path(top[0]["file"]).name, top[0]["line"]),
          ("leak_loop.c", line_of("malloc(kLeakBytes)")), "where")
    leaked = sum(cache["active_objects"] for cache in report["caches"] if cache["name"] == "malloc-208")
    if report["leaks"][0]["objects"] not in (leaked - 1, leaked):  # killed in between
        raise AssertionError(f"{report['leaks'][0]['objects']} by stack, {leaked} by count")
    return report


def expect_story(child):
    """The leak and the peak, in the reports of a dead process."""
    report = expect_leak(child)
    expect_peak(report["peak"])
    text = slabscope("report", str(child.pid)).stdout
    contains(text, "At the peak of ", "text")
    contains(text, "fill_the_table", "text")
    contains(text, "leak_one", "text")
    heap = slabscope_json("heap", str(child.pid), "--peak", "--json")
    equal(heap["stacks"][0]["stack"][0]["function"], "fill_the_table", "heap --peak")
    equal(heap["totals"]["exact"]["bytes"], report["peak"]["bytes"], "bytes of heap --peak")
    contains(slabscope("heap", str(child.pid), "--peak", "--format", "collapsed").stdout,
             "fill_the_table", "heap --peak --format collapsed")


def expect_peak(peak):
    """A peak is on record once it is a 64th above the last one: at most that much is missing, and
    what was taken between two looks."""
    cache = next(cache for cache in peak["caches"] if cache["name"] == "malloc-1008")
    if not 0.9 * PEAK <= cache["active_objects"] <= PEAK:
        raise AssertionError(f"{cache['active_objects']} objects at the peak of {PEAK}")
    stack = peak["stacks"][0]
    equal(stack["stack"][0]["function"], "fill_the_table", "who held most")
    equal(stack["objects"], cache["active_objects"], "objects by stack and by cache")
    equal(stack["bytes"], 1000 * stack["objects"], "bytes by stack")


def test_killed():
    with leaker() as child:
        equal(child.stdout.readline(), "leaking\n", "what the program says")
        done = slabscope("ctl", str(child.pid), "track", "all")
        contains(done.stdout, "already", "what ctl says")
        child.send_signal(signal.SIGKILL)
        child.wait()
        expect_story(child)


def test_events_are_in_the_report():
    with leaker(mode="sampled:4096") as child:
        equal(child.stdout.readline(), "leaking\n", "what the program says")
        equal(slabscope("ctl", str(child.pid), "track", "all").returncode, 0, "ctl")
        child.send_signal(signal.SIGKILL)
        child.wait()
        report = slabscope_json("report", str(child.pid), "--json")
        equal([event["event"] for event in report["events"]], ["tracking_switched"], "events")
        contains(slabscope("report", str(child.pid)).stdout, "tracking switched to all", "text")


def test_aborted():
    with leaker("abort") as child:
        child.wait(timeout=slabtest.DEADLINE)
        equal(child.returncode, -signal.SIGABRT, "how it ended")
        expect_story(child)


def test_misuse_is_told():
    with leaker("misuse") as child:
        child.wait(timeout=slabtest.DEADLINE)
        address = re.search(r"double free of (0x[0-9a-f]+)", child.stderr.read()).group(1)
        contains(slabscope("report", str(child.pid)).stdout, f"misuse: double free of {address}",
                 "last events")
        expect_story(child)


def memory_cgroup():
    """A cgroup of our own with a limit; Skip where that cannot be had."""
    root = pathlib.Path("/sys/fs/cgroup")
    for base in (root, root / "memory"):
        group = base / f"slabscope-test-{os.getpid()}"
        limit = group / ("memory.max" if base == root else "memory.limit_in_bytes")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / "cgroup.procs").exists():  # else a folder like any other
                limit.write_text(str(48 << 20), encoding="utf-8")
                return group
        except OSError:
            pass
        group.rmdir()
    raise slabtest.Skip("no memory cgroup can be made here")


def gone(group):
    try:
        group.rmdir()
    except OSError:
        return False
    return True


def test_killed_for_memory():
    group = memory_cgroup()
    swap = group / "memory.swap.max"
    try:
        if swap.exists():
            swap.write_text("0", encoding="utf-8")
        join = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$0"', slabtest.PROGRAMS / "leak_loop"]
        with slabtest.process(join, stdout=subprocess.PIPE, text=True,
                              env=slabtest.preloaded(SLABSCOPE_TRACK="all")) as child:
            child.wait(timeout=slabtest.DEADLINE)
            equal(child.returncode, -signal.SIGKILL, "how it ended")
            report = expect_leak(child)  # which has outgrown the first peak
            left = sum(cache["active_objects"] for cache in report["caches"] if cache["name"] == "malloc-208")
            cache = next(cache for cache in report["peak"]["caches"] if cache["name"] == "malloc-208")
            if not 0.9 * left <= cache["active_objects"] <= left:
                raise AssertionError(f"{cache['active_objects']} objects at the peak, {left} at the end")
    finally:
        slabtest.eventually(lambda: gone(group), "the cgroup can be removed")


slabtest.main()
