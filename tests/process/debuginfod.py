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
import termios
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import Skip, contains, equal, hears, slabscope, slabscope_json, tell  # noqa: E402

class Server(http.server.ThreadingHTTPServer):
    """Serves a folder on this host alone, and remembers what was asked for."""

    def __init__(self, folder, delay=0):
        self.asked = []
        self.delay = delay
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        time.sleep(self.server.delay)
        super().do_GET()

    def log_message(self, *_):
        self.server.asked.append(self.path)


def stripped_program(folder):
    """A program without names, its build-id, and a server's folder with its debug information."""
    if not all(map(shutil.which, ("objcopy", "strip", "readelf"))):
        raise Skip("no binutils")
    if ctypes.util.find_library("debuginfod") is None:
        raise Skip("no libdebuginfod.so.1")
    program = slabtest.compiled(folder / "keeps", slabtest.KEEPS)
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


def test_progress_is_shown_when_it_takes_over_a_second():
    """The server takes its time; what is shown is removed again."""
    folder = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    program, _ = stripped_program(folder)
    with Server(folder / "served", delay=1.1) as server, \
            slabtest.process([program], env=slabtest.preloaded(SLABSCOPE_TRACK="all"), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True) as child:
        hears(child, "ready")
        ours, terminal = os.openpty()
        modes = termios.tcgetattr(terminal)
        modes[1] &= ~termios.OPOST
        termios.tcsetattr(terminal, termios.TCSANOW, modes)
        done = slabtest.run([slabtest.BIN, "heap", child.pid, "--debuginfod"], env=environment(server, folder),
                            capture_output=False, stdout=subprocess.PIPE, stderr=terminal)
        equal(done.returncode, 0, "exit code")
        contains(done.stdout, "keeps", "the text")
        os.write(terminal, b"\n")  # so that there is something to read if nothing was shown
        shown = b""
        while not shown.endswith(b"\n"):
            shown += os.read(ours, 4096)
        os.close(ours)
        os.close(terminal)
        contains(shown.decode(), "slabscope: naming stacks: 1 of ", "what the terminal showed")
        contains(shown.decode(), "\r\033[K\n", "its end")
        tell(child)
        server.shutdown()


def test_usage():
    without = {name: value for name, value in os.environ.items() if name != "DEBUGINFOD_URLS"}
    for command in (("heap", os.getpid(), "--debuginfod"), ("run", "--debuginfod", "--", "true")):
        done = slabscope(*command, env=without)
        equal(done.returncode, 2, f"exit code of {command[0]} without servers")
        contains(done.stderr, "set DEBUGINFOD_URLS", "the error")


slabtest.main()
