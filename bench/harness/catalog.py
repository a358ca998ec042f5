# SPDX-License-Identifier: MIT
"""The workloads: what each one asks, and how it is started."""

import dataclasses
import os
from typing import Callable

from harness import programs


@dataclasses.dataclass
class Workload:
    """One row of the table.

    command gives the argument list of a sample. prepare is called once and reset before every
    sample, both unmeasured. drive, where there is one, talks to the measured program from outside
    while it runs and returns what to add to the sample.
    """
    name: str
    group: str  # "synthetic" or "program"
    question: str
    command: Callable
    needs: tuple = ()
    environment: dict = dataclasses.field(default_factory=dict)
    prepare: Callable | None = None
    reset: Callable | None = None
    drive: Callable | None = None
    libc_preload: bool = False  # glibc too must be preloaded: the program links another malloc
    packages: tuple = ()

    def missing(self):
        return [tool for tool in self.needs if programs.find(tool) is None]


@dataclasses.dataclass
class Place:
    """Where things are while workloads run."""
    binaries: str
    scratch: str
    smoke: bool

    def path(self, name):
        return os.path.join(self.scratch, name)


def synthetic(name, question, program, *arguments):
    def command(place):
        smoke = ["--smoke"] if place.smoke else []
        # A full-size argument would outweigh --smoke, whose sizes the program knows best.
        given = [] if place.smoke and "--ops" in arguments else list(arguments)
        return [os.path.join(place.binaries, program), *given, *smoke]

    return Workload(name, "synthetic", question, command)


SYNTHETIC = (
    synthetic("lifo-16", "pairs of malloc and free, 16 bytes", "lifo", "--size", "16"),
    synthetic("lifo-256", "pairs of malloc and free, 256 bytes", "lifo", "--size", "256"),
    synthetic("lifo-4k", "pairs of malloc and free, 4 KiB", "lifo", "--size", "4096"),
    synthetic("batch-64", "batches of 64 blocks of 64 bytes", "batch", "--sizes", "same"),
    synthetic("batch-mixed", "batches of 64 blocks of 16 to 2047 bytes",
              "batch", "--sizes", "mixed"),
    synthetic("set-10k", "random replacement among 10 000 live blocks", "working_set"),
    synthetic("set-500k", "random replacement among 500 000 live blocks",
              "working_set", "--live", "500000", "--ops", "2500000"),
    synthetic("realloc-one", "one array growing by half up to 8 MiB", "realloc_grow"),
    synthetic("realloc-many", "1000 arrays growing in turn by 48 bytes up to 8 KiB",
              "realloc_grow", "--arrays", "1000", "--step", "48", "--limit", "8192",
              "--ops", "3000000"),
    synthetic("large", "churn of 64 KiB to 8 MiB, every page touched", "large"),
    synthetic("calloc-small", "zeroed blocks of 16 to 2048 bytes", "calloc_sizes"),
    synthetic("calloc-large", "zeroed blocks of 64 KiB to 1 MiB",
              "calloc_sizes", "--min", "65536", "--max", "1048576", "--ops", "6000"),
    synthetic("aligned", "blocks on boundaries of 32, 64, 128 and 4096 bytes", "aligned"),
    synthetic("containers", "maps, strings and vectors of the standard library", "containers"),
    synthetic("server", "threads that inherit tables of live blocks (after Larson)", "server"),
    synthetic("handoff", "one thread allocates, another frees", "handoff"),
    synthetic("exchange", "four threads free each other's batches", "exchange"),
    synthetic("threads-8", "eight threads that share nothing but the allocator", "many_threads"),
    synthetic("thread-churn", "threads that live for 200 blocks", "thread_churn"),
    synthetic("exec-100", "100 runs of /bin/true", "processes"),
    synthetic("fragmentation", "90 % of 500 000 blocks freed at random, then idle",
              "fragmentation"),
    synthetic("footprint", "16 MiB of one size, for two dozen sizes", "footprint"),
)

# The same work for 1 to 32 threads. Run when asked for by name: --filter '^(alone|passing)-'.
SCALING = tuple(
    synthetic(f"{name}-{threads}", f"{question}, {threads} threads", program,
              "--threads", str(threads), amount, str(work // threads))
    for name, question, program, amount, work in (
        ("alone", "blocks of their own", "many_threads", "--ops", 9_600_000),
        ("passing", "batches for each other", "exchange", "--parcels", 60_000))
    for threads in (1, 2, 4, 8, 32))


def program(name, question, script, needs, **more):
    """A program from a package running one of the scripts in bench/programs."""
    return Workload(name, "program", question, script, needs=needs, **more)


PROGRAMS = (
    program("python", "objects, strings and JSON in Python, every object by malloc",
            programs.python, ("python3",), packages=("python3",),
            environment={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}),
    program("perl", "hashes, strings and regular expressions in Perl",
            programs.perl, ("perl",), packages=("perl",),
            environment={"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}),
    program("sqlite", "inserts, an index and queries in memory",
            programs.sqlite, ("sqlite3",), packages=("sqlite3",)),
    program("g++", "compiling a template-heavy file", programs.compiler, ("g++",),
            packages=("g++",)),
    program("git", "clone and gc of a repository", programs.git, ("git",), packages=("git",),
            prepare=programs.git_prepare, reset=programs.git_reset),
    program("redis", "redis-server under redis-benchmark; Debian's links jemalloc",
            programs.redis, ("redis-server", "redis-benchmark", "redis-cli"),
            packages=("redis-server",), drive=programs.redis_drive, libc_preload=True),
    program("xz", "compression with two threads", programs.xz, ("xz",), packages=("xz-utils",),
            prepare=programs.xz_prepare),
    program("jq", "grouping and sorting a JSON array", programs.jq, ("jq",), packages=("jq",),
            prepare=programs.jq_prepare),
    program("lua", "tables and strings in Lua", programs.lua, ("lua",),
            packages=("lua5.4", "lua5.3")),
    program("ruby", "objects, hashes and strings in Ruby", programs.ruby, ("ruby",),
            packages=("ruby",)),
    program("clang", "the same file by another compiler", programs.clang, ("clang++",),
            packages=("clang",)),
    program("ghostscript", "pages of text and curves to bitmaps", programs.ghostscript, ("gs",),
            packages=("ghostscript",)),
    program("z3", "a random 3-SAT problem", programs.z3, ("z3",), packages=("z3",),
            prepare=programs.z3_prepare),
    program("node", "maps, strings, JSON and buffers in JavaScript", programs.node, ("node",),
            packages=("nodejs",)),
    program("rocksdb", "writes, reads and compactions by db_bench", programs.rocksdb,
            ("db_bench",), packages=("rocksdb-tools",), reset=programs.rocksdb_reset),
)

ALL = SYNTHETIC + PROGRAMS
