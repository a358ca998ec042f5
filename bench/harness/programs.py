# SPDX-License-Identifier: MIT
"""Real programs as workloads: their command lines, their input, and redis's client.

Input is generated from fixed seeds, so that every allocator sees the same, on every machine.
"""

import os
import random
import shutil
import subprocess
import time

SCRIPTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "programs")
# The distribution's own programs, whatever else the caller has in front of them: their versions are
# recorded as those of packages.
SYSTEM_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
ALTERNATIVES = {"lua": ("lua", "lua5.4", "lua5.3")}


def find(tool):
    """The path of a program or None; lua goes by several names."""
    for name in ALTERNATIVES.get(tool, (tool,)):
        path = shutil.which(name, path=SYSTEM_PATH)
        if path:
            return path
    return None


def script(name):
    return os.path.join(SCRIPTS, name)


def python(place):
    return [find("python3"), "-S", script("objects.py"), "1" if place.smoke else "45"]


def perl(place):
    return [find("perl"), script("words.pl"), "1" if place.smoke else "30"]


def sqlite(place):
    rows = 2_000 if place.smoke else 80_000
    return [find("sqlite3"), "-batch", ":memory:", f"CREATE TABLE size AS SELECT {rows} AS rows",
            f".read {script('tables.sql')}"]


def compiler(place):
    depth = 1 if place.smoke else 7
    return [find("g++"), "-std=c++17", "-O1", "-c", f"-DDEPTH={depth}", script("templates.cpp"),
            "-o", place.path("templates.o")]


def lua(place):
    return [find("lua"), script("tables.lua"), "1" if place.smoke else "30"]


def ruby(place):
    return [find("ruby"), script("objects.rb"), "1" if place.smoke else "20"]


# ---- git: a repository made by one fast-import stream, then cloned and packed anew -------------

GIT_CONFIG = ("-c", "core.fsync=none", "-c", "pack.threads=2", "-c", "gc.auto=0",
              "-c", "pack.deltaCacheSize=16m")


def git_stream(commits, files, source):
    """A history in git's fast-import format: files of text that change a little at a time."""
    words = [f"word{source.randrange(5000)}" for _ in range(2000)]
    texts = [[source.choice(words) for _ in range(300)] for _ in range(files)]
    out = []
    for number in range(commits):
        out.append(f"commit refs/heads/main\ncommitter A <a@example.org> {1600000000 + number}"
                   f" +0000\ndata 6\nchange\n")
        if number == 0:
            touched = range(files)
        else:
            touched = {source.randrange(files) for _ in range(6)}
        for index in sorted(touched):
            for _ in range(4):
                texts[index][source.randrange(300)] = source.choice(words)
            text = "\n".join(texts[index]) + "\n"
            out.append(f"M 100644 inline dir{index % 17}/file{index}\ndata {len(text)}\n{text}\n")
    return "".join(out).encode()


def git_prepare(place):
    commits, files = (10, 20) if place.smoke else (1500, 400)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": True,
             "env": {"PATH": SYSTEM_PATH, "HOME": place.scratch}}  # no one's configuration
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", place.path("origin.git")], **quiet)
    subprocess.run(["git", "-C", place.path("origin.git"), "fast-import", "--quiet"],
                   input=git_stream(commits, files, random.Random(1)), **quiet)


def git_reset(place):
    shutil.rmtree(place.path("clone"), ignore_errors=True)


def git(place):
    options = " ".join(GIT_CONFIG)
    origin, clone = place.path("origin.git"), place.path("clone")
    return ["sh", "-c", f'git {options} clone -q "file://$1" "$2" 2>/dev/null && '
                        f'git {options} -C "$2" repack -q -a -d -f && '
                        f'git {options} -C "$2" gc -q && git -C "$2" log --stat --oneline -60',
            "sh", origin, clone]


# ---- xz, jq: generated input --------------------------------------------------------------------

def xz_prepare(place):
    source = random.Random(2)
    words = [bytes(source.randrange(97, 123) for _ in range(source.randrange(2, 11))) + b" "
             for _ in range(5000)]
    size = (1 if place.smoke else 12) << 20
    with open(place.path("text"), "wb") as file:
        while file.tell() < size:
            file.write(b"".join(source.choices(words, k=20000)))


