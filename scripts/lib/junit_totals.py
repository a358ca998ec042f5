#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Prints "PASSED FAILED SKIPPED" of a JUnit file that ctest wrote."""
import sys
import xml.etree.ElementTree as ElementTree


def main():
    counts = {"run": 0, "fail": 0, "notrun": 0, "disabled": 0}
    for case in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
        status = case.get("status", "fail")
        skipped = case.find("skipped")
        if status == "notrun" and skipped is not None and skipped.get("message", "").startswith(
                ("Required Files Missing", "Unable to find", "Fixture dependency", "Invalid")):
            status = "fail"  # a test that could not be started is not one that chose to be skipped
        counts[status if status in counts else "fail"] += 1
    print(counts["run"], counts["fail"], counts["notrun"] + counts["disabled"])


main()
