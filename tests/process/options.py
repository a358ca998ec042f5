#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The shim's environment: what is wrong in it is told once, by name, and harms nothing."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import PROGRAMS, contains, equal  # noqa: E402

COMMAND = ["sh", "-c", "echo out; echo err >&2; exit 7"]


def warned(name, value):
    done = slabtest.run([PROGRAMS / "no_leak"], env=slabtest.preloaded(**{name: value}))
    equal(done.returncode, 0, f"exit code with {name}={value!r}")
    equal(done.stdout, "", f"stdout with {name}={value!r}")
    equal(done.stderr.count(name), 1, f"times that {name} is named in {done.stderr!r}")
    equal(len(done.stderr.splitlines()), 1, f"lines with {name}={value!r}: {done.stderr!r}")
    contains(done.stderr, "slabscope", "who says it")


def test_malformed_values():
    for value in ("nonsense", "sampled:", "sampled:-5", "sampled:5x", "all:7",
                  "sampled:99999999999999999999", "x" * 5000, "\x1b[31m", "\xff\xfe"):
        warned("SLABSCOPE_TRACK", value)
    for value in ("abc", "-1", "1e3", "99999999999999999999999"):
        warned("SLABSCOPE_DECAY_MS", value)
        warned("SLABSCOPE_RELEASE_DELAY_MS", value)
    for value in ("X", "FZ conn", "Z,malloc-64", "\xff", "T;" * 3000):
        warned("SLABSCOPE_DEBUG", value)
    for value in ("", "process", "threads"):
        warned("SLABSCOPE_GROUP_BY", value)


def test_unknown_names():
    warned("SLABSCOPE_TRAKC", "all")
    warned("SLABSCOPE_", "1")


def test_wellformed_values_say_nothing():
    for name, value in (("SLABSCOPE_TRACK", "all"), ("SLABSCOPE_TRACK", "off"),
                        ("SLABSCOPE_TRACK", "sampled"), ("SLABSCOPE_TRACK", "sampled:4096"),
                        ("SLABSCOPE_APP", "web shop"), ("SLABSCOPE_DECAY_MS", "0"),
                        ("SLABSCOPE_DECAY_MS", "5000"), ("SLABSCOPE_REPORT", "off"),
                        ("SLABSCOPE_DEBUG", ""), ("SLABSCOPE_DEBUG", "FZPU,conn*;-,handles"),
                        ("SLABSCOPE_GROUP_BY", "thread"), ("SLABSCOPE_GROUP_BY", "none")):
        done = slabtest.run(COMMAND, env=slabtest.preloaded(**{name: value}))
        equal((done.returncode, done.stdout, done.stderr), (7, "out\n", "err\n"),
              f"exit code, stdout and stderr with {name}={value!r}")


def test_report_destinations():
    program = [PROGRAMS / "leaky_c"]
    done = slabtest.run(program, env=slabtest.preloaded())
    equal(done.stderr, "", "stderr that is no terminal, with the default")
    done = slabtest.run(program, env=slabtest.preloaded(SLABSCOPE_REPORT="off"))
    equal(done.stderr, "", "stderr with SLABSCOPE_REPORT=off")
    done = slabtest.run(program, env=slabtest.preloaded(SLABSCOPE_REPORT="stderr"))
    contains(done.stderr, "slabscope", "stderr with SLABSCOPE_REPORT=stderr")
    pattern = os.environ["SLABSCOPE_DIR"] + "/report-%p.txt"
    with slabtest.process(program, env=slabtest.preloaded(SLABSCOPE_REPORT=pattern)) as child:
        equal(child.wait(timeout=slabtest.DEADLINE), 0, "exit code")
    text = pathlib.Path(pattern.replace("%p", str(child.pid))).read_text(encoding="utf-8")
    contains(text, "slabscope", "the report's file")


def test_directories_that_cannot_be_used():
    scratch = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    (scratch / "file").write_text("not a directory")
    for directory in ("/nonexistent/x", str(scratch / "file"), "", "relative/path", "/proc", "/sys",
                      "/" + "x" * 300, str(scratch) + "/" + "y/" * 2500):
        done = slabtest.run(COMMAND, env=slabtest.preloaded(SLABSCOPE_DIR=directory))
        equal((done.returncode, done.stdout), (7, "out\n"), f"with SLABSCOPE_DIR={directory[:40]!r}")
        said = done.stderr.replace("err\n", "").splitlines()
        if len(said) > 1:
            raise AssertionError(f"more than one line with SLABSCOPE_DIR={directory[:40]!r}: {said}")


def test_modes_and_names():
    """The directory is for one user only, the file too; a umask of 0 changes nothing."""
    scratch = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "new"
    scratch.mkdir(mode=0o700)
    done = subprocess.run([PROGRAMS / "no_leak"], env=slabtest.preloaded(SLABSCOPE_DIR=str(scratch)),
                          umask=0, timeout=slabtest.DEADLINE, check=False)
    equal(done.returncode, 0, "exit code")
    (file,) = scratch.iterdir()
    equal(oct(file.stat().st_mode & 0o777), "0o600", "mode of the scope file")
    equal(file.suffix, ".scope", "suffix")


def test_setuid_programs_ignore_everything():
    if os.geteuid() != 0:
        raise slabtest.Skip("needs root to make a set-uid program")
    directory = tempfile.mkdtemp(prefix="slabscope-setuid-", dir="/var/tmp")
    try:
        os.chmod(directory, 0o755)
        program = pathlib.Path(directory) / "linked"
        library = pathlib.Path(directory) / "libslabscope.so"
        shutil.copy(slabtest.LIB, library)
        source = pathlib.Path(directory) / "linked.c"
        source.write_text("#include <stdlib.h>\n#include <sys/auxv.h>\n"
                          "int main(void) { free(malloc(10)); return (int)getauxval(AT_SECURE); }\n")
        built = slabtest.run(["cc", "-o", program, source, f"-Wl,-rpath,{directory}",
                              "-Wl,--no-as-needed", library])
        equal(built.returncode, 0, f"exit code of the compiler ({built.stderr})")
        os.chown(program, 65534, 65534)
        os.chmod(program, 0o4755)
        scopes = pathlib.Path(os.environ["SLABSCOPE_DIR"])
        scopes.chmod(0o777)
        done = slabtest.run([program], env={**os.environ, "SLABSCOPE_TRACK": "nonsense",
                                            "SLABSCOPE_REPORT": str(scopes / "report")})
        if done.returncode == 0:
            raise slabtest.Skip("set-uid has no effect on this file system")
        equal((done.returncode, done.stderr), (1, ""), "exit code (AT_SECURE) and stderr")
        equal(list(scopes.iterdir()), [], "files in SLABSCOPE_DIR")
    finally:
        shutil.rmtree(directory)


slabtest.main()
