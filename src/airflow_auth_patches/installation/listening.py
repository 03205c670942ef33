"""
Report which processes listen on a port, when they started, and which files they import.

``running.inspect`` sends this program to the server's interpreter, in its container or on this machine. It
needs Linux and psutil, which Airflow depends on, and changes nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import sysconfig

import psutil

DISTRIBUTIONS = ("apache-airflow-core", "apache-airflow-providers-fab")
#: Packages that several distributions extend, so their files can be in several folders.
SHARED = ("airflow", "airflow/providers")
SITE = "/site-packages/"


def listening(process: psutil.Process, port: int) -> bool:
    """Check whether a process listens on a port; each process, because several can share the socket."""
    sockets = process.net_connections("tcp")
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets)


def packages_of(process: psutil.Process) -> list[str]:
    """Return the ``site-packages`` folders whose libraries a process has loaded."""
    mapped = {each.path for each in process.memory_maps()}
    ours = {os.path.realpath(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    found = {path.partition(SITE)[0] + SITE.rstrip("/") for path in mapped if SITE in path}
    return sorted(found | {site for site in ours if any(path.startswith(site + "/") for path in mapped)})


def variables_of(process: psutil.Process) -> dict[str, str]:
    """
    Return the environment variables of a process.

    A server overwrites its own with its title. Those of its nearest ancestor that has some are returned then.
    """
    for each in (process, *process.parents()):
        try:
            if found := each.environ():
                return found
        except psutil.Error:  # an ancestor of another user
            continue
    return {}


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
    for process in psutil.process_iter():
        try:
            if listening(process, port):
                sites, started = packages_of(process), process.create_time()
                ours = runs_ours(sites)
                listeners.append({"pid": process.pid, "started": started, "ours": ours, "sites": sites})
                places = variables_of(process).get("PYTHONPATH", "").split(os.pathsep)
                sys.path[:0] = [place for place in places if place and place not in sys.path]
        except psutil.Error:  # the process ended, or belongs to another user
            continue
    report = {
        "listeners": listeners,
        "files": {path: described(path) for path in paths},
        "versions": {name: version(name) for name in DISTRIBUTIONS},
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
