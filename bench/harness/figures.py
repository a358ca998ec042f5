# SPDX-License-Identifier: MIT
"""From samples to figures: medians, spreads, ratios, geometric means, and what fails the gate."""

import math
import statistics

# What a cell reports, and how it is taken from a sample. Cost is CPU time: on a shared machine the
# wall clock measures the neighbours too.
METRICS = {
    "cost": lambda sample: sample["user_s"] + sample["system_s"],
    "wall": lambda sample: sample["wall_s"],
    "rss": lambda sample: sample["max_rss_kib"],
    "faults": lambda sample: sample["minor_faults"],
}
GATE_COST = 1.10
GATE_RSS = 1.50


def median(values):
    return statistics.median(values)


def mad(values):
    """Median absolute deviation: half of the samples are closer to the median than this."""
    middle = median(values)
    return median([abs(value - middle) for value in values])


def spread(values):
    """The standard deviation that this MAD would mean if the scatter were normal, over the median."""
    if len(values) < 2:
        return None
    middle = median(values)
    return 1.4826 * mad(values) / middle if middle else 0.0


def figures_of(samples):
    """All figures of one cell."""
    result = {}
    for name, take in METRICS.items():
        values = [take(sample) for sample in samples]
        result[name] = {"median": median(values), "mad": mad(values),
                        "spread": spread(values), "best": min(values)}
    own = [sample["own"] for sample in samples if sample.get("own")]
    if own:
        numbers = {key for key, value in own[0].items() if isinstance(value, (int, float))}
        result["own"] = {key: median([line[key] for line in own]) for key in sorted(numbers)}
        ops = own[0].get("ops")
        cpu = result["own"].get("cpu_seconds")
        if ops and cpu:
            result["own"]["ns_per_op"] = round(cpu * 1e9 / ops, 3)
    return result


class Table:
    """Figures by (workload, peer), with ratios to a baseline."""

    def __init__(self, workloads, peers, cells, baseline):
        self.workloads = [load for load in workloads
                          if any(cells.get((load.name, peer)) for peer in peers)]
        self.peers = [peer for peer in peers
                      if any(cells.get((load.name, peer)) for load in workloads)]
        self.baseline = baseline
        self.cells = {key: figures_of(samples) for key, samples in cells.items() if samples}

    def figure(self, workload, peer, metric):
        cell = self.cells.get((workload, peer))
        return cell[metric]["median"] if cell else None

    def ratio(self, workload, peer, metric, baseline=None):
        base = self.figure(workload, baseline or self.baseline, metric)
        mine = self.figure(workload, peer, metric)
        return mine / base if base and mine is not None else None

    def spread(self, workload, metric="cost"):
        """The worst spread of a row: how far its ratios can be trusted."""
        found = [self.cells[workload, peer][metric]["spread"] for peer in self.peers
                 if (workload, peer) in self.cells]
        return max((value for value in found if value is not None), default=None)

    def geomean(self, peer, metric, group=None, baseline=None):
        """Over the workloads that every peer finished, so that the means compare like with like."""
        logs = []
        for load in self.workloads:
            if group not in (None, load.group):
                continue
            ratios = {name: self.ratio(load.name, name, metric, baseline) for name in self.peers}
            if all(ratios.values()):
                logs.append(math.log(ratios[peer]))
        return math.exp(sum(logs) / len(logs)) if logs else None

    def summary(self):
        return {peer: {f"{metric}_{group or 'all'}": round(mean, 4)
                       for metric in ("cost", "rss", "wall")
                       for group in (None, "synthetic", "program")
                       if (mean := self.geomean(peer, metric, group))}
                for peer in self.peers}

    def own_rows(self, key):
        """Rows of (peer, own figures) of the workload that reports key."""
        return [(peer, own) for load in self.workloads for peer in self.peers
                if key in (own := self.cells.get((load.name, peer), {}).get("own", {}))]

    def gate(self, peer="ours", against="glibc"):
        """One line for each workload where peer is too slow or too large."""
        lines = []
        for load in self.workloads:
            for metric, limit in (("cost", GATE_COST), ("rss", GATE_RSS)):
                ratio = self.ratio(load.name, peer, metric, against)
                if ratio is None:
                    if metric == "cost":
                        lines.append(f"{load.name}: no figures for {peer} and {against}")
                elif ratio > limit:
                    scatter = self.spread(load.name, metric)
                    spread_note = "" if scatter is None else f", spread {scatter:.0%}"
                    lines.append(f"{load.name}: {metric} {ratio:.2f} x {against}, "
                                 f"limit {limit:.2f}{spread_note}")
        return lines
