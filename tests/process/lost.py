#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`slabscope leaks` on programs in which the class of each object is known: by the name of the function
that allocated it, and by LeakSanitizer (gcc -fsanitize=leak) on the same source."""
import collections
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import PROGRAMS, Skip, equal, hears, slabscope, slabscope_json, tell  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
CASE = re.compile(r"(definite|indirect|reachable|mapped)_\w+")
PLUGIN = PROGRAMS / "liblost_plugin.so"
HEAD = re.compile(r"^(Direct|Indirect) leak of (\d+) byte\(s\) in (\d+) object")
FRAME = re.compile(r" in (\w+).* \S+:(\d+)$")
CLASSES = {"Direct": "definite", "Indirect": "indirect"}


def case_of(frames):
    """The innermost function that is a case, by its bare name, and the line; of (function, line) pairs."""
    for function, line in frames:
        match = CASE.match(function.split("(")[0])
        if match:
            return match[0], line
    return None


def frames_of(leak):
    return [(frame["function"], frame["line"]) for frame in leak["stack"]]


def name_of(leak):
    return (case_of(frames_of(leak)) or (None, 0))[0]


def ours(document, sites=False):
    """{(case, class): (objects, bytes)}, or {(case, line, class): …}; objects of no case are libraries' own."""
    sums = collections.defaultdict(lambda: [0, 0])
    for leak in document["leaks"]:
        case = case_of(frames_of(leak))
        if case is not None:
            sum_of = sums[(*case, leak["class"]) if sites else (case[0], leak["class"])]
            sum_of[0] += leak["objects"]
            sum_of[1] += leak["bytes"]
        elif leak["class"] != "reachable":
            raise AssertionError(f"lost, and by no case: {leak}")
    return {key: tuple(value) for key, value in sums.items()}


def live(program, *arguments, options=(), **environment):
    """What `slabscope leaks` says of the living program, which then ends as if nothing had been."""
    with slabtest.dialog(program, "live", *arguments, **environment) as child:
        hears(child, "ready")
        document = slabscope_json("leaks", child.pid, "--json", *options)
        tell(child)
        equal(child.wait(timeout=slabtest.DEADLINE), 0, "exit code of a program that was looked at")
    return document


def check_names(found):
    """Each object has the class that its function's name promises, and every case is there."""
    equal({key for key in found if not key[0].startswith(key[1] + "_")}, set(), "misjudged")


def sanitized(source, *arguments):
    """What LeakSanitizer says, by site: the same form, without what is reachable."""
    compiler = {".c": "gcc", ".cc": "g++"}[pathlib.Path(source).suffix]
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "sanitized"
        built = slabtest.run([compiler, "-g", "-O0", "-fno-builtin", "-fsanitize=leak", HERE / source,
                              "-o", program, "-pthread", "-ldl"] +
                             (["-std=c++20"] if compiler == "g++" else []), timeout=120)
        if built.returncode != 0:
            raise Skip(f"no {compiler} -fsanitize=leak: {built.stderr.strip()[:200]}")
        done = slabtest.run([program, *arguments],
                            env={**os.environ, "LSAN_OPTIONS": "fast_unwind_on_malloc=0"}, timeout=120)
    if "LeakSanitizer has encountered a fatal error" in done.stderr:
        raise Skip("LeakSanitizer cannot trace here")
    sums = collections.defaultdict(lambda: [0, 0])
    for block in done.stderr.split("\n\n"):
        lines = block.strip().splitlines()
        head = HEAD.match(lines[0]) if lines else None
        if head is None:
            continue
        frames = [(match[1], int(match[2])) for match in map(FRAME.search, lines[1:]) if match]
        case = case_of(frames)
        if case is not None:
            sums[(*case, CLASSES[head[1]])][0] += int(head[3])
            sums[(*case, CLASSES[head[1]])][1] += int(head[2])
    return {key: tuple(value) for key, value in sums.items()}


def lost_part(found):
    # LeakSanitizer takes malloc(0) for one byte.
    return {key: (value[0], value[1] or 1) for key, value in found.items() if key[-1] != "reachable"}


