# SPDX-License-Identifier: MIT
"""The parts of bench/run: peers and workloads go in, samples come out, figures and tables follow.

    peers ─┐                                        ┌─► report   (tables for people)
           ├─► measure (interleaves, repeats) ─► figures ─► gate
    catalog ┘      │                                └─► results file (JSON)
    (+ programs)   └─ launch (C, static) runs each program
"""
