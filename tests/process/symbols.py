#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Names of functions where files are not where they were: other roots, deleted and replaced files."""
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402
from slabtest import KEEPS, Skip, compiled, contains, equal, hears, slabscope, slabscope_json, tell  # noqa: E402

LIBRARY = """
#include <stdlib.h>
__attribute__((noinline)) void* keeps_in_library(void) {
  void* volatile kept = malloc(777);
  return kept;
}
"""
# Of the same size and shape, so that its names would fit.
OTHER_LIBRARY = LIBRARY.replace("keeps_in_library", "another_function")
USES_LIBRARY = KEEPS.replace("g_kept = malloc(777);", "g_kept = keeps_in_library();").replace(
    "#include <stdlib.h>", "void* keeps_in_library(void);")


def need_root():
    if os.geteuid() != 0:
        raise Skip("needs root: for other roots, and for files that are only mapped")


def folder():
    return pathlib.Path(os.environ["SLABSCOPE_DIR"])


def frames(target):
    """(function, line) of the stack of the 777 bytes by module's base name; the innermost of each."""
    document = slabscope_json("heap", target, "--json")
    stack = next(entry for entry in document["stacks"] if entry["bytes"] == 777)["stack"]
    return {pathlib.Path(f["module"]).name: (f["function"], f["line"]) for f in reversed(stack)}


def new_root(program):
    """A root directory with the program, at its own path, what it needs, and the library."""
    root = folder() / "root"
    (root / "scope").mkdir(parents=True)
    needed = re.findall(r"(/\S+) \(0x", slabtest.run(["ldd", program]).stdout)
    for path in (program, *map(pathlib.Path, needed)):
        place = root / str(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    shutil.copy(slabtest.LIB, root / "libslabscope.so")
    return root


def test_another_root():
    """In mount and pid namespaces of its own; at its path, this host has another build."""
    need_root()
    if slabtest.run(["unshare", "-mp", "--fork", "--root=/", "true"]).returncode != 0:
        raise Skip("unshare is not permitted")
    program = compiled(folder() / "keeps", KEEPS)
    root = new_root(program)
    compiled(program, KEEPS.replace("keeps(", "pretends("))
    inside = {**os.environ, "LD_PRELOAD": "/libslabscope.so", "SLABSCOPE_DIR": "/scope", "SLABSCOPE_TRACK": "all"}
    for namespaces in ((), ("--pid", "--fork", "--kill-child")):
        with slabtest.process(["unshare", "--mount", *namespaces, f"--root={root}", program], env=inside,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True) as child:
            hears(child, "ready")
            file = slabtest.scope_files(root / "scope")[0]
            equal(frames(file)["keeps"], ("keeps", 5), f"the program's frame, with {namespaces}")
            if not namespaces:
                contains(slabscope("leaks", file).stdout, "nothing is lost", "the leak check")
            tell(child)
            child.wait(timeout=slabtest.DEADLINE)
        equal(frames(file)["keeps"], ("", 0), "the frame when its root is gone")
        file.unlink()


def test_deleted_and_replaced():
    """A living process leads to what it maps; later nothing does, and another build's names are not taken."""
    need_root()
    library = compiled(folder() / "libkeeps.so", LIBRARY, "-shared", "-fPIC")
    program = compiled(folder() / "uses", USES_LIBRARY, library)
    with slabtest.process([program], env=slabtest.preloaded(SLABSCOPE_TRACK="all"), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as child:
        hears(child, "ready")
        file = slabtest.scope_files(folder())[0]
        whole = frames(file)
        equal((whole["libkeeps.so"], whole["uses"]), (("keeps_in_library", 4), ("keeps", 5)), "the frames")
        program.unlink()
        compiled(folder() / "other.so", OTHER_LIBRARY, "-shared", "-fPIC").rename(library)
        equal(frames(file), whole, "the frames when the files are gone and another's")
        tell(child)
        child.wait(timeout=slabtest.DEADLINE)
    later = frames(file)
    equal((later["libkeeps.so"], later["uses"]), (("", 0), ("", 0)), "the frames after the end")
    text = slabscope("report", file).stdout
    contains(text, f"No names for {library}: its file is gone or was replaced", "the report's advice")


slabtest.main()