def xz(place):
    return [find("xz"), "-T2", "-2", "--block-size=1MiB", "-c", place.path("text")]


def jq_prepare(place):
    source = random.Random(3)
    rows = 500 if place.smoke else 40_000
    with open(place.path("rows.json"), "w", encoding="ascii") as file:
        file.write("[")
        for number in range(rows):
            file.write(("," if number else "")
                       + f'{{"id":{number},"key":"k{source.randrange(rows // 20)}",'
                         f'"tags":["t{source.randrange(50)}","t{source.randrange(50)}"],'
                         f'"value":{source.randrange(1000000)}}}\n')
        file.write("]\n")


def jq(place):
    return [find("jq"), "-c", "group_by(.key) | map({key: .[0].key, sum: map(.value) | add, "
                        "tags: (map(.tags[]) | unique)}) | sort_by(.sum)", place.path("rows.json")]


# ---- redis: the server is measured, its client is not -------------------------------------------

def redis(place):
    return [find("redis-server"), "--port", "0", "--unixsocket", place.path("redis.sock"),
            "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
            "--dir", place.scratch]


def redis_drive(place, environment):
    """Sends a fixed number of requests to the server and has it shut down."""
    socket = place.path("redis.sock")
    requests = "1000" if place.smoke else "60000"
    run = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    for _ in range(500):
        if subprocess.run(["redis-cli", "-s", socket, "ping"], check=False, **run).returncode == 0:
            break
        time.sleep(0.02)
    try:
        for arguments in (["-t", "set,get,lpush,hset,zadd,lrange_100", "-d", "120"],
                          ["-t", "set", "-d", "900"]):
            subprocess.run(["redis-benchmark", "-s", socket, "-q", "-n", requests, "-r", "20000",
                            "-c", "20", "-P", "16", *arguments], check=True, timeout=300, **run)
    finally:
        subprocess.run(["redis-cli", "-s", socket, "shutdown", "nosave"], check=False, **run)


# ---- clang, ghostscript, z3, node, rocksdb ------------------------------------------------------

def clang(place):
    depth = 1 if place.smoke else 6
    return [find("clang++"), "-std=c++17", "-O1", "-c", f"-DDEPTH={depth}",
            script("templates.cpp"), "-o", place.path("templates-clang.o")]


def ghostscript(place):
    pages = 1 if place.smoke else 120
    return [find("gs"), "-q", "-dNOPAUSE", "-dBATCH", "-dNOSAFER", "-sDEVICE=pgmraw", "-r40",
            "-sOutputFile=-", "-c", f"/PAGES {pages} def", "-f", script("pages.ps")]


def z3_prepare(place):
    """A random 3-SAT problem at the ratio where such problems are hardest."""
    source = random.Random(4)
    names = 60 if place.smoke else 222
    with open(place.path("clauses.smt2"), "w", encoding="ascii") as file:
        file.write("".join(f"(declare-const x{name} Bool)\n" for name in range(names)))
        for _ in range(int(names * 4.26)):
            three = source.sample(range(names), 3)
            literals = [f"x{n}" if source.random() < 0.5 else f"(not x{n})" for n in three]
            file.write(f"(assert (or {' '.join(literals)}))\n")
        file.write("(check-sat)\n")


def z3(place):
    return [find("z3"), place.path("clauses.smt2")]


def node(place):
    return [find("node"), script("objects.js"), "1" if place.smoke else "30"]


def rocksdb_reset(place):
    shutil.rmtree(place.path("rocksdb"), ignore_errors=True)


def rocksdb(place):
    # What it prints are times; that it succeeded is the result.
    keys = "2000" if place.smoke else "100000"
    return ["sh", "-c", '"$@" >/dev/null 2>&1 && echo done', "sh", find("db_bench"),
            "--benchmarks=fillrandom,readrandom,overwrite,readseq", f"--num={keys}", "--seed=1",
            "--threads=1", "--compression_type=none", "--write_buffer_size=4194304",
            f"--db={place.path('rocksdb')}"]
