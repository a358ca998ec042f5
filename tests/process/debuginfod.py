#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Debug information from a server: fetched if --debuginfod asks for it, once, and only what is missing here."""
import contextlib
import ctypes.util
import functools
import http.server
import json
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


def environment(server, folder):
    """Of a slabscope that may ask `server`."""
    return {**os.environ, "DEBUGINFOD_URLS": f"http://127.0.0.1:{server.server_port}",
            "DEBUGINFOD_CACHE_PATH": str(folder / "cache"), "DEBUGINFOD_TIMEOUT": "20"}


def keeping_frame(document, program):
    """Function and line of what allocated the 777 bytes, within the program."""
    reported = document.get("stacks") or document["leaks"]
    stack = next(entry for entry in reported if entry["bytes"] == 777)["stack"]
    return next((f["function"], f["line"]) for f in stack if f["module"] == str(program))


@contextlib.contextmanager
def served(folder, program):
    """A server of the folder beside the program, which runs; yields the server and heap's view of that frame."""
    with Server(folder / "served") as server:
        with slabtest.process([program], env=slabtest.preloaded(SLABSCOPE_TRACK="all"),
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            hears(child, "ready")

            def frame(*options):
                return keeping_frame(slabscope_json("heap", child.pid, "--json", *options,
                                                    env=environment(server, folder)), program)

            yield server, frame
            tell(child)
        server.shutdown()


def test_asked_for_and_not():
    folder = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    program, build_id = stripped_program(folder)
    with served(folder, program) as (server, frame):
        equal(frame(), ("", 0), "the frame without --debuginfod")
        equal(server.asked, [], "what the server was asked for without --debuginfod")
        equal(frame("--debuginfod"), ("keeps", 5), "the frame with --debuginfod")
        mine = [path for path in server.asked if build_id in path]
        equal(mine, [f"/buildid/{build_id}/debuginfo"], "what the server was asked for of the program")
        equal(frame("--debuginfod"), ("keeps", 5), "the frame from the cache")
        equal([path for path in server.asked if build_id in path], mine, "what was asked for again")


def test_what_is_not_its_own_is_refused():
    """A server that answers with another build's file."""
    folder = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    program, build_id = stripped_program(folder)
    shutil.copy(sys.executable, folder / "served" / "buildid" / build_id / "debuginfo")
    with served(folder, program) as (_, frame):
        equal(frame("--debuginfod"), ("", 0), "the frame")


def test_the_report_of_run():
    """Its metrics page names stacks too, and asks nobody; the program's environment stays its own."""
    folder = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    program, _ = stripped_program(folder)
    with Server(folder / "served") as server:
        surroundings = environment(server, folder)

        def reported(*options):
            done = slabscope("run", "--listen", "127.0.0.1:0", "--report", folder / "report.json", "--format", "json",
                             *options, "--", "sh", "-c", 'echo "$DEBUGINFOD_URLS"; exec "$0" </dev/null', program,
                             env=surroundings)
            equal(done.returncode, 0, f"exit code of slabscope run (stderr: {done.stderr.strip()})")
            contains(done.stdout, surroundings["DEBUGINFOD_URLS"] + "\n", "what the program knows of the servers")
            return keeping_frame(json.loads((folder / "report.json").read_text()), program)

        equal(reported(), ("", 0), "the frame without --debuginfod")
        equal(server.asked, [], "what the server was asked for without --debuginfod")
        equal(reported("--debuginfod"), ("keeps", 5), "the frame with --debuginfod")
        server.shutdown()


def test_usage():
    without = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"}
    for command in (("heap", os.getpid(), "--debuginfod"), ("run", "--debuginfod", "--", "true")):
        done = slabscope(*command, env=without)
        equal(done.returncode, 2, f"exit code of {command[0]} without servers")
        contains(done.stderr, "set DEBUGINFOD_URLS", "the error")


slabtest.main()
