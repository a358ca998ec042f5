# SPDX-License-Identifier: MIT
"""Runs the samples: every peer in every repetition, in random order, again where they scatter."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

from harness import figures, peers, programs

TIMEOUT_S = 600
KEPT = ("wall_s", "user_s", "system_s", "max_rss_kib", "minor_faults", "major_faults",
        "voluntary_switches", "involuntary_switches")  # of each sample, in the JSON
LOADER_ERROR = b"cannot be preloaded"


class Failure(Exception):
    """A sample that cannot be used, with the reason in one line."""


def run_environment(workload, peer, place):
    """A clean environment: nothing of the caller's can tune an allocator."""
    environment = {"PATH": programs.SYSTEM_PATH, "HOME": place.scratch, "TMPDIR": place.scratch,
                   "LC_ALL": "C"}
    environment.update(workload.environment)
    client = dict(environment)
    environment.update(peer.environment)
    environment.update(peer.settings)
    library = peer.preload
    if library is None and workload.libc_preload:
        library = peers.find_library("libc.so.6")  # before the malloc the program links
    if library:
        environment["LD_PRELOAD"] = library
    return environment, client


def own_line(workload, peer, output):
    """The JSON line a synthetic workload ends with; checks who served malloc."""
    try:
        own = json.loads(output.decode().strip().splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise Failure("printed no result line") from error
    provider = own.get("malloc")
    if provider and peer.preload and provider not in (
            os.path.basename(peer.preload), os.path.basename(os.path.realpath(peer.preload))):
        raise Failure(f"malloc came from {provider}: the preload did not take")
    return own


def wait_for(process, seconds):
    """Output of a finished process; ends its process group if it takes too long."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"took longer than {seconds} s") from error


def sample(workload, peer, place):
    """Runs one program once and returns what it cost."""
    if workload.reset:
        workload.reset(place)
    environment, client = run_environment(workload, peer, place)
    result_path = place.path("result.json")
    command = [os.path.join(place.binaries, "launch"), result_path, *workload.command(place)]
    process = subprocess.Popen(command, env=environment, cwd=place.scratch, start_new_session=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        if workload.drive:
            workload.drive(place, client)
        output, errors = wait_for(process, TIMEOUT_S)
    except subprocess.SubprocessError as error:
        raise Failure(f"its client failed: {error.__class__.__name__}") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the session started above, nobody else's
            process.communicate()
    if LOADER_ERROR in errors:
        raise Failure("the loader refused the preload")
    if process.returncode != 0:
        raise Failure(f"the launcher failed: {last_line(errors)}")
    with open(result_path, encoding="ascii") as file:
        cost = json.load(file)
    if cost["signal"]:
        raise Failure(f"died of {signal.Signals(cost['signal']).name}: {last_line(errors)}")
    if cost["exit"] != 0:
        raise Failure(f"exit status {cost['exit']}: {last_line(errors)}")
    if workload.group == "synthetic":
        cost["own"] = own_line(workload, peer, output)
        cost["checksum"] = cost["own"].pop("checksum", "")
    elif not workload.drive:
        cost["checksum"] = hashlib.sha256(output).hexdigest()[:16]
    return cost


def last_line(text):
    """What a program said last, without the directories of this machine."""
    lines = text.decode(errors="replace").strip().splitlines()
    return re.sub(r"(/[^\s/:]+)+/", "", lines[-1])[:200] if lines else "no message"


class Measurement:
    """All samples of one call of bench/run."""

    def __init__(self, place, peer_list, workloads, seed, say):
        self.place = place
        self.peers = peer_list
        self.workloads = workloads
        self.random = random.Random(seed)
        self.say = say
        self.cells = {(load.name, peer.name): [] for load in workloads for peer in peer_list}
        self.failures = {}
        self.checksums = {}
        self.started = time.monotonic()

    def repetition(self, workloads, label):
        """One sample of every cell of these workloads; peers in random order within each."""
        order = list(workloads)
        self.random.shuffle(order)
        for number, load in enumerate(order, 1):
            contenders = list(self.peers)
            self.random.shuffle(contenders)
            for peer in contenders:
                if (load.name, peer.name) not in self.failures:
                    self.take(load, peer)
            minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
            self.say(f"{label}: {number}/{len(order)} {load.name} ({minutes}:{seconds:02d})")

    def take(self, load, peer):
        try:
            cost = sample(load, peer, self.place)
            self.compare(load, peer, cost)
        except Failure as failure:
            self.failures[load.name, peer.name] = str(failure)
            self.cells[load.name, peer.name] = []
            self.say(f"FAILED {load.name} with {peer.name}: {failure}")
        else:
            self.cells[load.name, peer.name].append(cost)

    def compare(self, load, peer, cost):
        """All allocators must lead a program to the same result."""
        checksum = cost.get("checksum")
        if checksum is None:
            return
        first_peer, expected = self.checksums.setdefault(load.name, (peer.name, checksum))
        if checksum != expected:
            raise Failure(f"another result than with {first_peer}")

    def scattered(self, limit, most):
        """Workloads with a cell whose cost still scatters by more than limit."""
        result = []
        for load in self.workloads:
            rows = [self.cells[load.name, peer.name] for peer in self.peers]
            spreads = [figures.spread([figures.METRICS["cost"](cost) for cost in samples])
                       for samples in rows]
            wild = any(spread is not None and spread > limit for spread in spreads)
            if wild and max(map(len, rows)) < most:
                result.append(load)
        return result

    def run(self, reps, most, limit):
        for rep in range(1, reps + 1):
            self.repetition(self.workloads, f"repetition {rep} of {reps}")
        for rep in range(reps + 1, most + 1):
            again = self.scattered(limit, most)
            if not again:
                break
            self.repetition(again, f"repetition {rep} for {len(again)} that scatter")


def prepare(workloads, place, say):
    """Makes the input of those workloads that can run; says why the others cannot."""
    able = []
    for load in workloads:
        missing = load.missing()
        if missing:
            say(f"skipped {load.name}: {', '.join(missing)} is not installed "
                f"(apt install {load.packages[0]})")
            continue
        if load.prepare:
            load.prepare(place)
        able.append(load)
    return able


def private_copy(peer, place):
    """Measures a copy of our library, so that a build meanwhile cannot change it."""
    directory = place.path("peer")
    os.makedirs(directory, exist_ok=True)
    peer.preload = shutil.copy(peer.preload, directory)
