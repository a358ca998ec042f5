#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No room for a scope file: /dev/shm absent, read-only, of 64 KiB, full, or filling up later; no /proc.

Each case runs in a mount namespace of its own. The programs run as ever; what is lost is the view.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import PROGRAMS, equal  # noqa: E402

HIDE = "mount -t tmpfs -o size=4k,nr_inodes=1,ro none /run && unset SLABSCOPE_DIR XDG_RUNTIME_DIR"
CASES = {
    "read_only": "mount -t tmpfs -o ro none /dev/shm",
    "64_kib": "mount -t tmpfs -o size=64k none /dev/shm",
    "1_mib": "mount -t tmpfs -o size=1m none /dev/shm",
    "full": "mount -t tmpfs -o size=1m none /dev/shm && "
            "{ dd if=/dev/zero of=/dev/shm/fill bs=4k 2>/dev/null || true; }",
    "no_inodes": "mount -t tmpfs -o nr_inodes=1 none /dev/shm",
    "not_a_tmpfs": "mount --bind \"$SCRATCH\" /dev/shm",
    "absent": "mount --bind /usr/share /dev",
}
# What is left of the table here exercises slow paths: threads, fork, tracking, growth of the file.
PROGRAMS_HERE = ("threads", "fork", "no_leak")


def in_namespace(script, command, **environment):
    lines = f"set -e; {HIDE}; {script}; exec env \"LD_PRELOAD=$1\" \"${{@:2}}\""
    with tempfile.TemporaryDirectory(prefix="slabscope-disk-", dir="/var/tmp") as scratch:
        return slabtest.run(["unshare", "-m", "--propagation", "private", "bash", "-c", lines, "bash",
                             slabtest.LIB, *command],
                            env={**os.environ, "SCRATCH": scratch, **environment})


def need_namespaces():
    probe = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"],
                           capture_output=True, check=False)
    if probe.returncode != 0:
        raise slabtest.Skip("needs the right to mount")


def check(script, **environment):
    need_namespaces()
    for program in PROGRAMS_HERE:
        done = in_namespace(script, [PROGRAMS / program], **environment)
        equal(done.returncode, 0, f"exit code of {program} ({done.stderr[-300:]!r})")
    done = in_namespace(script, ["sh", "-c", "echo out; exit 7"], **environment)
    equal((done.returncode, done.stdout), (7, "out\n"), "exit code and stdout")
    equal(len(done.stderr.splitlines()) <= 1, True, f"at most one line on stderr: {done.stderr!r}")


def define(name, script):
    globals()[f"test_{name}"] = lambda: check(script)


for case, steps in CASES.items():
    define(case, steps)


def test_64_kib_tracking_all():
    check(CASES["64_kib"], SLABSCOPE_TRACK="all")


def test_1_mib_tracking_all():
    check(CASES["1_mib"], SLABSCOPE_TRACK="all")


def test_fills_up_later():
    """The file system fills up while the program runs: what would be SIGBUS is a dropped record."""
    need_namespaces()
    script = ("mount -t tmpfs -o size=2m none /dev/shm; "
              "{ for i in {1..1000}; do compgen -G '/dev/shm/slabscope-*/*.scope' >/dev/null && break; sleep 0.01; done; "
              "dd if=/dev/zero of=/dev/shm/fill bs=4k 2>/dev/null; } & true")
    for program in ("stress", "threads", "fork"):
        done = in_namespace(script, [PROGRAMS / program], SLABSCOPE_TRACK="all")
        equal(done.returncode, 0, f"exit code of {program} ({done.stderr[-300:]!r})")


def test_no_proc():
    need_namespaces()
    done = in_namespace("mount -t tmpfs none /proc", [PROGRAMS / "no_leak"])
    equal(done.returncode, 0, f"exit code without /proc ({done.stderr[-300:]!r})")


slabtest.main()