def without_library(found):
    """The case of the unloaded library has no name for LeakSanitizer."""
    return {key: value for key, value in found.items() if key[0] != "definite_with_library"}


def test_c_by_name():
    for options in ((), ("--roots", "modules")):
        found = ours(live("lost_c", PLUGIN, options=options, SLABSCOPE_TRACK="all"))
        check_names(found)
        equal(found["definite_small", "definite"], (7, 448), "definite_small")
        equal(found["indirect_tail", "indirect"], (9, 432), "indirect_tail")
        equal(found["definite_with_library", "definite"], (1, 444), "of an unloaded library")
        equal(found["reachable_list", "reachable"], (100, 4800), "reachable_list")


def test_places_by_name():
    """`mapped`: reachable unless modules are all that counts."""
    for options, mapped in (((), "reachable"), (("--roots", "modules"), "definite")):
        found = ours(live("lost_places", PLUGIN, options=options, SLABSCOPE_TRACK="all"))
        promised = {key for key in found
                    if key[0].startswith((mapped if key[0].startswith("mapped") else key[1]) + "_")
                    or key[0].startswith("mapped") and key[1] == mapped}
        equal(set(found) - promised, set(), f"misjudged with {options}")
        equal(found["mapped_beside_main", mapped], (1, 601), "beside the main thread's storage")
        equal(found["mapped_beside_stack", mapped], (1, 602), "beside a thread's stack")
        equal(found["reachable_on_left_stack", "reachable"], (1, 604), "on a stack that was left")
        equal(found["reachable_in_late_storage", "reachable"], (1, 445), "in storage that came later")
        equal(found["definite_cached", "definite"], (4, 544), "of a cache of the program's own")
        equal(found["indirect_cached", "indirect"], (1, 136), "of that cache, held by another")


def test_places_as_leak_sanitizer():
    found = lost_part(ours(live("lost_places", PLUGIN, options=("--roots", "modules"), SLABSCOPE_TRACK="all"),
                           sites=True))
    equal(found, sanitized("lost_places.c", "end", PLUGIN), "lost, beside LeakSanitizer")


def test_cpp_by_name():
    found = ours(live("lost_cpp", SLABSCOPE_TRACK="all"))
    check_names(found)
    equal(found["indirect_list_nodes", "indirect"], (10, 240), "indirect_list_nodes")


def test_c_as_leak_sanitizer():
    found = lost_part(ours(live("lost_c", PLUGIN, SLABSCOPE_TRACK="all"), sites=True))
    equal(without_library(found), sanitized("lost_c.c", "end", PLUGIN), "lost, beside LeakSanitizer")


def test_cpp_as_leak_sanitizer():
    found = lost_part(ours(live("lost_cpp", SLABSCOPE_TRACK="all"), sites=True))
    equal(found, sanitized("lost_cpp.cc"), "lost, beside LeakSanitizer")


def test_sampled_counts_are_exact():
    """Without stacks the same objects are lost, by cache, and the text says how to get stacks."""
    exact = live("lost_c", PLUGIN, SLABSCOPE_TRACK="all")["totals"]
    sampled = live("lost_c", PLUGIN, SLABSCOPE_TRACK="off")["totals"]
    for kind in ("definite", "indirect"):
        equal(sampled[kind]["objects"], exact[kind]["objects"], f"{kind} objects without stacks")
    with slabtest.dialog("lost_c", "live", PLUGIN, SLABSCOPE_TRACK="sampled") as child:
        hears(child, "ready")
        text = slabscope("leaks", child.pid).stdout
        slabtest.contains(text, "SLABSCOPE_TRACK=all", "the hint")
        slabtest.contains(text, "The process stood still for", "the pause")
        tell(child)


