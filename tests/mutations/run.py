#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks each rule of mutations*.toml in a copy of the tree and demands that its test fails.

Each file names the program whose tests catch its mutations; only programs that are needed are built.

  run.py [WORD…]     all mutations, or those whose name holds one of the words, or whose program one is;
                     exit code 1 if one survives or a test fails on the tree as it is
  run.py --check     only whether each text to search for stands in its file, once (a second)
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TEST_SECONDS = 30  # a mutation may end in a deadlock: that is a failure too


def mutations():
    for path in sorted(HERE.glob("mutations*.toml")):
        with open(path, "rb") as file:
            read = tomllib.load(file)
        for mutation in read["mutation"]:
            yield {**mutation, "program": read["program"]}


def mutated(text, mutation):
    """The file's text with the rule broken; None if the text to search for is not there once."""
    search = mutation["search"].removeprefix("\n")
    if text.count(search) != 1:
        return None
    return text.replace(search, mutation["replace"].removeprefix("\n"))


def stale():
    """What --check finds, a line each."""
    for mutation in mutations():
        path = ROOT / mutation["file"]
        found = path.read_text().count(mutation["search"].removeprefix("\n")) if path.exists() else 0
        if found != 1:
            yield f"{mutation['name']}: its text stands {found} times in {mutation['file']}"
        suite, _, name = mutation["test"].partition(".")
        folder = mutation["program"].removesuffix("_tests")
        tests = ROOT.glob(f"tests/{folder}/**/*_test.cc")
        if not any(f"({suite}, {name})" in file.read_text() for file in tests):
            yield f"{mutation['name']}: there is no test {mutation['test']}"


def copy_tree(to):
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def build(tree, programs, jobs):
    """None, or what the compiler said."""
    # The tree's place differs from run to run, what is compiled in it does not.
    remembering = {**os.environ, "CCACHE_BASEDIR": str(tree), "CCACHE_NOHASHDIR": "1"}
    done = subprocess.run(["ninja", "-C", tree / "build", "-j", str(jobs), *programs], env=remembering,
                          capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stdout[-2000:]


def passes(tree, program, test):
    # A session of its own: children of a test that forks and hangs end with it.
    child = subprocess.Popen([tree / "build" / program, f"--gtest_filter={test}"], start_new_session=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return child.wait(timeout=TEST_SECONDS) == 0
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, 9)
        child.wait()
        return False


def run(tree, chosen, jobs):
    compilers = [f"-DCMAKE_{language}_COMPILER_LAUNCHER=ccache" for language in ("C", "CXX") if shutil.which("ccache")]
    programs = sorted({m["program"] for m in chosen})
    exporter = "ON" if "exporter_tests" in programs else "OFF"
    subprocess.run(["cmake", "-S", tree, "-B", tree / "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                    "-DSLABSCOPE_PRELOAD=OFF", f"-DSLABSCOPE_EXPORTER={exporter}", "-DSLABSCOPE_BENCH=OFF",
                    "-DCMAKE_CXX_FLAGS=-w", *compilers], check=True, stdout=subprocess.DEVNULL)
    said = build(tree, programs, jobs)
    if said is not None:
        sys.exit(f"the tree does not build:\n{said}")
    tests = sorted({(m["program"], m["test"]) for m in chosen})
    wrong = [f"fails without a mutation: {test}" for program, test in tests if not passes(tree, program, test)]
    for mutation in chosen:
        path = tree / mutation["file"]
        whole = path.read_text()
        path.write_text(mutated(whole, mutation))
        said = build(tree, [mutation["program"]], jobs)
        if said is not None:
            wrong.append(f"does not build: {mutation['name']}\n{said}")
        elif passes(tree, mutation["program"], mutation["test"]):
            wrong.append(f"SURVIVES: {mutation['name']} ({mutation['test']})")
        else:
            print(f"caught: {mutation['name']}", flush=True)
        path.write_text(whole)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    problems = list(stale())
    if options.check or problems:
        print("\n".join(problems) or f"{len(list(mutations()))} mutations apply")
        return 1 if problems else 0
    words = options.words
    chosen = [m for m in mutations() if not words or m["program"] in words or any(w in m["name"] for w in words)]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slabscope-mutations-") as directory:
        tree = pathlib.Path(directory)
        copy_tree(tree)
        wrong = run(tree, chosen, options.jobs)
    print("\n".join(wrong) or f"all {len(chosen)} mutations are caught", f"({time.monotonic() - start:.0f} s)")
    return 1 if wrong else 0


sys.exit(main())
