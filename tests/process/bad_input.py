#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Wrong input to the tool: one clear line, the documented exit code, never a crash."""
import os
import pathlib
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import PROGRAMS, contains, equal, slabscope  # noqa: E402


def refuses(code, *arguments, says=None, **options):
    """The command ends with this code and says why on stderr, in a line or a few."""
    done = slabscope(*arguments, **options)
    equal(done.returncode, code, f"exit code of slabscope {arguments} ({done.stderr!r})")
    lines = done.stderr.strip().splitlines()
    if not 1 <= len(lines) <= 12:
        raise AssertionError(f"slabscope {arguments} says {len(lines)} lines: {done.stderr!r}")
    if says is not None:
        contains(done.stderr, says, f"stderr of slabscope {arguments}")
    return done


def test_missing_and_unusable_programs():
    refuses(127, "run", "--", "/nonexistent/program", says="/nonexistent/program")
    refuses(127, "run", "--", "no-such-program-anywhere", says="no-such-program-anywhere")
    refuses(126, "run", "--", os.environ["SLABSCOPE_DIR"], says=os.environ["SLABSCOPE_DIR"])
    text = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "not-executable"
    text.write_text("just text\n")
    refuses(126, "run", "--", text, says="not-executable")


def test_usage():
    refuses(2, "--no-such-option", says="--no-such-option")
    refuses(2, "no-such-command", says="no-such-command")
    refuses(2, "run", "--no-such-option", "--", "true", says="--no-such-option")
    refuses(2, "run", "--format", "no-such-format", "--", "true", says="no-such-format")
    refuses(2, "run")
    refuses(2, "caches", "1", "2", "3")
    refuses(2, "serve", "--listen", "not an address")
    refuses(2, "serve", "--listen", "127.0.0.1:99999")
    refuses(2, "report")
    equal(slabscope("--help").returncode, 0, "exit code of --help")
    equal(slabscope("--version").returncode, 0, "exit code of --version")


def test_port_in_use():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        done = slabscope("serve", "--listen", address)
        if done.returncode <= 0:
            raise AssertionError(f"serve on a taken port ends with {done.returncode}")
        contains(done.stderr, address, "stderr of serve on a taken port")
        done = slabscope("run", "--listen", address, "--", PROGRAMS / "no_leak")
        contains(done.stderr, address, "stderr of run on a taken port")
    with slabtest.server() as url:
        address = url.removeprefix("http://")
        second = slabscope("serve", "--listen", address)
        if second.returncode == 0:
            raise AssertionError("a second server shares the port of the first")


def test_targets_that_are_not_there():
    for command in (("report",), ("caches", "--once"), ("caches", "--json")):
        refuses(3, *command, "/nonexistent.scope", says="/nonexistent.scope")
        refuses(3, *command, "999999999", says="999999999")
        refuses(3, *command, "no-such-program-anywhere", says="no-such-program-anywhere")
        refuses(3, *command, str(os.getppid()))  # a process, but not one of ours


def scope_of_a_dead_process():
    done = slabtest.run([PROGRAMS / "no_leak"], env=slabtest.preloaded())
    equal(done.returncode, 0, "exit code of a preloaded program")
    (file,) = slabtest.scope_files(os.environ["SLABSCOPE_DIR"])
    return file


def test_unreadable_and_corrupt_files():
    file = scope_of_a_dead_process()
    page = file.open("rb").read(4096)
    bad = pathlib.Path(os.environ["SLABSCOPE_DIR"]) / "bad.scope"
    for content in (b"", b"x", b"\0" * 4096, page[:100], page, b"SLBSCOPE" + b"\xff" * 8192,
                    page[:8] + b"\x63\0\0\0" + page[12:], os.urandom(100000)):
        bad.write_bytes(content)
        refuses(3, "report", bad, says="bad.scope")
        refuses(3, "caches", "--json", bad, says="bad.scope")
        # One bad file does not keep the others from being seen.
        equal(slabscope("ps").returncode, 0, "exit code of ps beside a bad file")
    bad.unlink()
    bad.mkdir()
    refuses(3, "report", bad, says="bad.scope")


def test_unreadable_by_permission():
    file = scope_of_a_dead_process()
    os.chmod(os.environ["SLABSCOPE_DIR"], 0o755)
    file.chmod(0)
    if os.geteuid() == 0:
        if subprocess.run(["setpriv", "--version"], capture_output=True, check=False).returncode:
            raise slabtest.Skip("no setpriv")
        reachable = slabtest.run(["setpriv", "--reuid=65534", "--clear-groups", slabtest.BIN, "--version"])
        if reachable.returncode != 0:
            raise slabtest.Skip("an unprivileged user cannot reach the build directory")
        done = slabtest.run(["setpriv", "--reuid=65534", "--clear-groups", slabtest.BIN, "report", file])
        equal(done.returncode, 3, f"exit code ({done.stderr!r})")
        contains(done.stderr, file.name, "stderr")
    else:
        refuses(3, "report", file, says=file.name)


def test_closed_output():
    """Nobody reads: an exit code, not a crash and not a hang."""
    scope_of_a_dead_process()
    for command in (["ps"], ["options"], ["--help"]):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = slabtest.run([slabtest.BIN, *command], capture_output=False, stdout=full,
                                stderr=subprocess.PIPE)
        if done.returncode < 0:
            raise AssertionError(f"slabscope {command} on a full disk: signal {-done.returncode}")


slabtest.main()
