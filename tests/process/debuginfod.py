#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Debug information from a server: fetched if --debuginfod asks for it, once, and only what is missing here."""
import ctypes.util
import functools
import http.server
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import Skip, contains, equal, hears, slabscope, slabscope_json, tell  # noqa: E402

SOURCE = """
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


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on this host alone, and remembers what was asked for."""

    def __init__(self, folder):
        self.asked = []
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        self.server.asked.append(self.path)


def stripped_program(folder):
    """A program without names, its build-id, and a server's folder with its debug information."""
    if not all(map(shutil.which, ("gcc", "objcopy", "strip", "readelf"))):
        raise Skip("no gcc and binutils")
    if ctypes.util.find_library("debuginfod") is None:
        raise Skip("no libdebuginfod.so.1")
    (folder / "keeps.c").write_text(SOURCE, encoding="utf-8")
    program = folder / "keeps"
    slabtest.run(["gcc", "-g", "-O1", "-fno-optimize-sibling-calls", "-Wl,--build-id", folder / "keeps.c", "-o",
                  program])
    notes = slabtest.run(["readelf", "-n", program]).stdout
    build_id = re.search(r"Build ID: (\w+)", notes)[1]
    place = folder / "served" / "buildid" / build_id
    place.mkdir(parents=True)
    slabtest.run(["objcopy", "--only-keep-debug", program, place / "debuginfo"])
    slabtest.run(["strip", program])
    return program, build_id


def test_asked_for_and_not():
    folder = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    program, build_id = stripped_program(folder)
    with Server(folder / "served") as server:
        servers = {**os.environ, "DEBUGINFOD_URLS": f"http://127.0.0.1:{server.server_port}",
                   "DEBUGINFOD_CACHE_PATH": str(folder / "cache"), "DEBUGINFOD_TIMEOUT": "20"}
        with slabtest.process([program], env=slabtest.preloaded(SLABSCOPE_TRACK="all"),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            hears(child, "ready")

            def frame(*options):
                document = slabscope_json("heap", child.pid, "--json", *options, env=servers)
                stack = next(s for s in document["stacks"] if s["bytes"] == 777)["stack"]
                return next((f["function"], f["line"]) for f in stack if f["module"] == str(program))

            equal(frame(), ("", 0), "the frame without --debuginfod")
            equal(server.asked, [], "what the server was asked for without --debuginfod")
            equal(frame("--debuginfod"), ("keeps", 5), "the frame with --debuginfod")
            mine = [path for path in server.asked if build_id in path]
            equal(mine, [f"/buildid/{build_id}/debuginfo"], "what the server was asked for of the program")
            equal(frame("--debuginfod"), ("keeps", 5), "the frame from the cache")
            equal([path for path in server.asked if build_id in path], mine, "what was asked for again")
            tell(child)
        server.shutdown()


def test_what_is_not_its_own_is_refused():
    """A server that answers with another build's file."""
    folder = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    program, build_id = stripped_program(folder)
    shutil.copy(sys.executable, folder / "served" / "buildid" / build_id / "debuginfo")
    with Server(folder / "served") as server:
        servers = {**os.environ, "DEBUGINFOD_URLS": f"http://127.0.0.1:{server.server_port}",
                   "DEBUGINFOD_CACHE_PATH": str(folder / "cache"), "DEBUGINFOD_TIMEOUT": "20"}
        with slabtest.process([program], env=slabtest.preloaded(SLABSCOPE_TRACK="all"),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            hears(child, "ready")
            document = slabscope_json("heap", child.pid, "--json", "--debuginfod", env=servers)
            stack = next(s for s in document["stacks"] if s["bytes"] == 777)["stack"]
            equal([f["function"] for f in stack if f["module"] == str(program)][0], "", "the frame")
            tell(child)
        server.shutdown()


def test_usage():
    without = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"}
    done = slabscope("heap", os.getpid(), "--debuginfod", env=without)
    equal(done.returncode, 2, "exit code without servers")
    contains(done.stderr, "set DEBUGINFOD_URLS", "the error")


slabtest.main()
