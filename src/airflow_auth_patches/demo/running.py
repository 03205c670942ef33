"""The proof that the process behind a port runs certain code: what it imports, and since when that is so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.releases.releases import CORE, FAB
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt, run

PROGRAM = Path(__file__).with_name("listening.py")
TIMEOUT = 120.0
#: Seconds by which a file must be older than the process: what the start of a process is known to, and more.
MARGIN = 1.0


@dataclass(frozen=True)
class Place:
    """
    Where a server runs.

    :param name: for people: the interpreter, or the container.
    :param command: runs the server's interpreter there.
    :param port: the port that it listens on there, or a word for it.
    """

    name: str
    command: tuple[str, ...]
    port: int | str

    def words(self, paths: Sequence[str]) -> list[str]:
        """Return the command that looks at the server; the program is its standard input."""
        return [*self.command, "-", str(self.port), *paths]


@dataclass(frozen=True)
class File:
    """
    What an import takes for a path.

    :param file: the file, or ``None`` where there is none.
    :param blob: the id of its content, as git names it.
    :param changed: when it was last written, replaced or linked, in seconds since the epoch.
    """

    file: str | None
    blob: str | None
    changed: float | None


@dataclass(frozen=True)
class Listener:
    """
    A process that listens on the port.

    :param started: in seconds since the epoch.
    :param ours: whether it runs on the packages of the interpreter that looked at it.
    :param sites: the ``site-packages`` that it runs on.
    """

    pid: int
    started: float
    ours: bool
    sites: Sequence[str]


@dataclass(frozen=True)
class Seen:
    """
    What was seen of a server.

    :param files: by path below site-packages.
    :param versions: of our distributions, as installed; ``None`` where one is not.
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


def beside(python: Path, port: int) -> Place:
    """
    Return the place of a server of this machine.

    :param python: the interpreter of its environment.
    :raises Problem: when it is none.
    """
    if not python.is_file():
        raise Problem(
            f"{python} is not an interpreter.", "Name the python of your Airflow: --python PATH.", Exit.USAGE
        )
    return Place(str(python), (str(python),), port)


def published(port: int, python: str = "python", container: str | None = None) -> Place:
    """
    Find the container that publishes a port of this machine.

    :param python: the interpreter in it.
    :param container: its name, where another could be meant.
    :raises Problem: when Docker is missing or does not answer, or no container does.
    """
    asked = attempt(find_words(port), timeout=TIMEOUT)
    if asked.returncode:
        why = (asked.stderr.strip() or asked.stdout.strip()).splitlines()[-1:]
        raise Problem(f"Docker does not answer: {' '.join(why)}", "Start it.", Exit.FAILED)
    for line in asked.stdout.splitlines():
        name, _, ports = line.partition(" ")
        if (inner := re.search(rf":{port}->(\d+)/tcp", ports)) and container in (None, name):
            return Place(f"container {name}", tuple(exec_words(name, python)), int(inner[1]))
    raise Problem(
        f"{container or 'No container'} {'does not publish' if container else 'publishes'} port {port}.",
        "Start Breeze, or name the interpreter of a server without it: --python PATH.",
        Exit.USAGE,
    )


def find_words(port: int) -> list[str]:
    """Return the command that finds the container of a published port."""
    return ["docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}} {{.Ports}}"]


def exec_words(container: str, python: str) -> list[str]:
    """Return the command that runs an interpreter in a container, with our standard input."""
    return ["docker", "exec", "-i", container, python]


def inspect(place: Place, paths: Sequence[str]) -> Seen:
    """
    Look at a server: the processes behind its port, and the files that they import.

    :param paths: below site-packages.
    :raises Problem: when its interpreter cannot be run.
    """
    try:
        told = json.loads(run(place.words(paths), stdin=PROGRAM.read_text("utf-8"), timeout=TIMEOUT))
    except (Problem, ValueError) as error:
        raise Problem(
            f"The interpreter of {place.name} cannot tell what runs there: {error}",
            "Name the server's own: --python PATH.",
            Exit.USAGE,
        ) from error
    return Seen(
        tuple(Listener(**each) for each in told["listeners"]),
        {path: File(**each) for path, each in told["files"].items()},
        told["versions"],
    )


def prove(place: Place, seen: Seen, expected: Mapping[str, str]) -> None:
    """
    Prove that the code behind a port is what it must be.

    Every process that listens there runs on the packages of that place's interpreter; what an import takes
    there for each path is exactly the expected content; and no such file was written, replaced or linked
    since the process began, so that content is what it read whenever it imported it.

    :param expected: ``{path below site-packages: id of the content, as git names it}``.
    :raises Problem: when any of it is not so.
    """
    if not seen.listeners:
        raise Problem(
            f"Nothing that this user may look at listens on port {place.port} of {place.name}.",
            "Start the API server there, or run this as its user.",
            Exit.USAGE,
        )
    for listener in seen.listeners:
        if not listener.ours:
            raise Problem(
                f"Process {listener.pid}, which listens on port {place.port}, does not run on the packages "
                f"of {place.name}, but on {', '.join(listener.sites) or 'none'}.",
                "Name the interpreter of its environment: --python PATH, and if that is in a container, "
                "--container NAME too.",
                Exit.USAGE,
            )
    if other := [path for path, content in expected.items() if seen.files[path].blob != content]:
        file = seen.files[other[0]].file
        what = f"{file} is not what the patches make of it" if file else f"{other[0]} is not there"
        more = f", nor are {len(other) - 1} other files" if len(other) > 1 else ""
        raise Problem(
            f"The patched code is not what runs: {what}{more}.",
            "Start the API server with the patched code and verify again.",
            Exit.USAGE,
        )
    for listener in seen.listeners:
        for path in expected:
            changed = seen.files[path].changed
            if changed is None or changed > listener.started - MARGIN:
                raise Problem(
                    f"{seen.files[path].file} is patched, and was changed after process {listener.pid} "
                    "began, which may run what was there before.",
                    "Restart the API server and verify again.",
                    Exit.USAGE,
                )
