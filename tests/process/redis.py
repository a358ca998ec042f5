#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""redis-server under us: redis-benchmark, a background save by fork, and a clean shutdown. Debian's
build links jemalloc, so two allocators live in one process and must never meet."""
import os
import pathlib
import re
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import contains, equal, eventually  # noqa: E402


def cli(port, *words):
    done = slabtest.run(["redis-cli", "-h", "127.0.0.1", "-p", str(port), *words])
    return done.stdout.strip()


def session(environment, scratch):
    """One life of a server; returns what can be compared."""
    scratch.mkdir()
    port = slabtest.free_port()
    # In Debian redis-server is another name of redis-check-rdb, which redis-tools holds.
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(scratch),
               "--save", "", "--daemonize", "no"]
    with open(scratch / "log", "w", encoding="utf-8") as log, \
            slabtest.process(command, executable=shutil.which("redis-check-rdb"), env=environment,
                             cwd=scratch, stdout=log, stderr=log) as server:
        eventually(lambda: cli(port, "ping") == "PONG", "redis answers")
        bench = slabtest.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-n", "5000",
                              "-c", "20", "-r", "5000", "-d", "200", "-q", "-t",
                              "set,get,incr,lpush,lrange_100,sadd,hset,zadd,mset"],
                             env=environment, timeout=180)
        equal(bench.returncode, 0, "exit code of redis-benchmark")
        script = "for i = 1, 10000 do redis.call('set', 'k' .. i, string.rep('v', i % 3000)) end return 1"
        equal(cli(port, "eval", script, "0"), "1", "a script")
        digest = cli(port, "eval", "local n = 0 for i = 1, 10000 do "
                     "n = n + #redis.call('get', 'k' .. i) end return n", "0")
        contains(cli(port, "bgsave"), "Background saving", "bgsave")
        eventually(lambda: "rdb_bgsave_in_progress:0" in cli(port, "info", "persistence"), "saved")
        contains(cli(port, "info", "persistence"), "rdb_last_bgsave_status:ok", "background save")
        cli(port, "flushall")
        used = int(re.search(r"used_memory:(\d+)", cli(port, "info", "memory"))[1])
        equal(used < 100 << 20, True, f"used_memory after flushall: {used}")
        cli(port, "shutdown", "nosave")
        code = server.wait(timeout=slabtest.DEADLINE)
    return {"exit code": code, "digest": digest, "dump": (scratch / "dump.rdb").stat().st_size > 1 << 20,
            "crash": "REDIS BUG REPORT" in (scratch / "log").read_text()}


def test_server():
    for program in ("redis-check-rdb", "redis-cli", "redis-benchmark"):
        if shutil.which(program) is None:
            raise slabtest.Skip(f"{program} is not installed")
    scratch = pathlib.Path(os.environ["SLABSCOPE_DIR"])
    plain = session(dict(os.environ), scratch / "plain")
    equal(plain, {"exit code": 0, "digest": plain["digest"], "dump": True, "crash": False}, "without us")
    for mode in ("sampled", "all"):
        equal(session(slabtest.preloaded(SLABSCOPE_TRACK=mode), scratch / mode), plain, f"track={mode}")


slabtest.main()