def test_nothing_is_left_behind():
    with slabtest.dialog("lost_c", "live", PLUGIN, SLABSCOPE_TRACK="all") as child:
        hears(child, "ready")
        for _ in range(5):
            slabscope_json("leaks", child.pid, "--json")
        status = pathlib.Path(f"/proc/{child.pid}/status").read_text(encoding="utf-8")
        slabtest.contains(status, "TracerPid:\t0", "no tracer")
        tasks = os.listdir(f"/proc/{child.pid}/task")
        children = [pathlib.Path(f"/proc/{child.pid}/task/{tid}/children").read_text(encoding="utf-8")
                    for tid in tasks]
        equal("".join(children), "", "children of the program")
        tell(child)
        equal(child.wait(timeout=slabtest.DEADLINE), 0, "exit code")


def test_at_the_end_of_run():
    for program, arguments, source in (("lost_c", ("end", PLUGIN), "lost_c.c"),
                                       ("lost_cpp", ("end",), "lost_cpp.cc")):
        file = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "report.json"
        done = slabscope("run", "--fail-on-leak", "--format", "json", "--report", file, "--",
                         PROGRAMS / program, *arguments)
        equal(done.returncode, 23, f"exit code (stderr: {done.stderr})")
        document = json.loads(file.read_text(encoding="utf-8"))
        equal(document["reachability"], "checked", "reachability")
        equal(document["target"]["exit_code"], 0, "the program's own exit code")
        found = ours(document)
        check_names(found)
        found = without_library(lost_part(ours(document, sites=True)))
        equal(found, sanitized(source, *arguments), "beside LeakSanitizer")


def test_the_hint_of_run_works():
    """The process has ended: it cannot be checked again, but what it held is on record."""
    done = slabscope("run", "--track", "all", "--", sys.executable, "-c", "import json, decimal",
                     env={**os.environ, "PYTHONMALLOC": "malloc"})
    hint = re.search(r"To see them: slabscope (.*)", done.stderr)
    equal(hint is not None, True, f"a hint in {done.stderr}")
    again = slabscope(*hint[1].split())
    equal(again.returncode, 0, f"exit code of slabscope {hint[1]}: {again.stderr}")
    equal("To see them" in again.stdout, False, "stacks that are left out again")


def test_nobody_answers_at_the_end():
    """A program whose watcher is gone, or deaf, ends by itself and soon."""
    done = slabtest.run([PROGRAMS / "lost_cpp", "end"], timeout=20,
                        env=slabtest.preloaded(SLABSCOPE_WATCHER=str(os.getpid())))
    equal((done.returncode, done.stdout, done.stderr), (0, "", ""), "end of a program that waits in vain")
    file = slabtest.scope_files(os.environ["SLABSCOPE_DIR"])[-1]
    equal(slabscope_json("report", file, "--json")["target"]["state"], "exited", "its state")


