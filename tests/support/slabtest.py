# SPDX-License-Identifier: MIT
"""Shared by the Python drivers of the whole-process tests.

A driver defines functions test_*(), and ends with slabtest.main(). CTest hands it, by environment,
TEST_LIBRARY (libslabscope.so), TEST_SLABSCOPE (slabscope) and TEST_PROGRAMS (the folder of our programs).
Each test gets a scope directory of its own, which is removed afterwards.
"""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

LIB = os.environ.get("TEST_LIBRARY", "")
BIN = os.environ.get("TEST_SLABSCOPE", "")
PROGRAMS = pathlib.Path(os.environ.get("TEST_PROGRAMS", "."))
SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
DEADLINE = 120.0  # seconds; only a test that fails waits as long


class Skip(Exception):
    """Raised by a test that cannot be run here, with the reason."""


def eventually(condition, what, seconds=DEADLINE):
    """Returns the condition's first true value; fails when the deadline passes without one."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


def equal(have, want, what):
    if have != want:
        raise AssertionError(f"{what}: {have!r}, expected {want!r}")


def contains(text, part, what):
    if part not in text:
        raise AssertionError(f"{what}: {part!r} is not in {text!r}")


@contextlib.contextmanager
def scope_directory():
    """A new directory in memory for scope files, named by SLABSCOPE_DIR meanwhile."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="slabscope-test-", dir=base)
    before = os.environ.get("SLABSCOPE_DIR")
    os.environ["SLABSCOPE_DIR"] = directory
    try:
        yield pathlib.Path(directory)
    finally:
        if before is None:
            del os.environ["SLABSCOPE_DIR"]
        else:
            os.environ["SLABSCOPE_DIR"] = before
        shutil.rmtree(directory, ignore_errors=True)


def preloaded(**more):
    """The environment of a program that is to run under us."""
    return {**os.environ, "LD_PRELOAD": LIB, **more}


def run(command, **options):
    options.setdefault("timeout", DEADLINE)
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("capture_output", True)
    options.setdefault("text", True)
    return subprocess.run([str(word) for word in command], check=False, **options)


def compiled(path, source, *options):
    """A program (with -shared: a library) made from C, with debug information and a build-id; its path."""
    if shutil.which("gcc") is None:
        raise Skip("no gcc")
    text = path.with_suffix(".c")
    text.write_text(source, encoding="utf-8")
    done = run(["gcc", "-g", "-O1", "-fno-optimize-sibling-calls", "-Wl,--build-id", text, "-o", path, *options])
    equal((done.returncode, done.stderr), (0, ""), f"gcc {text}")
    return path


# A program that keeps 777 bytes, says "ready" and waits for a line.
KEEPS = """
#include <stdlib.h>
#include <unistd.h>
void* volatile g_kept;
__attribute__((noinline)) static void keeps(void) { g_kept = malloc(777); }
int main(void) {
  char answer[8];
  keeps();
  return write(1, "ready\\n", 6) == 6 && read(0, answer, 1) >= 0 ? 0 : 1;
}
"""


def slabscope(*arguments, **options):
    return run([BIN, *arguments], **options)


def slabscope_json(*arguments, **options):
    """What a command that must succeed prints as JSON."""
    done = slabscope(*arguments, **options)
    equal(done.returncode, 0, f"exit code of slabscope {arguments} (stderr: {done.stderr.strip()})")
    return json.loads(done.stdout)


def scope_files(directory):
    return sorted(pathlib.Path(directory).glob("*.scope"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def fetch(url):
    """(status, text) of a page; (0, reason) if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


@contextlib.contextmanager
def process(command, **options):
    """A child that is ended, and waited for, when the block is left."""
    child = subprocess.Popen([str(word) for word in command], **options)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait(timeout=DEADLINE)
        for stream in (child.stdin, child.stdout, child.stderr):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def dialog(program, *arguments, **environment):
    """One of our programs, preloaded, with pipes: it says a word and waits for a line at each step."""
    with process([PROGRAMS / program, *arguments], env=preloaded(**environment),
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield child


def hears(child, word):
    equal(child.stdout.readline().strip(), word, "what the program says")


def tell(child):
    child.stdin.write("\n")
    child.stdin.flush()


@contextlib.contextmanager
def server(*arguments, **options):
    """slabscope serve on a free port of 127.0.0.1; yields its address once it answers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with process([BIN, "serve", "--listen", f"127.0.0.1:{port}", *arguments],
                 stderr=subprocess.DEVNULL, **options) as child:

        def answers():
            equal(child.poll(), None, "exit code of slabscope serve")
            return fetch(url + "/-/healthy")[0] == 200

        eventually(answers, "slabscope serve answers")
        yield url


def main():
    """Runs the driver's tests (or those named on the command line); 77 if all were skipped."""
    module = sys.modules["__main__"]
    names = sys.argv[1:] or [name for name in vars(module) if name.startswith("test_")]
    failed = skipped = 0
    for name in names:
        started = time.monotonic()
        try:
            with scope_directory():
                getattr(module, name)()
            verdict = "ok"
        except Skip as reason:
            skipped += 1
            verdict = f"skipped: {reason}"
        except Exception:  # pylint: disable=broad-except  # a failure of any kind is one failed test
            failed += 1
            verdict = "FAILED\n" + traceback.format_exc()
        print(f"{name} ({time.monotonic() - started:.1f} s): {verdict}", flush=True)
    sys.exit(1 if failed else 77 if skipped == len(names) else 0)
