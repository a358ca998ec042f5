# SPDX-License-Identifier: MIT
"""Which allocators are compared, where Debian keeps them, and which versions they are."""

import dataclasses
import glob
import os
import shutil
import subprocess

LIBRARY_DIRS = ("/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/lib/*-linux-gnu")


@dataclasses.dataclass
class Peer:
    name: str
    preload: str | None  # what to preload; None: the program's own libc
    package: str = ""
    version: str = ""
    settings: dict = dataclasses.field(default_factory=dict)  # its options, by environment variable
    environment: dict = dataclasses.field(default_factory=dict)  # what the harness adds: paths

    def described(self):
        return {"name": self.name, "package": self.package, "version": self.version,
                "library": os.path.basename(self.preload) if self.preload else None,
                "settings": self.settings}


# Name, soname, Debian package. glibc needs no preload.
KNOWN = (
    ("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ("mimalloc", "libmimalloc.so.2.0", "libmimalloc2.0"),
    ("tcmalloc", "libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
)
NAMES = ("glibc", *(name for name, _, _ in KNOWN), "ours")


def find_library(soname):
    for pattern in LIBRARY_DIRS:
        for path in sorted(glob.glob(os.path.join(pattern, soname))):
            return path
    return None


def package_version(package):
    """The installed version of a Debian package, or an empty string."""
    if not shutil.which("dpkg-query"):
        return ""
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def our_version(root):
    """The commit our library was built from, as far as the checkout tells."""
    done = subprocess.run(["git", "-C", root, "describe", "--always", "--dirty"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def choose(wanted, ours, extra, settings, root, say):
    """The peers named in wanted that exist here; says why others are missing."""
    chosen = []
    for name in wanted:
        if name == "glibc":
            chosen.append(Peer("glibc", None, "libc6", package_version("libc6")))
        elif name == "ours":
            if os.path.exists(ours):
                chosen.append(Peer("ours", ours, "slabscope", our_version(root), settings))
            else:
                say(f"skipped peer ours: {ours} does not exist; build it or use --ours PATH")
        else:
            _, soname, package = next(known for known in KNOWN if known[0] == name)
            library = find_library(soname)
            if library:
                chosen.append(Peer(name, library, package, package_version(package)))
            else:
                say(f"skipped peer {name}: no {soname} under /usr/lib (apt install {package})")
    chosen.extend(Peer(name, os.path.abspath(path)) for name, path in extra)
    return chosen
