# SPDX-License-Identifier: MIT
"""What scripts/quickstart watches by default: a few seconds of ordinary Python work.

It parses, sorts and throws away many small documents, and keeps some of each in a table that
nothing empties: a reference too many, as a faulty extension leaves it, outlives even the interpreter.
"""
import ctypes
import json
import os
import random
import re
import sys
import time

SECONDS = float(os.environ.get("WORKLOAD_SECONDS", "5"))
forgotten = {}


def document(rng, number):
    return json.dumps({
        "id": number,
        "name": "user%06d" % rng.randrange(10**6),
        "tags": [rng.choice(("red", "green", "blue")) for _ in range(rng.randrange(12))],
        "text": " ".join(rng.choice(("slab", "page", "cache", "object")) for _ in range(40)),
    })


def main():
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(forgotten))
    rng = random.Random(1)
    deadline = time.monotonic() + SECONDS
    number = 0
    while time.monotonic() < deadline:
        number += 1
        parsed = json.loads(document(rng, number))
        words = sorted(re.findall(r"\w+", parsed["text"]))
        if number % 10 == 0:
            forgotten[parsed["name"]] = (parsed["tags"], words[:3])
    print("workload: %d documents, %d kept" % (number, len(forgotten)))
    sys.stdout.flush()


main()
