#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs with caches of their own: linked, by dlsym, in C++; what is seen of them from outside."""
import os
import pathlib
import re
import shutil
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import dialog, equal, hears, slabscope_json, tell  # noqa: E402

OBJECTS = 60  # 3 places, 4 threads, 5 each
PLACES = ("accept_client", "dial_upstream", "reopen")


def cache(pid, name):
    found = [row for row in slabscope_json("caches", str(pid), "--json")["caches"] if row["name"] == name]
    equal(len(found), 1, f"caches called {name}")
    return found[0]


def names(pid):
    return {row["name"] for row in slabscope_json("caches", str(pid), "--json")["caches"]}


def program_frames(report, pid_program):
    """For each group of the report: how many objects, and the addresses in the program."""
    groups = []
    for line in report.splitlines():
        head = re.match(r"  (\d+) objects?, .* s old, from$", line)
        if head:
            groups.append((int(head.group(1)), []))
        frame = re.match(r"      (\S+)\+0x([0-9a-f]+)$", line)
        if frame and frame.group(1).endswith(pid_program):
            groups[-1][1].append(int(frame.group(2), 16))
    return groups


def symbols(program):
    """Function addresses in the ELF file."""
    done = slabtest.run(["nm", slabtest.PROGRAMS / program])
    equal(done.returncode, 0, "exit code of nm")
    table = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in "tT":
            table[words[2]] = int(words[0], 16)
    return table


def function_at(table, address):
    below = [(start, name) for name, start in table.items() if start <= address]
    return max(below)[1]


def table_with_states_and_aliases(pid):
    table = slabtest.run([slabtest.BIN, "caches", str(pid)]).stdout.splitlines()
    (head,) = [line for line in table if line.startswith("CACHE")]
    equal(head.split()[-1], "STATE", "the last column while a cache is not live")
    states = {line.split()[0]: line.split()[-1] for line in table if line.split()}
    equal(states["sessions"], "zombie", "the zombie's state in the table")
    equal(states[":0000080"], "live", "what is shared, in the table")
    (shared,) = [line for line in table if line.startswith(":0000080")]
    slabtest.contains(shared, ":0000080 (tokens, nonces) ", "the row of what is shared, with its names")
    equal(cache(pid, ":0000080")["aliases"], ["tokens", "nonces"], "aliases in JSON")


