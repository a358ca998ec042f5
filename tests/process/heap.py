#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`slabscope heap` on real programs: its forms agree with each other and with the exact counts; what
grew; profiles that pprof reads; the same over HTTP; and the list of the dead."""
import gzip
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import contains, dialog, equal, eventually, hears, slabscope, slabscope_json, tell  # noqa: E402

PYTHON = "import json; kept = [json.loads('{\"a\": [1, 2, \"%d\"]}' % i) for i in range(3000)]"
PERL = "our @kept = map { { n => $_, s => 'x' x 40 } } 1 .. 3000"
CPP = "#include <map>\n#include <string>\nint main() { return std::map<int, std::string>().size(); }\n"


# ---- an own decoder of profile.proto, enough to add up what is in it ---------------------------

def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7


def fields(data):
    """[(number, value)] of one message; a value is an int or bytes."""
    at, found = 0, []
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        else:
            equal(key & 7, 0, "wire type")
        found.append((key >> 3, value))
    return found


def unpacked(data):
    at, values = 0, []
    while at < len(data):
        value, at = varint(data, at)
        values.append(value)
    return values


def pprof_sums(packed):
    """({sample type: sum}, {function names}) of a profile."""
    message = fields(gzip.decompress(packed))
    strings = [value.decode() for number, value in message if number == 6]
    types = [strings[dict(fields(value))[1]] for number, value in message if number == 1]
    sums = [0] * len(types)
    for number, value in message:
        if number == 2:
            values = unpacked(dict(fields(value))[2])
            sums = [total + one for total, one in zip(sums, values)]
    names = {strings[dict(fields(value)).get(2, 0)] for number, value in message if number == 5}
    equal(strings[dict(message)[14]], "inuse_space", "default sample type")
    return dict(zip(types, sums)), names


# ---- the forms of one heap ---------------------------------------------------------------------

def heap_bytes(target, form):
    done = subprocess.run([slabtest.BIN, "heap", str(target), "--format", form], check=False,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=slabtest.DEADLINE)
    equal(done.returncode, 0, f"exit code of heap --format {form} ({done.stderr})")
    return done.stdout


def page_tree(page):
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(data[1])["root"]


def check_forms(target, exact):
    """Text, JSON, pprof, collapsed and page tell the same sums; returns the JSON."""
    document = slabscope_json("heap", target, "--json")
    by_stack = document["totals"]["by_stack"]
    rounding = 0 if exact else len(document["stacks"])

    def same(have, want, what):
        assert abs(have - want) <= rounding, f"{what}: {have}, expected {want}"

    same(sum(stack["bytes"] for stack in document["stacks"]), by_stack["bytes"], "sum over stacks")
    if exact:
        equal(document["estimated"], False, "estimated")
        equal(by_stack["objects"], document["totals"]["exact"]["objects"], "objects with a record")
    sums, _ = pprof_sums(heap_bytes(target, "pprof"))
    same(sums["inuse_space"], by_stack["bytes"], "inuse_space")
    same(sums["inuse_objects"], by_stack["objects"], "inuse_objects")
    assert sums["alloc_space"] >= sums["inuse_space"], sums
    lines = heap_bytes(target, "collapsed").decode().splitlines()
    same(sum(int(line.rsplit(" ", 1)[1]) for line in lines), by_stack["bytes"], "collapsed stacks")
    same(page_tree(heap_bytes(target, "html").decode())["v"], by_stack["bytes"], "the page")
    contains(heap_bytes(target, "text").decode(), f"(pid {document['target']['pid']})", "text")
    return document


def ended_targets():
    return {t["comm"]: t["scope_file"] for t in slabscope_json("report", "--all", "--json")["targets"]
            if t["scope_file"].startswith(os.environ["SLABSCOPE_DIR"])}


def test_python3():
    slabtest.run([sys.executable, "-S", "-c", PYTHON + "; import os; os._exit(0)"],
                 env=slabtest.preloaded(SLABSCOPE_TRACK="all", PYTHONMALLOC="malloc"))
    (file,) = ended_targets().values()
    document = check_forms(file, exact=True)
    assert document["totals"]["by_stack"]["objects"] > 3000 * 3, document["totals"]


def test_perl():
    if shutil.which("perl") is None:
        raise slabtest.Skip("perl is not installed")
    slabtest.run(["perl", "-e", PERL + "; kill 9, $$"], env=slabtest.preloaded(SLABSCOPE_TRACK="all"))
    document = check_forms(ended_targets()["perl"], exact=True)
    equal(document["target"]["state"], "died", "state")
    assert document["totals"]["by_stack"]["objects"] > 3000 * 2, document["totals"]


def test_compiler():
    if shutil.which("g++") is None:
        raise slabtest.Skip("g++ is not installed")
    done = slabtest.run(["g++", "-x", "c++", "-", "-S", "-o", "/dev/null"], stdin=None, input=CPP,
                        env=slabtest.preloaded(SLABSCOPE_TRACK="sampled:16384"))
    equal(done.returncode, 0, f"exit code of g++ ({done.stderr})")
    document = check_forms(ended_targets()["cc1plus"], exact=False)
    equal(document["estimated"], True, "estimated")
    totals = document["totals"]
    error = abs(totals["by_stack"]["objects"] - totals["exact"]["objects"])
    assert error < 6 * totals["by_stack"]["objects_stderr"], totals
    assert document["samples"] > 50, document["samples"]


# ---- what is live and what grew ----------------------------------------------------------------

def of_function(document, function):
    return [stack for stack in document["stacks"]
            if any(frame["function"].split("(")[0] == function for frame in stack["stack"])]


def test_growth_since_an_earlier_json():
    with dialog("live_objects", SLABSCOPE_TRACK="all") as child:
        hears(child, "ready")
        earlier = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "earlier.json"
        equal(slabscope("heap", child.pid, "--json", "-o", earlier).returncode, 0, "exit code")
        tell(child)
        hears(child, "allocated")
        document = slabscope_json("heap", child.pid, "--diff", earlier, "--json")
        biggest = document["stacks"][0]
        equal((biggest["objects"], biggest["bytes"]), (1000, 100000), "growth")
        equal(biggest["before"]["objects"], 0, "before")
        equal(biggest["now"]["objects"], 1000, "now")
        equal(biggest["certain"], True, "certain")
        equal(document["before"]["pid"], child.pid, "pid of the earlier look")
        text = slabscope("heap", child.pid, "--diff", earlier).stdout
        contains(text, "+100000 bytes (97K), +1000 objects, still live, growing", "text")
        equal("leaked" in text, False, "what grew is called a leak")
        none = slabscope_json("heap", child.pid, "--diff", child.pid, "--json")
        equal(none["stacks"], [], "growth since now")


def test_growth_within_a_time():
    code = "import time\nkept = []\nwhile True:\n  kept.append(bytearray(5000))\n  time.sleep(0.001)"
    for mode in ("all", "sampled:20000"):
        with slabtest.process([sys.executable, "-c", code],
                              env=slabtest.preloaded(SLABSCOPE_TRACK=mode)) as child:
            eventually(lambda: slabscope("heap", child.pid).returncode == 0, "its scope file")
            document = slabscope_json("heap", child.pid, "--seconds", "1", "--json")
            stack = document["stacks"][0]
            assert stack["bytes"] > 20 * 5000, stack
            equal(stack["estimated"], mode != "all", "estimated")
            assert document["seconds"] >= 1, document["seconds"]


def test_estimates_hold_their_error():
    with dialog("live_objects", SLABSCOPE_TRACK="sampled:2000") as child:
        hears(child, "ready")
        tell(child)
        hears(child, "allocated")
        document = check_forms(child.pid, exact=False)
        biggest = document["stacks"][0]
        assert 0 < biggest["samples"] < 500, biggest["samples"]
        assert abs(biggest["objects"] - 1000) < 6 * biggest["objects_stderr"], biggest
        assert 0 < biggest["objects_stderr"] < 400, biggest
        contains(slabscope("heap", child.pid).stdout, f"{biggest['samples']} samples", "text")


def test_fast_loops_are_estimated_right():
    """Samples that come too fast are taken more rarely, and weigh more."""
    count = 3_000_000
    for size in (4096, 256):
        with dialog("fast_loop", str(count), str(size), SLABSCOPE_TRACK="sampled") as child:
            hears(child, "done")
            sums, _ = pprof_sums(heap_bytes(child.pid, "pprof"))
            tell(child)
        # Some hundred samples stand behind it.
        equal(abs(sums["alloc_objects"] / count - 1) < 0.4, True,
              f"{sums['alloc_objects']} allocations of {size} bytes, of {count}")


def test_functions_and_lines():
    leaky = slabtest.PROGRAMS / "leaky_c"
    slabtest.run([leaky], env=slabtest.preloaded(SLABSCOPE_TRACK="all"))
    file = ended_targets()["leaky_c"]
    large = of_function(slabscope_json("heap", file, "--json"), "one_large")
    equal(sum(stack["bytes"] for stack in large), 300000, "bytes of one_large()")
    _, names = pprof_sums(heap_bytes(file, "pprof"))
    assert {"one_large", "main"} <= names, names
    contains(heap_bytes(file, "collapsed").decode(), "main;one_large 300000\n", "collapsed")


def test_go_tool_pprof():
    if shutil.which("go") is None:
        raise slabtest.Skip("go, which has pprof, is not installed")
    directory = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    done = slabscope("run", "--report", directory / "run.pb.gz", "--format", "pprof", "--",
                     slabtest.PROGRAMS / "leaky_c")
    equal(done.returncode, 0, f"exit code ({done.stderr})")
    sums, _ = pprof_sums((directory / "run.pb.gz").read_bytes())
    done = slabtest.run(["go", "tool", "pprof", "-raw", directory / "run.pb.gz"],
                        env={**os.environ, "PPROF_TMPDIR": str(directory), "HOME": str(directory)})
    equal(done.returncode, 0, f"exit code of pprof ({done.stderr})")
    contains(done.stdout, "inuse_space/bytes[dflt]", "sample types")
    rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+):", done.stdout, re.MULTILINE)
    equal(sum(int(row[3]) for row in rows), sums["inuse_space"], "bytes that pprof sees")
    equal(sum(int(row[0]) for row in rows), sums["alloc_objects"], "objects that pprof sees")
    contains(done.stdout, "one_large", "functions")
    contains(done.stdout, "[FN]", "a mapping whose functions are known")


# ---- wrong input -------------------------------------------------------------------------------

def test_hostile_earlier_files():
    slabtest.run([slabtest.PROGRAMS / "leaky_c"], env=slabtest.preloaded(SLABSCOPE_TRACK="all"))
    (target,) = ended_targets().values()
    file = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "earlier.json"
    for content in (b"", b"\0" * 4096, b"[" * 2_000_000, b"{\"schema\": 1}",
                    b'{"schema": 1, "stacks": [{"bytes": -1e999}]}',
                    b'{"schema": 1, "stacks": [{"bytes": 1, "stack": [[]]}]}',
                    b'{"schema": 1, "stacks": ' + b'[{"stack": ' * 100_000):
        file.write_bytes(content)
        done = slabscope("heap", target, "--diff", file)
        equal(done.returncode, 3, f"exit code with {content[:60]!r}")
        equal(done.stderr.count("\n"), 1, f"lines on stderr: {done.stderr!r}")
        contains(done.stderr, "slabscope heap TARGET --json", "what to do")
        equal(done.stdout, "", "stdout")


def test_usage():
    for arguments, code in ((("heap",), 2), (("heap", "no-such-process"), 3),
                            (("heap", "1", "--format", "svg"), 2),
                            (("heap", "1", "--seconds", "0"), 2),
                            (("heap", "1", "--seconds", "1", "--diff", "2"), 2),
                            (("heap", "1", "--diff", "2", "--format", "html"), 2),
                            (("report",), 2), (("report", "--all", "1"), 2),
                            (("run", "--format", "pprof", "--", "true"), 2)):
        done = slabscope(*arguments)
        equal(done.returncode, code, f"exit code of {arguments}")
        equal(done.stderr.count("\n"), 1, f"lines on stderr of {arguments}: {done.stderr!r}")


# ---- over HTTP, and the dead -------------------------------------------------------------------

def test_serve():
    with slabtest.server("--no-reap") as url, dialog("live_objects", SLABSCOPE_TRACK="all") as child:
        hears(child, "ready")
        tell(child)
        hears(child, "allocated")
        status, text = slabtest.fetch(f"{url}/api/v1/heap?pid={child.pid}")
        equal(status, 200, f"status of the JSON ({text[:200]})")
        equal(json.loads(text)["stacks"][0]["bytes"], 100000, "bytes of the biggest stack")
        with urllib.request.urlopen(f"{url}/debug/pprof/heap?target=live_objects") as answer:
            equal(answer.headers["Content-Type"], "application/octet-stream", "type")
            sums, _ = pprof_sums(answer.read())
        assert sums["inuse_space"] >= 100000, sums
        page = slabtest.fetch(f"{url}/heap?pid={child.pid}")[1]
        assert page_tree(page)["v"] >= 100000
        contains(slabtest.fetch(url + "/")[1], f'href="/heap?pid={child.pid}"', "the landing page")
        for query, code in (("pid=4294967295", 404), ("target=no-such-process", 404),
                            ("app=none", 404), ("target=/etc/passwd", 404), ("seconds=1", 400),
                            ("min_bytes=many", 400)):
            status, text = slabtest.fetch(f"{url}/api/v1/heap?{query}")
            equal(status, code, f"status with {query}")
            equal(sorted(json.loads(text)), ["error", "schema"], f"answer with {query}")
        with dialog("live_objects", SLABSCOPE_TRACK="all") as other:
            hears(other, "ready")
            status, text = slabtest.fetch(f"{url}/debug/pprof/heap?target=live_objects")
            equal(status, 400, "status where two processes fit")
            contains(json.loads(text)["error"], f"{other.pid} (live_objects)", "what to choose from")


def test_report_lists_the_dead():
    with dialog("live_objects", SLABSCOPE_TRACK="all") as child:
        hears(child, "ready")
        tell(child)
        hears(child, "allocated")
        child.send_signal(signal.SIGKILL)
        child.wait()
        targets = slabscope_json("report", "--all", "--json")["targets"]
        (death,) = [target for target in targets if target["pid"] == child.pid]
        equal(death["state"], "died", "state")
        equal(death["end_time_seconds"], None, "its end, which no file tells")
        assert death["last_sign_time_seconds"] >= death["start_time_seconds"], death
        assert death["live_objects"] >= 1000, death
        contains(slabscope("report", "--all").stdout, str(child.pid), "the table")


slabtest.main()
