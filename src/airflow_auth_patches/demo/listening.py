"""
Report which processes listen on a port, when they started, and which files they import.

``running.inspect`` sends this program to the server's interpreter, in its container or on this machine. It
needs Linux and only the standard library, and changes nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import sysconfig
import time

DISTRIBUTIONS = ("apache-airflow-core", "apache-airflow-providers-fab")
#: Packages that several distributions extend, so their files can be in several folders.
SHARED = ("airflow", "airflow/providers")
LISTEN = "0A"
SITE = "/site-packages/"


def sockets(port: int) -> set[str]:
    """Return the ``/proc`` links of the sockets that listen on a port."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}") as table:
                rows = [line.split() for line in table][1:]
        except OSError:
            continue
        found |= {
            f"socket:[{row[9]}]"
            for row in rows
            if row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port
        }
    return found


def holders(links: set[str]) -> list[int]:
    """Return the ids of the processes with one of the sockets, if this user can inspect them."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        folder = f"/proc/{pid}/fd"
        try:
            held = {os.readlink(f"{folder}/{name}") for name in os.listdir(folder)}
        except OSError:
            continue
        if held & links:
            found.append(int(pid))
    return found


def started(pid: int) -> float:
    """Return the start time of a process, in seconds since the epoch."""
    with open(f"/proc/{pid}/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime") as file:
        up = float(file.read().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def packages_of(pid: int) -> list[str]:
    """Return the ``site-packages`` folders whose libraries a process has loaded."""
    with open(f"/proc/{pid}/maps") as file:
        mapped = {line.split(None, 5)[-1].rstrip() for line in file}
    ours = {os.path.realpath(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    found = {path.partition(SITE)[0] + SITE.rstrip("/") for path in mapped if SITE in path}
    return sorted(found | {site for site in ours if any(path.startswith(site + "/") for path in mapped)})


def runs_ours(sites: list[str]) -> bool:
    """Check whether the ``site-packages`` of this interpreter is in a list."""
    return any(os.path.realpath(sysconfig.get_path(kind)) in sites for kind in ("purelib", "platlib"))


def locate(path: str) -> str | None:
    """Return the file that this interpreter imports for a path below site-packages."""
    places = [place for place in sys.path if place]
    *packages, name = path.split("/")
    for depth, package in enumerate(packages, 1):
        found = [each for place in places if os.path.isdir(each := os.path.join(place, package))]
        regular = [each for each in found if os.path.isfile(os.path.join(each, "__init__.py"))]
        shared = "/".join(packages[:depth]) in SHARED
        places = list(dict.fromkeys(regular + found)) if shared else regular[:1] or found
    return next((file for place in places if os.path.isfile(file := os.path.join(place, name))), None)


def blob(content: bytes) -> str:
    """Return the git blob id of a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def described(path: str) -> dict[str, object]:
    """Return the location, the git blob id and the change time of a file."""
    file = locate(path)
    if file is None:
        return {"file": None, "blob": None, "changed": None}
    with open(file, "rb") as opened:
        # Use the open file, so that the time and the content belong to the same file.
        changed = os.fstat(opened.fileno()).st_ctime
        content = opened.read()
    return {"file": file, "blob": blob(content), "changed": changed}


def version(name: str) -> str | None:
    """Return the version of a distribution, or ``None`` if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def main(port: int, paths: list[str]) -> None:
    """Print the listeners, files and versions as JSON."""
    listeners = []
    for pid in holders(sockets(port)):
        try:
            sites = packages_of(pid)
            listeners.append({"pid": pid, "started": started(pid), "ours": runs_ours(sites), "sites": sites})
        except FileNotFoundError:  # the process ended
            continue
    report = {
        "listeners": listeners,
        "files": {path: described(path) for path in paths},
        "versions": {name: version(name) for name in DISTRIBUTIONS},
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
