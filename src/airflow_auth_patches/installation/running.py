"""Check that the process that listens on a port runs the expected code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.releases.releases import CORE, FAB
from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem
from airflow_auth_patches.util.processes import attempt, run

PROGRAM = Path(__file__).with_name("listening.py")
FIND_PYTHON = Path(__file__).with_name("find_python.sh")
TIMEOUT = 120.0
#: Seconds by which a file must be older than the process. The start time can be up to a second too early.
MARGIN = 1.0
HERE = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Place:
    """
    The place where a server runs: this machine or a container.

    :param name: the display name: the interpreter or the container.
    :param command: the command that runs the server's interpreter there.
    :param port: the port that the server listens on there, or a placeholder for it.
    """

    name: str
    command: tuple[str, ...]
    port: int | str

    def words(self, paths: Sequence[str]) -> list[str]:
        """Return the command that inspects the server; its standard input is `PROGRAM`."""
        return [*self.command, "-", str(self.port), *paths]


@dataclass(frozen=True)
class File:
    """
    The file that is imported for a path.

    :param file: the file, or ``None`` if there is none.
    :param blob: the git blob id of its content.
    :param changed: the time of the last write, replacement or link, in seconds since the epoch.
    """

    file: str | None
    blob: str | None
    changed: float | None


@dataclass(frozen=True)
class Listener:
    """
    A process that listens on the port.

    :param started: the start time, in seconds since the epoch.
    :param ours: whether it uses the ``site-packages`` of the interpreter that inspected it.
    :param sites: the ``site-packages`` folders that it uses.
    """

    pid: int
    started: float
    ours: bool
    sites: Sequence[str]


@dataclass(frozen=True)
class Seen:
    """
    The result of inspecting a server.

    :param listeners: the processes that listen on the port.
    :param files: the imported files, by path below site-packages.
    :param versions: the installed versions of the patched distributions; ``None`` if not installed.
    """

    listeners: tuple[Listener, ...]
    files: Mapping[str, File]
    versions: Mapping[str, str | None]

    @property
    def pair(self) -> str:
        """The public versions, core first: ``3.1.6+3.3.0``."""

        def public(name: str) -> str:
            try:
                return Version(self.versions[name] or "").public
            except InvalidVersion:
                return "unknown"

        return f"{public(CORE.name)}+{public(FAB.name)}"


def port_of(url: str, schemes: Sequence[str] = ("http",)) -> int:
    """
    Return the port of a URL on this machine.

    :raises Problem: if it is not a URL of this machine with a port and one of the schemes.
    """
    try:
        parts = urlsplit(url)
        port = parts.port if parts.scheme in schemes and parts.hostname in HERE else None
    except ValueError:
        port = None
    if not port:
        raise UsageProblem(
            f"{url!r} is not a URL of a port on this machine, so its processes cannot be inspected.",
            "Write it as http://127.0.0.1:28080.",
        )
    return port


def local_place(python: Path, port: int) -> Place:
    """
    Return the place of a server on this machine.

    :param python: the interpreter of the server's environment.
    :param port: the port that the server listens on.
    :raises Problem: when the file does not exist.
    """
    if not python.is_file():
        raise Problem(
            f"{python} is not an interpreter.",
            "Give the interpreter of your Airflow: --python PATH.",
            Exit.USAGE,
        )
    return Place(str(python), (str(python),), port)


def published(port: int, python: str | None = None, container: str | None = None) -> Place:
    """
    Return the container that publishes a port on this machine.

    :param port: the published port.
    :param python: the interpreter in the container; by default that of the process that listens on the port.
    :param container: the name of the container; by default the first one that publishes the port.
    :raises Problem: when Docker is missing or not running, no container publishes the port, or the
        interpreter is not found.
    """
    asked = attempt(find_words(port), timeout=TIMEOUT)
    if asked.returncode:
        why = (asked.stderr.strip() or asked.stdout.strip()).splitlines()[-1:]
        raise Problem(f"Docker does not respond: {' '.join(why)}", "Start Docker.", Exit.FAILED)
    for line in asked.stdout.splitlines():
        name, _, ports = line.partition(" ")
        if (inner := re.search(rf":{port}->(\d+)/tcp", ports)) and container in (None, name):
            here = int(inner[1])
            return Place(f"container {name}", tuple(exec_words(name, python or _python_in(name, here))), here)
    raise Problem(
        f"{container or 'No container'} {'does not publish' if container else 'publishes'} port {port}.",
        "Start Breeze, or give the interpreter of a server without Breeze: --python PATH.",
        Exit.USAGE,
    )


def find_words(port: int) -> list[str]:
    """Return the command that lists the containers that publish a port."""
    return ["docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}} {{.Ports}}"]


def exec_words(container: str, *program: str) -> list[str]:
    """Return the command that runs a program in a container, with standard input."""
    return ["docker", "exec", "-i", container, *program]


def find_python_words(container: str, port: int | str) -> list[str]:
    """Return the command that finds the interpreter of a server; its standard input is `FIND_PYTHON`."""
    return exec_words(container, "sh", "-s", str(port))


def _python_in(container: str, port: int) -> str:
    """Return the interpreter of the process that listens on a port in a container."""
    words = find_python_words(container, port)
    if found := run(words, stdin=FIND_PYTHON.read_text("utf-8"), timeout=TIMEOUT).strip():
        return found.splitlines()[0]
    raise Problem(
        f"No process that this user can inspect listens on port {port} of container {container}.",
        "Start the API server there, or give its interpreter: --container NAME --python PATH.",
        Exit.USAGE,
    )


def inspect(place: Place, paths: Sequence[str]) -> Seen:
    """
    Return the processes that listen on a server's port, and the files that they import.

    :param place: the place of the server.
    :param paths: paths below site-packages.
    :raises Problem: when the interpreter cannot be run.
    """
    try:
        found = json.loads(run(place.words(paths), stdin=PROGRAM.read_text("utf-8"), timeout=TIMEOUT))
    except (Problem, ValueError) as error:
        raise Problem(
            f"The interpreter of {place.name} cannot inspect the server: {error}",
            "Give the interpreter of the server: --python PATH.",
            Exit.USAGE,
        ) from error
    return Seen(
        tuple(Listener(**each) for each in found["listeners"]),
        {path: File(**each) for path, each in found["files"].items()},
        found["versions"],
    )


def prove(place: Place, seen: Seen, expected: Mapping[str, str]) -> None:
    """
    Check that the processes that listen on a port run the expected code, see :func:`faults`.

    :raises Problem: for the first fault.
    """
    for fault in faults(place, seen, expected):
        raise fault


def faults(place: Place, seen: Seen, expected: Mapping[str, str]) -> Iterator[Problem]:
    """
    Return why the processes that listen on a port do not run the expected code, or why this is unknown.

    Every process must use the packages of the interpreter. The file that is imported for each path must have
    the expected content. No such file may have been written, replaced or linked since the process started, so
    the process imported that content.

    :param place: the place of the server.
    :param seen: the result of :func:`inspect`.
    :param expected: ``{path below site-packages: git blob id of the content}``.
    :return: one fault for the port, for each process and for the files.
    """
    if not seen.listeners:
        yield Problem(
            f"No process that this user can inspect listens on port {place.port} of {place.name}.",
            "Start the API server there, or run this command as its user.",
            Exit.USAGE,
        )
    for listener in seen.listeners:
        if not listener.ours:
            yield Problem(
                f"Process {listener.pid}, which listens on port {place.port}, does not use the packages "
                f"of {place.name}, but {', '.join(listener.sites) or 'none'}.",
                "Give the interpreter of its environment: --python PATH, and in a container also "
                "--container NAME.",
                Exit.USAGE,
            )
    if other := [path for path, content in expected.items() if seen.files[path].blob != content]:
        file = seen.files[other[0]].file
        what = f"{file} does not have the patched content" if file else f"{other[0]} does not exist"
        more = f", and {len(other) - 1} more files differ" if len(other) > 1 else ""
        yield Problem(
            f"The server does not run the patched code: {what}{more}.",
            "Start the API server with the patched code, and verify again.",
            Exit.USAGE,
        )
    for listener in seen.listeners:
        times = ((path, seen.files[path].changed) for path in expected)
        late = [path for path, time in times if time is None or time > listener.started - MARGIN]
        if late and listener.ours:
            yield Problem(
                f"{seen.files[late[0]].file} changed after the start of process {listener.pid}, which "
                "may run the previous content.",
                "Restart the API server, and verify again.",
                Exit.USAGE,
            )
