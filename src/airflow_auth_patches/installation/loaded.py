"""Check that a running API server has loaded the installed patches, and that it responds."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.installation import running
from airflow_auth_patches.installation.installed import Installation
from airflow_auth_patches.installation.listening import blob
from airflow_auth_patches.installation.status import status
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress

#: Seconds to wait for a response.
PATIENCE = 30.0


@dataclass(frozen=True)
class Check:
    """
    A request that changes nothing.

    :param path: the path that was requested.
    :param sees: the result: ``200``, with the state of the components if the response has it.
    """

    path: str
    sees: str
    failed: bool


@dataclass(frozen=True)
class Loaded:
    """
    The result of verifying a server.

    :param installation: the environment that the server must run in.
    :param processes: the processes that listen on its port.
    :param patches: the slugs of the installed patches.
    :param findings: why a process does not run the patched code, one for each reason; empty if all do.
    :param checks: the requests that were sent.
    """

    installation: Installation
    processes: tuple[running.Listener, ...]
    patches: tuple[str, ...]
    findings: tuple[Problem, ...]
    checks: tuple[Check, ...]

    @property
    def verified(self) -> bool:
        """Whether each process runs the patched code, and the server responds."""
        return not self.findings and not any(check.failed for check in self.checks)


def verify(url: str, python: Path, series: Series, pins: Pins, progress: Progress) -> Loaded:
    """
    Check that each process of a server has loaded the installed patches, and that the server responds.

    A process has loaded the patches if it imports from the environment and started after the last change of a
    patched file. The content of the installed files is compared with the releases and the patches first.

    :param url: the URL of the server, on this machine.
    :param python: the interpreter of the server's environment.
    :raises Problem: USAGE if no process that this user can inspect listens on the port.
    """
    place = running.local_place(python, running.port_of(url, ("http", "https")))
    report = status(python, series, pins, progress)
    findings, files = [], {}
    for row in report.rows:
        name = f"{row.installed.distribution.name} {row.installed.version}"
        if row.state not in ("pristine", "patched"):
            findings.append(
                Problem(f"{name} is {row.state}: {row.notes[0]}", "See `airflow-auth-patches status`.")
            )
        for path in (row.installed.manifest or {"files": {}})["files"]:
            if (row.installed.site / path).is_file():
                files[path] = blob((row.installed.site / path).read_bytes())
    applied = tuple(slug for row in report.rows for slug in row.applied)
    if not applied:
        findings.append(
            Problem(f"{place.name} has no patch.", "Run `airflow-auth-patches apply`, and restart.")
        )
    with progress.task("inspecting the processes of the server"):
        seen = running.inspect(place, list(files))
    found = list(running.faults(place, seen, files))
    if not seen.listeners:
        raise found[0]
    with progress.task("requesting its version and health"):
        checks = tuple(check(url, path) for path in ("/api/v2/version", "/api/v2/monitor/health"))
    return Loaded(report.installation, seen.listeners, applied, (*findings, *found), checks)


def check(url: str, path: str) -> Check:
    """Request a path of a server on this machine. Its certificate may have another name than the URL."""
    context = ssl.create_default_context()
    context.check_hostname = False
    handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    try:
        opener = urllib.request.build_opener(*handlers)
        with opener.open(url.rstrip("/") + path, timeout=PATIENCE) as response:
            content = json.load(response)
    except urllib.error.HTTPError as error:
        return Check(path, f"{error.code}", failed=True)
    except (OSError, ValueError) as error:
        return Check(path, f"no valid response: {error}", failed=True)
    states = {
        name: str(part["status"])
        for name, part in (content.items() if isinstance(content, dict) else ())
        if isinstance(part, dict) and part.get("status")
    }
    sees = ", ".join(f"{name} {state}" for name, state in states.items())
    return Check(path, f"200{': ' if sees else ''}{sees}", states.get("metadatabase") == "unhealthy")
