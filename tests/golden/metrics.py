#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints every metric family that `slabscope serve` offers of one program: name, type, labels."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import slabtest  # noqa: E402

TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
ROW = re.compile(r"^(\w+)(?:\{(.*?)\})? \S+$", re.MULTILINE)


def main():
    with slabtest.scope_directory(), slabtest.server() as url, \
            slabtest.dialog("live_objects", SLABSCOPE_APP="golden") as child:
        slabtest.hears(child, "ready")
        page = slabtest.eventually(lambda: 'app="golden"' in slabtest.fetch(url + "/metrics")[1] and
                                   slabtest.fetch(url + "/metrics")[1], "the program appears")
    labels = {}
    for name, text in ROW.findall(page):
        labels.setdefault(name, set()).update(re.findall(r"(\w+)=\"", text))
    for name, kind in sorted(TYPE.findall(page)):
        print(" ".join([name, kind, ",".join(sorted(labels.get(name, ())))]).rstrip())


main()
