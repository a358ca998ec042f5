# SPDX-License-Identifier: MIT
"""What a figure depends on beside the allocator: machine, kernel, versions. No host is named."""

import datetime
import os
import platform
import re

from harness import peers


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def field(text, name):
    found = re.search(rf"^{name}\s*[:=]\s*\"?([^\"\n]*)", text, re.MULTILINE)
    return found.group(1).strip() if found else "unknown"


def load_average():
    return [round(figure, 2) for figure in os.getloadavg()]


def describe(packages):
    cpu = read("/proc/cpuinfo")
    thp = re.search(r"\[(\w+)\]", read("/sys/kernel/mm/transparent_hugepage/enabled"))
    kernel = re.match(r"[\d.]+", platform.release())  # the rest may name the builder
    memory = int(field(read("/proc/meminfo"), "MemTotal").split()[0])
    versions = {name: version for name in sorted(packages)
                if (version := peers.package_version(name))}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "cpu": field(cpu, "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "virtual_machine": "hypervisor" in field(cpu, "flags").split(),
        "memory_gib": round(memory / 2**20),
        "kernel": kernel.group(0).rstrip(".") if kernel else "unknown",
        "system": field(read("/etc/os-release"), "PRETTY_NAME"),
        "transparent_huge_pages": thp.group(1) if thp else "unknown",
        "packages": versions,
        "load_average_before": load_average(),
    }


def one_line(environment):
    machine = "virtual machine" if environment["virtual_machine"] else "machine"
    return (f"{environment['date']}, {machine} with {environment['cpus']} x {environment['cpu']}, "
            f"{environment['memory_gib']} GiB, {environment['system']}, "
            f"Linux {environment['kernel']}, "
            f"transparent huge pages: {environment['transparent_huge_pages']}, "
            f"load {environment['load_average_before'][0]}")
