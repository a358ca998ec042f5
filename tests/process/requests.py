#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`slabscope ctl` asks living processes, and `slabscope events` tells what happened to their caches."""
import collections
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import contains, dialog, equal, eventually, hears, slabscope, slabscope_json, tell  # noqa: E402

MAILBOX = 0xe00
EVENTS = re.compile(r'^slabscope_events_total\{app="told",.*event="(\w+)".*\} (\d+)$', re.MULTILINE)


def events_of(target):
    done = slabscope("events", target, "--once", "--json")
    equal(done.returncode, 0, f"exit code of events (stderr: {done.stderr.strip()})")
    return [json.loads(line) for line in done.stdout.splitlines()]


def active(document, cache):
    return sum(row["active_objects"] for row in document["caches"] if row["name"] == cache)


def ask(child, *words, code=0):
    done = slabscope("ctl", str(child.pid), *words)
    equal(done.returncode, code, f"exit code of ctl {words} ({done.stdout.strip()} {done.stderr.strip()})")
    return done.stdout + done.stderr


def samples(child):
    return slabscope_json("caches", str(child.pid), "--json")["process"]["sampled_allocations_total"]


def test_tracking_is_switched_under_threads():
    with dialog("churn", SLABSCOPE_TRACK="off") as child:
        hears(child, "ready")
        equal(samples(child), 0, "stacks while tracking is off")
        contains(ask(child, "track", "all"), "tracking: all, before: off", "what ctl says")
        eventually(lambda: samples(child) > 1000, "stacks are taken")
        ask(child, "track", "sampled:65536")
        answer = json.loads(ask(child, "track", "off", "--json"))
        equal((answer["status"], answer["value"]), ("done", 65536), "what ctl says as JSON")
        # Each thread follows at its next visit: then no more are taken.
        eventually(lambda: samples(child) == samples(child), "no more stacks are taken")
        ask(child, "track", "sampled")
        tell(child)
        hears(child, "stopped")
        document = slabscope_json("caches", str(child.pid), "--json")
        equal(active(document, "malloc-112"), 3 * 700, "live objects, exactly")
        equal(document["target"]["track"], "sampled", "mode")
        equal(document["target"]["sample_interval_bytes"], 524288, "interval")
        told = [(row["value"], row["other_value"]) for row in events_of(str(child.pid))
                if row["event"] == "tracking_switched"]
        equal(told, [(1, 0), (65536, 1), (0, 65536), (524288, 0)], "events")


def test_python_is_switched_on_and_off():
    script = ("import sys\nkeep=[]\nwhile True:\n  keep=[bytearray(200+i) for i in range(2000)]\n"
              "  print(len(keep), flush=True)\n  if not sys.stdin.readline(): break\n  "
              "keep=[bytes(600+i) for i in range(20000)]\n")
    with slabtest.process([sys.executable, "-c", script], stdin=subprocess.PIPE, text=True,
                          env=slabtest.preloaded(PYTHONMALLOC="malloc", SLABSCOPE_TRACK="off"),
                          stdout=subprocess.PIPE) as child:
        hears(child, "2000")
        with slabtest.process([slabtest.BIN, "ctl", str(child.pid), "track", "all", "--timeout", "60"],
                              stdout=subprocess.PIPE, text=True) as asking:
            # It is idle; the request waits for its next allocations.
            eventually(lambda: struct.unpack("<I", mailbox(child, 4))[0] != 0, "the request is written")
            tell(child)
            hears(child, "2000")
            equal(asking.wait(timeout=slabtest.DEADLINE), 0, "exit code of ctl")
        heap = slabscope_json("heap", str(child.pid), "--json")
        live = [stack for stack in heap["stacks"] if stack["objects"] >= 1900]
        if not live:
            raise AssertionError("no stack of the 2000 byte arrays")


def mailbox(child, size):
    path = next(path for path in slabtest.scope_files(os.environ["SLABSCOPE_DIR"])
                if f"-{child.pid}-" in path.name)
    with open(path, "rb") as file:
        file.seek(MAILBOX)
        return file.read(size)


def write_mailbox(child, data):
    path = next(path for path in slabtest.scope_files(os.environ["SLABSCOPE_DIR"])
                if f"-{child.pid}-" in path.name)
    with open(path, "r+b", buffering=0) as file:
        file.seek(MAILBOX + 4)
        file.write(data[4:])
        file.seek(MAILBOX)
        file.write(data[:4])


def test_idle_process_is_told_of():
    with dialog("churn", "idle", SLABSCOPE_TRACK="off") as child:
        hears(child, "ready")
        contains(ask(child, "track", "all", "--timeout", "0", code=1), "has not looked", "what ctl says")
        contains(ask(child, "track", "sampled:4096", "--timeout", "0", code=1), "took its place",
                 "what ctl says of the one before")
        equal(slabscope_json("caches", str(child.pid), "--json")["target"]["track"], "off", "mode")
        tell(child)
        hears(child, "stopped")
        tell(child)  # it allocates
        hears(child, "again")
        target = slabscope_json("caches", str(child.pid), "--json")["target"]
        equal((target["track"], target["sample_interval_bytes"]), ("sampled", 4096), "mode")