def test_run_is_killed_meanwhile():
    with slabtest.process([slabtest.BIN, "run", "--", PROGRAMS / "lost_cpp", "live"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True) as tool:
        hears(tool, "ready")
        file = slabtest.scope_files(os.environ["SLABSCOPE_DIR"])[-1]
        tool.kill()
        tool.wait(timeout=slabtest.DEADLINE)
        tell(tool)
        slabtest.eventually(
            lambda: slabscope_json("report", file, "--json")["target"]["state"] == "exited",
            "the program ends in order without its parent", 20)


def test_system_calls_go_on():
    with slabtest.dialog("interrupted") as child:
        hears(child, "ready")
        for number in range(6):
            slabscope_json("leaks", child.pid, "--json")
            # A call that the kernel begins anew waits its whole time again: let it.
            with contextlib.suppress(subprocess.TimeoutExpired):
                equal(child.wait(timeout=0.25), None, f"exit code of the program after check {number}")
        tell(child)
        equal((child.wait(timeout=slabtest.DEADLINE), child.stdout.read()), (0, "done\n"), "what was interrupted")


def test_suppressions_and_owners():
    """What hangs on a suppressed leak goes with it; the rest says what it hangs on."""
    file = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "known.supp"
    file.write_text("# known\nleak:^definite_head$\nrace:other\n", encoding="utf-8")
    with slabtest.dialog("lost_c", "live", PLUGIN, SLABSCOPE_TRACK="all") as child:
        hears(child, "ready")
        done = slabscope("leaks", child.pid, "--json", "--suppressions", file)
        slabtest.contains(done.stderr, f"{file}:3: 'race:'", "the warning")
        document = json.loads(done.stdout)
        found = ours(document)
        equal(("definite_head", "definite") in found, False, "a suppressed leak is listed")
        equal(("indirect_tail", "indirect") in found, False, "what hangs on it is listed")
        equal(document["suppressions"], [{"template": "^definite_head$", "objects": 10, "bytes": 480}],
              "suppressions used")
        equal(document["totals"]["suppressed"], {"objects": 10, "bytes": 480}, "suppressed in all")
        held = [leak for leak in document["leaks"]
                if name_of(leak) == "indirect_by_interior"]
        equal(len(held), 1, "entries of indirect_by_interior")
        owner = document["leaks"][held[0]["owners"][0]["leak"]]
        equal(name_of(owner), "definite_of_interior", "its owner")
        cycles = [leak["in_cycles"]["bytes"] for leak in document["leaks"]
                  if name_of(leak) == "indirect_cycle"]
        equal(sorted(cycles), [80, 90, 100], "objects that hold each other")
        file.write_text("leak:*\n", encoding="utf-8")
        done = slabscope("leaks", child.pid, "--fail-on-leak", "--suppressions", file)
        equal(done.returncode, 0, "exit code if all is suppressed")
        slabtest.contains(done.stdout, "Suppressions used:", "the list of suppressions")
        file.write_text("leak:a\nmalloc\n", encoding="utf-8")
        done = slabscope("leaks", child.pid, "--suppressions", file)
        equal(done.returncode, 2, "exit code for a malformed file")
        slabtest.contains(done.stderr, f"{file}:2: 'malloc'", "the place of the mistake")
        tell(child)


def test_what_accumulates():
    """What is kept for longer than --since and becomes more is told, and not as lost; what is lost, or
    replaced all the time, is not."""
    code = ("import ctypes, time\nc = ctypes.CDLL(None)\nc.malloc.restype = ctypes.c_void_p\nkept, ring = [], {}\n"
            "for i in range(1 << 30):\n  kept.append(bytearray(5000))\n  ring[i % 20] = bytearray(9000)\n"
            "  c.malloc(7000)\n  time.sleep(0.002)\n"
            "  if i == 600: print('ready', flush=True)  # what its start kept is older than a second\n")
    with slabtest.process([sys.executable, "-c", code],
                          env=slabtest.preloaded(SLABSCOPE_TRACK="all"), stdout=subprocess.PIPE,
                          text=True) as child:
        hears(child, "ready")
        document = slabscope_json("leaks", child.pid, "--since", "1s", "--seconds", "2", "--json")
        equal(document["since_seconds"], 1, "since_seconds")
        stacks = document["growing"]["stacks"]
        # A stray word may lead to a few of the others.
        sizes = {round(stack["bytes"] / stack["objects"], -3) for stack in stacks if stack["objects"] > 40}
        equal(sizes, {5000}, "sizes of objects that accumulate")
        text = slabscope("leaks", child.pid, "--since", "1", "--seconds", "1").stdout
        slabtest.contains(text, "Still live, growing", "text")


def test_exit_codes():
    with slabtest.dialog("lost_c", "live", PLUGIN, SLABSCOPE_TRACK="all") as child:
        hears(child, "ready")
        equal(slabscope("leaks", child.pid).returncode, 0, "exit code without the flag")
        equal(slabscope("leaks", child.pid, "--fail-on-leak").returncode, 1, "exit code with the flag")
        tell(child)
        child.wait(timeout=slabtest.DEADLINE)
        equal(slabscope("leaks", child.pid).returncode, 3, "exit code for a process that has ended")
    with subprocess.Popen(["sleep", "0"]) as none:
        none.wait()
    equal(slabscope("leaks", none.pid).returncode, 3, "exit code without a target")


slabtest.main()
