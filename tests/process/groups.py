#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Groups: a program's own, and SLABSCOPE_GROUP_BY=thread for programs that know nothing of them."""
import os
import pathlib
import re
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import contains, dialog, equal, eventually, hears, slabscope_json, tell  # noqa: E402

PLACES = ("parse_request", "open_session", "read_body")
EACH = 10  # objects of one place in one group: 2 threads, 5 each


def view(target):
    return slabscope_json("caches", str(target), "--json")


def groups_of(shown):
    return {row["name"]: row for row in shown.get("groups", [])}


def sums_are_equal(shown):
    """The rows of groups, and those of caches by group, add up to the process's totals."""
    for key in ("active_objects", "active_bytes", "allocations_total", "frees_total"):
        rows = {}
        for cache in shown["caches"]:
            rows[cache["group"]] = rows.get(cache["group"], 0) + cache[key]
        for name, group in groups_of(shown).items():
            equal(rows.get(name, 0), group[key], f"{key} of group {name!r}")
    total = sum(group["active_bytes"] for group in groups_of(shown).values())
    equal(total, shown["process"]["active_bytes"], "bytes in use of all groups")


def stacks_in(text):
    """How many objects each stack of a report has, and the frames of each."""
    return [(int(count), frames.strip().splitlines()) for count, frames in
            re.findall(r"^  (\d+) objects?, .* s old, from$((?:\n {6}.*)+)", text, re.MULTILINE)]


def a_cache_in_groups(child, report):
    """3 places, 4 threads, 2 groups: seen by group, and all in the report of the refused destroy."""
    hears(child, "cache")
    shown = view(child.pid)
    rows = {row["group"]: row for row in shown["caches"] if row["name"] == "connections"}
    equal((rows["reader"]["active_objects"], rows["writer"]["active_objects"]), (3 * EACH, 3 * EACH), "objects")
    equal((rows["reader"]["kind"], rows["reader"]["state"]), ("object", "live"), "a child")
    equal(groups_of(shown)["reader"]["active_objects"], 3 * EACH, "objects of the group")
    sums_are_equal(shown)
    table = slabtest.run([slabtest.BIN, "caches", str(child.pid), "--by", "group"]).stdout
    equal(re.search(r"^reader +0 +(\d+)", table, re.MULTILINE)[1], str(3 * EACH), "the table of groups")
    heap = slabtest.run([slabtest.BIN, "heap", str(child.pid)]).stdout
    contains(heap, "connections(writer)", "the heap's caches")
    text = report.read_text()
    contains(text, f"cache connections is not destroyed: {6 * EACH} objects of 200 bytes are in use\n", "report")
    equal("no stack on record" in text, False, "objects without a stack, although all have one")
    stacks = stacks_in(text)
    equal(sorted(count for count, _ in stacks), [2 * EACH] * 3, "objects by stack")
    equal(len({frames[0] for _, frames in stacks}), 3, "places")
    report.unlink()
    events = slabtest.run([slabtest.BIN, "events", str(child.pid), "--once"]).stdout
    equal(events.count("connections") >= 1, True, "events of the cache")
    equal(len([line for line in events.splitlines() if "created" in line and "connections" in line]), 1,
          "creations told: children come and go unheard")
    tell(child)


