#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Rows S6 and S8 of docs/testing.md: who reads the code finds which lock protects what.

  check_locks.py [CLANG++]

S6: each Mutex guards something by annotation, or says in words what it is for; each header that has one
    names it under "Locks:". With clang++ a program that ignores an annotation must not compile, and the
    sources of the caches' lives must.
S8: comments state rules. Words that tell of a feeling instead are found.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
MUTEX = re.compile(r"^\s*(?:constinit )?Mutex (\w+);(.*)$")
FEELING = re.compile(r"//.*\b(tricky|hack(?:y|ish)?|ugly|clever|beware|somehow|weird|scary|subtle|voodoo)\b",
                     re.IGNORECASE)
LIVES = ("group.cc", "group_paths.cc", "cache_child.cc", "object_caches.cc", "object_caches_end.cc",
         "kmem_cache.cc", "thread_registry.cc")

GOOD = """#include "slab/base/mutex.h"
slabscope::Mutex g_lock;
int g_guarded SC_GUARDED_BY(g_lock);
int with() { slabscope::MutexLock lock(g_lock); return g_guarded; }
void locked() SC_REQUIRES(g_lock);
void locked() { ++g_guarded; }
void calls() { slabscope::MutexLock lock(g_lock); locked(); }
"""
BAD = {"a guarded variable is read without its lock": "int without() { return g_guarded; }",
       "a function is called without the lock it asks for": "void calls_without() { locked(); }"}


def sources():
    for folder in ("slab", "diag", "preload"):
        yield from sorted((ROOT / folder).glob("**/*.h"))
        yield from sorted((ROOT / folder).glob("**/*.cc"))


def unexplained():
    for path in sources():
        lines = path.read_text(encoding="utf-8").splitlines()
        text = "\n".join(lines)
        name = path.relative_to(ROOT)
        for number, line in enumerate(lines):
            if FEELING.search(line):
                yield f"{name}:{number + 1}: a feeling, not a rule: {line.strip()}"
            found = MUTEX.match(line)
            if found is None:
                continue
            mutex = found[1]
            annotated = re.search(rf"SC_(GUARDED_BY|REQUIRES)\((?:\w+(?:\.|->))?{mutex}\)", text)
            in_words = "//" in found[2] or lines[number - 1].lstrip().startswith("//")
            if annotated is None and not in_words:
                yield f"{name}:{number + 1}: {mutex} guards nothing that is said"
            if path.suffix == ".h" and not re.search(r"^// (\d\. )?.*\bLocks:", text, re.MULTILINE):
                yield f"{name}: has a lock, and no word on locks in its head"


def compiles(clang, arguments):
    return subprocess.run([clang, "-std=c++20", "-fsyntax-only", "-Wthread-safety", "-Werror=thread-safety",
                           f"-I{ROOT}", *arguments],
                          capture_output=True, text=True, check=False)


def unchecked(clang):
    with tempfile.TemporaryDirectory() as directory:
        program = pathlib.Path(directory) / "program.cc"
        program.write_text(GOOD, encoding="utf-8")
        if compiles(clang, [program]).returncode != 0:
            yield "a program that keeps to its annotations does not compile"
        for what, line in BAD.items():
            program.write_text(GOOD + line + "\n", encoding="utf-8")
            if compiles(clang, [program]).returncode == 0:
                yield f"{what}, and it compiles"
    for name in LIVES:
        done = compiles(clang, [ROOT / "slab/cache" / name])
        if done.returncode != 0:
            yield done.stderr


def main():
    problems = list(unexplained())
    if len(sys.argv) > 1:
        problems += unchecked(sys.argv[1])
    else:
        print("no clang++: annotations are not compiled")
    print("\n".join(problems) or "each lock says what it protects")
    return 1 if problems else 0


sys.exit(main())
