#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`slabscope run` on programs that leak known amounts: each leak with its exact objects, bytes,
function and line; and the exit codes."""
import json
import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import PROGRAMS, contains, equal, slabscope  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
LEAK = re.compile(r"// LEAK (\d+) (\d+) (\S+)")


def expected(source):
    """{(function, line): (objects, bytes)} as the comments in the source say."""
    lines = (HERE / source).read_text().splitlines()
    found = ((number, LEAK.search(line)) for number, line in enumerate(lines, 1))
    return {(m[3], number): (int(m[1]), int(m[2])) for number, m in found if m}


def reported(document, source):
    """The same from a report: by the innermost frame that lies in the source file, if any."""
    sums = {}
    for leak in document["leaks"]:
        if any("pthread_create" in frame["function"] for frame in leak["stack"]):
            continue  # what libc keeps for its next thread is not the program's
        frame = next((f for f in leak["stack"] if (f.get("file") or "").endswith("/" + source)), None)
        if frame is not None:
            key = (frame["function"].split("(")[0], frame["line"])
            objects, size = sums.get(key, (0, 0))
            sums[key] = (objects + leak["objects"], size + leak["bytes"])
    return sums


def run_leaky(program, *arguments, options=()):
    file = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "report.json"
    done = slabscope("run", "--format", "json", "--report", file, *options, "--",
                     PROGRAMS / program, *arguments)
    return done, json.loads(file.read_text())


def check(program, source):
    done, document = run_leaky(program)
    equal(done.returncode, 0, f"exit code (stderr: {done.stderr})")
    equal(done.stdout, "", "stdout, which is the program's own")
    equal(document["schema"], 1, "schema")
    equal(document["target"]["comm"], program[:15], "comm")
    equal(reported(document, source), expected(source), "leaks by function and line")


def test_c():
    check("leaky_c", "leaky_c.c")


def test_cpp():
    check("leaky_cpp", "leaky_cpp.cc")


def test_exit_codes():
    for options, arguments, code in (((), (), 0), ((), ("five",), 5),
                                     (("--fail-on-leak",), (), 23),
                                     (("--fail-on-leak",), ("five",), 23)):
        done, document = run_leaky("leaky_c", *arguments, options=options)
        equal(done.returncode, code, f"exit code with {options} {arguments}")
        equal(reported(document, "leaky_c.c"), expected("leaky_c.c"), "leaks")


def test_no_leak_no_complaint():
    done = slabscope("run", "--fail-on-leak", "--", PROGRAMS / "no_leak")
    equal(done.returncode, 0, f"exit code of a clean program (stderr: {done.stderr})")


def test_text_report():
    done = slabscope("run", "--", PROGRAMS / "leaky_c")
    equal(done.returncode, 0, "exit code")
    equal(done.stdout, "", "stdout, which is the program's own")
    line = next(line for function, line in expected("leaky_c.c") if function == "one_large")
    contains(done.stderr, "one_large", "report on stderr")
    contains(done.stderr, f"leaky_c.c:{line}", "report on stderr")
    equal("\x1b" in done.stderr, False, "colour where there is no terminal")


def test_killed_program():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = slabscope("run", "--", sys.executable, "-c", code)
    done = slabscope("run", "--fail-on-leak", "--", sys.executable, "-c", code)
    equal(done.returncode, 128 + 9, f"exit code of a program that was killed ({done.stderr})")
    contains(done.stderr, "state     killed by SIGKILL", "its state")


def test_program_without_exit_handlers():
    code = "import os; os._exit(3)"
    done = slabscope("run", "--", sys.executable, "-c", code)
    equal(done.returncode, 3, f"exit code ({done.stderr})")
    contains(done.stderr, "exited with 3, without running exit handlers", "its state")
    done = slabscope("run", "--fail-on-leak", "--", sys.executable, "-c", code)
    equal(done.returncode, 23, f"exit code with --fail-on-leak ({done.stderr})")


def test_min_bytes_is_per_stack():
    _, document = run_leaky("leaky_c", options=("--min-bytes", "2000"))
    names = {function for function, _ in reported(document, "leaky_c.c")}
    equal(names, {"one_large", "grow"}, "stacks of at least 2000 bytes")
    for least, code in (("300000", 23), ("300001", 0)):
        done, _ = run_leaky("leaky_c", options=("--fail-on-leak", "--min-bytes", least))
        equal(done.returncode, code, f"exit code with --min-bytes {least}")


slabtest.main()