def test_a_programs_own_groups():
    report = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "report.txt"
    with dialog("groups_linked", SLABSCOPE_TRACK="all", SLABSCOPE_REPORT=str(report)) as child:
        a_cache_in_groups(child, report)
        hears(child, "refused")
        shown = view(child.pid)
        for name in ("reader", "writer"):
            group = groups_of(shown)[name]
            equal((group["active_objects"], group["state"], group["threads"], group["made"]),
                  (3 * EACH, "live", 0, "program"), name)
        rows = {(row["name"], row["group"]): row["active_objects"] for row in shown["caches"]}
        for name in ("malloc-304", "malloc-3072", "malloc-large"):
            equal((rows[name, "reader"], rows[name, "writer"]), (EACH, EACH), name)
        sums_are_equal(shown)
        table = slabtest.run([slabtest.BIN, "caches", str(child.pid), "--by", "group"]).stdout
        contains(table, "writer", "table of groups")
        heap = slabtest.run([slabtest.BIN, "heap", str(child.pid)]).stdout
        contains(heap, "malloc-304(reader)", "the heap's caches")
        tell(child)
        hears(child, "limited")
        equal(groups_of(view(child.pid))["reader"]["allocations_refused_total"], 1, "refused")
        equal(groups_of(view(child.pid))["reader"]["limit_bytes"], 1 << 20, "limit")
        tell(child)
        hears(child, "destroyed")
        shown = view(child.pid)
        left = {name for name, row in groups_of(shown).items() if name != "" and row["state"] != "dying"}
        equal(left, set(), "groups that are left")
        # What the groups had allocated stays in the sums.
        large = [row for row in shown["caches"] if row["name"] == "malloc-large"]
        equal(sum(row["allocations_total"] for row in large) >= 2 * EACH, True, "large allocations")
        tell(child)
        equal(child.wait(timeout=slabtest.DEADLINE), 0, "exit code")
    text = report.read_text()
    for name in ("reader", "writer"):
        head = re.search(rf"group {name} is not destroyed: (\d+) objects, (\d+) bytes are in use\n", text)
        equal(int(head[1]), 3 * EACH, f"objects of {name} in the report")
    equal("no stack on record" in text, False, "objects without a stack, although all have one")
    # By stack: one of three places, and of two threads' start routine.
    counts = [int(count) for count in re.findall(r"^  (\d+) objects?, .* s old, from$", text, re.MULTILINE)]
    equal(sum(counts), 2 * 3 * EACH, "objects by stack")
    equal(len(counts), 2 * 3, "stacks")


def test_redis_by_thread_name():
    for program in ("redis-check-rdb", "redis-cli", "redis-benchmark"):
        if shutil.which(program) is None:
            raise slabtest.Skip(f"{program} is not installed")
    port = slabtest.free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no",
               "--io-threads", "2", "--io-threads-do-reads", "yes"]
    scratch = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    with open(scratch / "log", "w", encoding="utf-8") as log, \
            slabtest.process(command, executable=shutil.which("redis-check-rdb"), cwd=scratch, stdout=log,
                             stderr=log, env=slabtest.preloaded(SLABSCOPE_GROUP_BY="thread")) as server:
        cli = ["redis-cli", "-h", "127.0.0.1", "-p", str(port)]
        eventually(lambda: slabtest.run([*cli, "ping"]).stdout.strip() == "PONG", "redis answers")
        slabtest.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-n", "500", "-c", "4", "-d",
                      "200", "-q", "-t", "set,get"], timeout=120)
        shown = view(server.pid)
        sums_are_equal(shown)
        names = {name for name, row in groups_of(shown).items() if row.get("made") == "thread"}
        equal({"redis-check-rdb", "io_thd_1"} <= names, True, f"groups of the threads in {names}")
        slabtest.run([*cli, "shutdown", "nosave"])
        equal(server.wait(timeout=slabtest.DEADLINE), 0, "exit code")


def test_named_threads():
    with dialog("groups_unmodified", SLABSCOPE_GROUP_BY="thread", SLABSCOPE_DECAY_MS="0") as child:
        hears(child, "allocated")
        shown = view(child.pid)
        sums_are_equal(shown)
        found = groups_of(shown)
        for number in (1, 2):
            group = found[f"worker-{number}"]
            equal((group["made"], group["threads"], group["state"]), ("thread", 1, "live"), "a worker's group")
            equal(group["active_bytes"] >= 100 * number * 1024, True, "a worker's bytes")
        equal(found["groups_unmodifi"]["threads"], 1, "the main thread")
        tell(child)
        hears(child, "ended")
        group = groups_of(view(child.pid))["worker-2"]
        equal((group["threads"], group["state"]), (0, "offline"), "a group without threads")
        tell(child)
        hears(child, "freed")
        equal("worker-2" in groups_of(view(child.pid)), False, "a group without threads and objects")
        sums_are_equal(view(child.pid))
        tell(child)
        equal(child.wait(timeout=slabtest.DEADLINE), 0, "exit code")


slabtest.main()
