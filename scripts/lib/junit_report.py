#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a JUnit file that ctest wrote says.

junit_report.py counts FILE         "PASSED FAILED SKIPPED"
junit_report.py failures FILE...    each failed test: its name and the end of what it printed
"""
import sys
import xml.etree.ElementTree as ElementTree

NOT_STARTED = ("Required Files Missing", "Unable to find", "Fixture dependency", "Invalid")
LINES = 40  # of a failed test's output; the whole is in the workflow's log


def cases(path):
    """(name, "run" | "fail" | "skip", why, output) of each test."""
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        status = case.get("status", "fail")
        skipped, failure = case.find("skipped"), case.find("failure")
        why = next((e.get("message", "") for e in (skipped, failure) if e is not None), "")
        if status in ("notrun", "disabled"):
            # a test that could not be started is not one that chose to be skipped
            status = "fail" if why.startswith(NOT_STARTED) else "skip"
        elif status != "run":
            status = "fail"
        yield case.get("name", "?"), status, why, case.findtext("system-out") or ""


def counts(path):
    states = [status for _, status, _, _ in cases(path)]
    print(*(states.count(status) for status in ("run", "fail", "skip")))


def failures(paths):
    for path in paths:
        for name, status, why, output in cases(path):
            if status == "fail":
                print(f"\n{path}: {name} failed{': ' + why if why else ''}; its last lines:")
                print("\n".join("    " + line for line in output.rstrip().splitlines()[-LINES:]))


if len(sys.argv) == 3 and sys.argv[1] == "counts":
    counts(sys.argv[2])
elif len(sys.argv) >= 3 and sys.argv[1] == "failures":
    failures(sys.argv[2:])
else:
    sys.exit(__doc__)
