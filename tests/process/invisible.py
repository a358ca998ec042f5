#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a program, and whoever watches it, could notice of us: nothing but the library and its file."""
import contextlib
import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import PROGRAMS, equal, eventually  # noqa: E402


@contextlib.contextmanager
def sleeping(**environment):
    """A sleep that has reached its system call."""
    with slabtest.process(["sleep", "600"], env={**os.environ, **environment}) as child:
        call = pathlib.Path(f"/proc/{child.pid}/wchan")
        stat = pathlib.Path(f"/proc/{child.pid}/stat")
        eventually(lambda: stat.read_text().split(") ")[1][0] == "S" and
                   pathlib.Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n" and
                   ("nanosleep" in call.read_text() or call.read_text() in ("0", "")), "it sleeps")
        yield pathlib.Path(f"/proc/{child.pid}")


def status(proc, *fields):
    lines = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return {field: lines[field].strip() for field in fields}


def descriptors(proc):
    return {entry.name: os.readlink(entry) for entry in (proc / "fd").iterdir()}


def test_sleep_looks_the_same():
    fields = ("Threads", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs", "Seccomp")
    with sleeping() as plain, sleeping(LD_PRELOAD=slabtest.LIB) as ours:
        slabtest.contains((ours / "maps").read_text(), "libslabscope.so", "mapped files")
        equal(descriptors(ours), descriptors(plain), "open descriptors")
        equal(len(list((ours / "task").iterdir())), 1, "threads")
        equal(status(ours, *fields), status(plain, *fields), "status")
        equal(len(slabtest.scope_files(os.environ["SLABSCOPE_DIR"])), 1, "scope files")


def test_tracked_program_looks_the_same():
    with slabtest.dialog("live_objects", SLABSCOPE_TRACK="all") as child:
        for word in ("ready", "allocated"):
            slabtest.hears(child, word)
            proc = pathlib.Path(f"/proc/{child.pid}")
            equal(sorted(descriptors(proc)), ["0", "1", "2"], f"descriptors after '{word}'")
            equal(len(list((proc / "task").iterdir())), 1, f"threads after '{word}'")
            equal(status(proc, "SigCgt", "SigBlk"), {"SigCgt": "0" * 16, "SigBlk": "0" * 16}, "signals")
            if word == "ready":
                slabtest.tell(child)


def test_depends_on_libc_alone():
    listed = slabtest.run(["ldd", slabtest.LIB])
    names = re.findall(r"^\s*(\S+?)(?:\.so\S*)", listed.stdout, re.MULTILINE)
    others = [name for name in names if not re.search(r"^(libc|linux-vdso|/.*ld-linux.*)$", name)]
    equal(others, [], f"libraries besides libc in {listed.stdout}")
    dynamic = slabtest.run(["readelf", "-dW", slabtest.LIB]).stdout
    equal(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic), ["libc.so.6"], "DT_NEEDED")


def test_ldd_and_other_loader_modes():
    """The loader lists a program's libraries with us preloaded, and does not run our start-up code."""
    done = slabtest.run(["ldd", "/bin/true"], env=slabtest.preloaded())
    equal(done.returncode, 0, f"exit code of ldd ({done.stderr})")
    slabtest.contains(done.stdout, "libslabscope.so", "what ldd lists")
    done = slabtest.run(["/bin/true"], env=slabtest.preloaded(LD_BIND_NOW="1", LD_DEBUG="unused"))
    equal(done.returncode, 0, "exit code with LD_DEBUG")


def test_nothing_left_behind():
    """No temporary file of ours stays, whatever way the program ends; one scope file a process."""
    scopes = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    before = set(os.listdir("/tmp"))
    for ending in ("", "kill -9 $$", "exec true", "kill -TERM $$"):
        slabtest.run(["sh", "-c", ": ; " + ending], env=slabtest.preloaded())
    equal([entry.name for entry in scopes.iterdir() if entry.suffix != ".scope"], [], "other files")
    equal({name for name in set(os.listdir("/tmp")) - before if "slabscope" in name.lower() and
           "test" not in name and "descriptors" not in name and "gone" not in name}, set(), "in /tmp")


def test_ended_processes_are_seen_as_such():
    for ending, state in (("exit", "exited"), ("kill", "died")):
        with slabtest.dialog("live_objects") as child:
            slabtest.hears(child, "ready")
            if ending == "kill":
                child.kill()
            else:
                for word in ("allocated", "freed", "thread"):
                    slabtest.tell(child)
                    slabtest.hears(child, word)
                slabtest.tell(child)
            child.wait(timeout=slabtest.DEADLINE)
            targets = slabtest.slabscope_json("ps", "--json")["targets"]
            equal([row["state"] for row in targets
                   if row.get("pid") == child.pid and row.get("comm") == "live_objects"], [state], "states")


def test_memory_cost_of_a_small_program():
    """A sleeping program costs at most a few hundred KiB more than it does with libc's malloc."""
    with sleeping() as plain, sleeping(LD_PRELOAD=slabtest.LIB) as ours:

        def private(proc):
            sizes = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", (proc / "smaps_rollup").read_text(),
                               re.MULTILINE)
            return sum(map(int, sizes))

        more = private(ours) - private(plain)
        if more > 1024:
            raise AssertionError(f"{more} KiB more private memory than without us")


slabtest.main()
