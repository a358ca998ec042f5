#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The live numbers are exact: by `caches --json`, by /metrics, and after kill -9 by `report --json`."""
import os
import pathlib
import re
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import dialog, equal, eventually, hears, slabscope_json, tell  # noqa: E402

CACHE = "malloc-112"


def active(document):
    """Live objects of the cache in a JSON document; a cache that was never used has none."""
    return sum(cache["active_objects"] for cache in document["caches"] if cache["name"] == CACHE)


def active_by_metrics(url):
    status, page = slabtest.fetch(url + "/metrics")
    equal(status, 200, "status of /metrics")
    rows = re.findall(r"^slabscope_cache_active_objects\{(.*?)\} (\S+)$", page, re.MULTILINE)
    return sum(float(value) for labels, value in rows
               if f'cache="{CACHE}"' in labels and 'app="live_objects"' in labels)


STEPS = (("allocated", 1000), ("freed", 600), ("thread", 1100))


def test_caches_json():
    with dialog("live_objects", SLABSCOPE_APP="live_objects") as child:
        hears(child, "ready")
        before = active(slabscope_json("caches", str(child.pid), "--json"))
        for word, more in STEPS:
            tell(child)
            hears(child, word)
            document = slabscope_json("caches", str(child.pid), "--json")
            equal(active(document) - before, more, f"more live objects after '{word}'")
            equal(document["schema"], 1, "schema")
            equal(document["target"]["pid"], child.pid, "pid")
            equal(document["target"]["state"], "running", "state")
            equal(document["target"]["comm"], "live_objects", "comm")


def test_metrics():
    with slabtest.server() as url, dialog("live_objects", SLABSCOPE_APP="live_objects") as child:
        hears(child, "ready")
        eventually(lambda: 'app="live_objects"' in slabtest.fetch(url + "/metrics")[1],
                   "the program appears on /metrics")
        before = active_by_metrics(url)
        for word, more in STEPS:
            tell(child)
            hears(child, word)
            equal(active_by_metrics(url) - before, more, f"more live objects after '{word}'")


def test_after_kill():
    with dialog("live_objects") as child:
        hears(child, "ready")
        before = active(slabscope_json("caches", str(child.pid), "--json"))
        tell(child)
        hears(child, "allocated")
        (file,) = slabtest.scope_files(os.environ["SLABSCOPE_DIR"])
        child.kill()
        child.wait()
        document = slabscope_json("report", str(file), "--json")
        equal(document["target"]["state"], "died", "state")
        equal(active(document) - before, 1000, "more live objects after kill -9")


def test_every_track_mode_counts_the_same():
    for mode in ("off", "sampled", "sampled:1000", "all"):
        with dialog("live_objects", SLABSCOPE_TRACK=mode) as child:
            hears(child, "ready")
            before = active(slabscope_json("caches", str(child.pid), "--json"))
            for word, more in STEPS:
                tell(child)
                hears(child, word)
                document = slabscope_json("caches", str(child.pid), "--json")
                equal(active(document) - before, more, f"track={mode}, after '{word}'")
            tell(child)
            equal(child.wait(timeout=slabtest.DEADLINE), 0, "exit code")


def window_bytes(file):
    """Header.window_bytes of a scope file; its offset is in the golden layout."""
    layout = pathlib.Path(__file__).resolve().parent.parent / "golden" / "abi_layout.txt"
    offset = int(re.search(r"Header\.window_bytes +(\d+) +8", layout.read_text())[1])
    return struct.unpack_from("<Q", file.open("rb").read(4096), offset)[0]


def test_an_idle_process_has_told_where_its_heap_lies():
    for mode, steps in (("off", 1), ("sampled", 1), ("all", 0)):
        with dialog("live_objects", SLABSCOPE_TRACK=mode) as child:
            hears(child, "ready")
            for word, _ in STEPS[:steps]:
                tell(child)
                hears(child, word)
            file = pathlib.Path(slabscope_json("report", str(child.pid), "--json")["target"]["scope_file"])
            equal(window_bytes(file) != 0, True, f"a window with track={mode}")


def test_caches_text_and_ps():
    with dialog("live_objects") as child:
        hears(child, "ready")
        tell(child)
        hears(child, "allocated")
        done = slabtest.slabscope("caches", str(child.pid), "--once")
        equal(done.returncode, 0, "exit code")
        slabtest.contains(done.stdout, CACHE, "caches")
        by_name = slabtest.slabscope("caches", "live_obj", "--once")
        equal(by_name.returncode, 0, "exit code of a target by part of its name")
        listed = slabtest.slabscope("ps")
        equal(listed.returncode, 0, "exit code of ps")
        slabtest.contains(listed.stdout, str(child.pid), "ps")
        targets = slabscope_json("ps", "--json")["targets"]
        equal([row["pid"] for row in targets if row.get("comm") == "live_objects"], [child.pid], "pids")


slabtest.main()