def calls_name_functions(child):
    """alloc_calls, which the program prints: its places are addresses in the ELF file."""
    lines = list(iter(lambda: child.stdout.readline().rstrip("\n"), ""))
    table = symbols("object_caches_linked")
    by_function = {}
    for line in lines:
        found = re.fullmatch(r" *(\d+) object_caches_linked\+0x([0-9a-f]+) age=\d+(/\d+/\d+)? pid=(\d+)", line)
        if found is None:
            raise AssertionError(f"a line of alloc_calls: {line!r}")
        equal((int(found[4]), line.index(" object")), (child.pid, 7), f"pid and width of {line!r}")
        by_function[function_at(table, int(found[2], 16) - 1)] = int(found[1])
    equal(by_function, dict.fromkeys(PLACES, OBJECTS // len(PLACES)), "objects by function in alloc_calls")
    equal(child.stdout.readline(), f"     {OBJECTS} <not-available>\n", "free_calls")


def with_report(where):
    report = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "report.txt"
    with dialog("object_caches_linked", SLABSCOPE_REPORT=str(report) if where == "file" else where) as child:
        hears(child, "refused")
        calls_name_functions(child)
        row = cache(child.pid, "connections")
        equal((row["active_objects"], row["state"]), (OBJECTS, "live"), "after the refused destroy")
        tell(child)
        hears(child, "detached")
        equal("connections" in names(child.pid), False, "a destroyed cache is still listed")
        zombie = cache(child.pid, "sessions")
        equal((zombie["active_objects"], zombie["state"]), (1, "zombie"), "the zombie's objects and state")
        table_with_states_and_aliases(child.pid)
        tell(child)
        hears(child, "released")
        equal("sessions" in names(child.pid), False, "a zombie without objects is still listed")
        tell(child)
        equal(child.wait(timeout=slabtest.DEADLINE), 0, "exit code")
    return report


def test_all_that_remains_is_reported_by_stack():
    report = with_report("file").read_text()
    slabtest.contains(report, f"cache connections is not destroyed: {OBJECTS} objects of ", "report")
    equal("no stack on record" in report, False, "objects without a stack, although all have one")
    equal(len(re.findall(r"0x[0-9a-f]{6,}(?= |$)", "\n".join(
        line for line in report.splitlines() if line.startswith("    at ")), re.MULTILINE)), OBJECTS,
        "addresses in the report")
    table = symbols("object_caches_linked")
    by_place = dict.fromkeys(PLACES, 0)
    for count, frames in program_frames(report, "object_caches_linked"):
        by_place[function_at(table, frames[0] - 1)] += count
    equal(by_place, dict.fromkeys(PLACES, OBJECTS // len(PLACES)), "objects by place")


def test_a_silenced_report():
    equal(with_report("off").exists(), False, "a report was written")


def test_the_scope_file_knows_the_objects_after_a_crash():
    with dialog("object_caches_linked", SLABSCOPE_REPORT="off") as child:
        hears(child, "refused")
        (file,) = slabtest.scope_files(os.environ["SLABSCOPE_DIR"])
        child.kill()
        child.wait()
        document = slabscope_json("report", str(file), "--json")
        row = [c for c in document["caches"] if c["name"] == "connections"]
        equal([c["active_objects"] for c in row], [OBJECTS], "objects in the report of a killed process")


def test_dlsym_finds_the_caches_or_does_without():
    program = slabtest.PROGRAMS / "object_caches_dlsym"
    done = slabtest.run([program], env=slabtest.preloaded())
    equal((done.returncode, done.stdout), (0, "caches\n"), "under LD_PRELOAD")
    slabtest.contains(done.stderr, "cache nodes is not destroyed: 1 object of 48 bytes is in use", "stderr")
    done = slabtest.run([program])
    equal((done.returncode, done.stdout), (0, "malloc\n"), "alone")


def debugged(what, spec):
    return slabtest.run([slabtest.PROGRAMS / "object_caches_debugged", what], env=slabtest.preloaded(SLABSCOPE_DEBUG=spec))


def test_caches_are_debugged_from_outside():
    for spec, connections, handles in (("FZPU", "1 1 1 1", "1 1 1 1"), ("F,conn*;Z", "1 0 0 0", "0 1 0 0"),
                                       ("ZP;-,handles", "0 1 1 0", "0 0 0 0"), (",handles", "0 0 0 0", "1 1 1 1")):
        done = debugged("nothing", spec)
        equal((done.returncode, done.stdout, done.stderr),
              (0, f"connections {connections}\nhandles {handles}\n", ""), f"SLABSCOPE_DEBUG={spec}")


def test_damage_ends_the_program_with_one_line():
    place = r"\(connections: red zone at offset "
    for what, spec, line in (
            ("overrun", "Z", rf"write behind 0x[0-9a-f]+ {place}100 holds 0x41, not 0xcc; 1 byte\)"),
            ("underrun", "FZPU,conn*", rf"write before 0x[0-9a-f]+ {place}-1 holds 0x41, not 0xcc; 1 byte; "
                                       r"allocated at object_caches_debugged\+0x[0-9a-f]+\)"),
            ("late", "P", r"write after free to 0x[0-9a-f]+ \(connections: offset 3 holds 0x41, not 0x6b; 1 byte\)"),
            ("twice", "F", r"double free of 0x[0-9a-f]+ \(it is free already\)")):
        done = debugged(what, spec)
        equal(done.returncode, -signal.SIGABRT, f"exit code after {what}")
        if re.fullmatch(f"slabscope: {line}.*\n", done.stderr) is None:
            raise AssertionError(f"after {what}: {done.stderr!r}")


def test_cpp():
    for mode in ("sampled", "all", "off"):
        done = slabtest.run([slabtest.PROGRAMS / "object_caches_cpp"],
                            env=slabtest.preloaded(SLABSCOPE_TRACK=mode, SLABSCOPE_REPORT="off"))
        equal((done.returncode, done.stdout, done.stderr), (0, "ok\n", ""), f"track={mode}")


def test_the_headers_are_c11_and_cpp17():
    for compiler, standard, language, header in (("cc", "c11", "c", "slabscope.h"),
                                                 ("c++", "c++17", "c++", "slabscope.h"),
                                                 ("c++", "c++17", "c++", "slabscope.hpp")):
        if shutil.which(compiler) is None:
            raise slabtest.Skip(f"no {compiler}")
        source = f'#include "slab/{header}"\n'
        done = slabtest.run([compiler, f"-std={standard}", "-pedantic-errors", "-Wall", "-Wextra", "-Werror",
                             "-fsyntax-only", "-I", slabtest.SOURCE, "-x", language, "-"], stdin=None,
                            input=source)
        equal((done.returncode, done.stderr), (0, ""), f"{header} as {standard}")


slabtest.main()
