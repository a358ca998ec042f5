# SPDX-License-Identifier: MIT
"""Tables for people, on a terminal or as Markdown."""

import json

TITLES = {
    "cost": "CPU time (user and system), ratio to {}",
    "rss": "Peak resident memory, ratio to {}",
    "wall": "Wall time, ratio to {}",
    "faults": "Minor page faults, ratio to {}",
}
GROUPS = (("synthetic", "geometric mean, synthetic"), ("program", "geometric mean, programs"),
          (None, "geometric mean, all"))


def absolute(metric, value):
    if value is None:
        return "-"
    if metric == "rss":
        return f"{value / 1024:.1f} MiB"
    if metric == "faults":
        return f"{value:.0f}"
    return f"{value:.3f} s"


def ratio_text(value):
    return "-" if value is None else f"{value:.2f}"


def ratio_rows(table, metric):
    """Header and rows of one metric: the baseline in units, then ratios, then the spread."""
    others = [peer for peer in table.peers if peer != table.baseline]
    header = ["workload", table.baseline, *others, "spread"]
    rows = []
    for load in table.workloads:
        spread = table.spread(load.name, metric)
        rows.append([load.name, absolute(metric, table.figure(load.name, table.baseline, metric)),
                     *(ratio_text(table.ratio(load.name, peer, metric)) for peer in others),
                     "-" if spread is None else f"{spread:.0%}"])
    for group, title in GROUPS:
        means = [table.geomean(peer, metric, group) for peer in others]
        if any(means):
            rows.append([title, "1.00", *map(ratio_text, means), ""])
    return header, rows


def retained_rows(table):
    header = ["fragmentation", "at the peak", "a tenth left, idle", "nothing left, idle"]
    rows = [[peer, *(f"{own[key] / own['requested_kib']:.2f}"
                     for key in ("rss_peak_kib", "rss_tenth_kib", "rss_none_kib"))]
            for peer, own in table.own_rows("rss_tenth_kib")]
    return header, rows


def footprint_rows(table):
    header = ["footprint", "mean", "worst", "worst size"]
    rows = [[peer, f"{own['resident_permille_mean'] / 1000:.2f}",
             f"{own['resident_permille_worst'] / 1000:.2f}", f"{own['worst_size']:.0f}"]
            for peer, own in table.own_rows("resident_permille_mean")]
    return header, rows


def as_text(header, rows):
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def as_markdown(header, rows):
    lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
    lines.insert(1, "| --- |" + " ---: |" * (len(header) - 1))
    return "\n".join(lines)


def render(table, metrics, markdown):
    """The whole report but for its heading and the gate."""
    layout = as_markdown if markdown else as_text
    parts = []
    for metric in metrics:
        title = TITLES[metric].format(table.baseline)
        parts.append(f"{title}\n\n{layout(*ratio_rows(table, metric))}")
    for title, make in (("Resident memory over the bytes requested at the peak", retained_rows),
                        ("Resident memory over requested bytes, filling with one size",
                         footprint_rows)):
        header, rows = make(table)
        if rows:
            parts.append(f"{title}\n\n{layout(header, rows)}")
    return "\n\n".join(parts)


def readme_table(table, date_line):
    """The short table for the project's README: means only, one row an allocator."""
    header = ["allocator", "CPU time", "peak memory", "CPU time, programs", "peak memory, programs"]
    rows = []
    for peer in table.peers:
        means = [table.geomean(peer, metric, group)
                 for group in (None, "program") for metric in ("cost", "rss")]
        rows.append([peer, *map(ratio_text, means)])
    return (as_markdown(header, rows)
            + f"\n\nGeometric means over {len(table.workloads)} workloads, {table.baseline} = 1, "
              f"smaller is better. {date_line}")


def as_json(results):
    """Indented to the second level, one line for each cell: readable, and small in a diff."""
    def rounded(value):
        if isinstance(value, dict):
            return {key: rounded(item) for key, item in value.items()}
        return round(value, 6) if isinstance(value, float) else value

    parts = []
    for key, value in results.items():
        if isinstance(value, list) and value:
            lines = ",\n  ".join(json.dumps(rounded(item)) for item in value)
            parts.append(f" {json.dumps(key)}: [\n  {lines}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(rounded(value))}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