def test_memory_goes_back_on_request():
    with dialog("churn", SLABSCOPE_DECAY_MS="1000000") as child:
        hears(child, "ready")
        contains(ask(child, "shrink"), "given back", "what ctl says")
        contains(ask(child, "purge"), "given back to the kernel", "what ctl says")
        names = [row["event"] for row in events_of(str(child.pid))]
        equal(names, ["cache_shrunk", "memory_released"], "events")
        tell(child)
        hears(child, "stopped")
        equal(active(slabscope_json("caches", str(child.pid), "--json"), "malloc-112"), 3 * 700,
              "live objects, exactly")


def test_mailbox_may_hold_anything():
    requests = [struct.pack("<IIIIQ", sequence, check, action, 0xffffffff, argument)
                for sequence, check, action, argument in (
                    (1, 0, 1, 1), (2, ~2 & 0xffffffff, 0, 0), (3, ~3 & 0xffffffff, 99, 1 << 63),
                    (4, ~4 & 0xffffffff, 1, 1 << 40), (0xffffffff, 0, 0xffffffff, 0),
                    (0, 0xffffffff, 1, 5))]
    with dialog("churn", SLABSCOPE_TRACK="sampled:65536") as child:
        hears(child, "ready")
        for request in requests:
            served = slabscope_json("caches", str(child.pid), "--json")["process"]
            write_mailbox(child, request)
            eventually(lambda: sum(
                slabscope_json("caches", str(child.pid), "--json")["process"][key] - served[key]
                for key in ("requests_served_total", "requests_refused_total")) == 1, "it is looked at")
        document = slabscope_json("caches", str(child.pid), "--json")
        equal(document["process"]["requests_refused_total"], 5, "requests that made no sense")
        equal(document["target"]["sample_interval_bytes"], 5, "the last one made sense")
        contains(ask(child, "track", "off"), "tracking: off", "ctl works on")
        tell(child)
        hears(child, "stopped")


def test_wrong_words():
    for words, what in ((["track", "most"], "not 'most'"), (["track", "sampled:1"], "not 'sampled:1'"),
                        (["purge", "all"], "takes no argument"), (["explode"], "explode")):
        done = slabscope("ctl", "1", *words)
        equal(done.returncode, 2, f"exit code of ctl {words}")
        contains(done.stderr, what, "message")
    with dialog("churn", "idle") as child:
        hears(child, "ready")
        child.kill()
        child.wait()
        done = slabscope("ctl", str(child.pid), "purge")
        equal(done.returncode, 3, "exit code for a dead process")
        contains(done.stderr, "has ended", "message")


def test_events_of_a_cache_and_after_death():
    # The page has other tests' processes too: by a name of its own it is told from them.
    environment = {**os.environ, "SLABSCOPE_APP": "told"}
    with slabtest.process([slabtest.PROGRAMS / "object_caches_linked"], env=environment,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        child.wait(timeout=slabtest.DEADLINE)
        path = str(slabtest.scope_files(os.environ["SLABSCOPE_DIR"])[0])
        rows = events_of(path)
        names = [row["event"] for row in rows if row.get("cache") == "connections"]
        equal(names[:2], ["cache_created", "destroy_refused"], "its first events")
        contains(names, "cache_destroyed", "its events")
        equal(next(row["value"] for row in rows if row["event"] == "destroy_refused"), 60,
              "objects in use")
        equal([row["number"] for row in rows], list(range(1, len(rows) + 1)), "numbers")
        text = slabscope("events", path).stdout
        contains(text, "destroying cache connections refused: 60 objects in use", "text")
        contains(slabscope("report", path).stdout, "cache sessions released", "report's last events")
    counted = collections.Counter(row["event"] for row in rows)
    with slabtest.server() as url:
        page = eventually(lambda: EVENTS.findall(slabtest.fetch(url + "/metrics")[1]), "the dead process's metrics")
    equal({kind: int(count) for kind, count in page if count != "0"}, dict(counted), "slabscope_events_total")


def test_followed_until_the_end():
    with dialog("churn") as child:
        hears(child, "ready")
        with slabtest.process([slabtest.BIN, "events", str(child.pid)], stdout=subprocess.PIPE,
                              text=True) as follower:
            ask(child, "track", "all")
            contains(follower.stdout.readline(), "tracking switched to all", "first line")
            ask(child, "track", "off")
            contains(follower.stdout.readline(), "tracking switched to off", "second line")
            child.kill()
            equal(follower.wait(timeout=slabtest.DEADLINE), 0, "exit code when the process has ended")
    with slabtest.process([slabtest.BIN, "events"], stdout=subprocess.PIPE, text=True) as follower, \
            dialog("churn") as child:
        hears(child, "ready")
        ask(child, "track", "all")
        # Other processes on the machine may have events too.
        line = next((line for line in follower.stdout if f"churn ({child.pid})" in line), "")
        contains(line, "tracking switched to all", "a process that came later")
        follower.send_signal(signal.SIGINT)
        equal(follower.wait(timeout=slabtest.DEADLINE), 0, "exit code after ^C")


slabtest.main()
