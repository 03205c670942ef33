"""Verify a running API server: check that it runs the patched code, then send requests to it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from airflow_auth_patches.contribute.expected import Expected, Subject, expect
from airflow_auth_patches.demo.outcomes import Measurement, Observation
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.report import measurement_data
from airflow_auth_patches.demo.scenarios import sequence, token_race
from airflow_auth_patches.installation import running
from airflow_auth_patches.installation.running import Place, Seen
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Proof:
    """The proof that a server runs the patched code: the expected code, the place, and the code found."""

    expected: Expected
    place: Place
    seen: Seen

    def __str__(self) -> str:
        pids = ", ".join(str(each.pid) for each in self.seen.listeners)
        versions = ", ".join(f"{name} {version}" for name, version in self.seen.versions.items())
        return (
            f"Process {pids} of {self.place.name} runs the patched code: {len(self.expected.files)} files "
            f"have the content of {self.expected.source}, and none has changed since the process started. "
            f"Versions: {versions}. Patches: {', '.join(self.expected.patches)}."
        )


def prove(url: str, subject: Subject, project: Project, progress: Progress) -> Proof:
    """
    Check that a server runs the patched code, see `running.prove`.

    :param url: the URL of the server, on this machine.
    :raises Problem: USAGE if it runs other code, or this cannot be checked.
    """
    port = running.port_of(url)
    try:
        with progress.task("checking that the server runs the patched code"):
            expected = expect(subject, project, progress)
            place = _place(port, subject)
            seen = running.inspect(place, list(expected.files))
            running.prove(place, seen, expected.files)
    except Problem as problem:
        raise UsageProblem(problem.what, problem.remedy) from problem
    return Proof(expected, place, seen)


def _place(port: int, subject: Subject) -> Place:
    if subject.python is not None and not subject.contained:
        return running.local_place(subject.python, port)
    return running.published(port, str(subject.python or "python"), subject.container)


def lines(url: str, subject: Subject, expected: Expected) -> list[str]:
    """
    Return the commands that `prove` and `observe` run, quoted for a shell.

    ``CONTAINER`` and ``PORT`` are placeholders for values that only Docker knows.

    :raises Problem: if the URL is not of this machine, or the path is not an interpreter.
    """
    port = running.port_of(url)
    program = f"< {shlex.quote(str(running.PROGRAM))}"
    said = [f"# then requests to {url}: {', '.join(SCENARIOS)}"]
    if not subject.contained:
        return [f"{shlex.join(_place(port, subject).words(list(expected.files)))} {program}", *said]
    command = running.exec_words(subject.container or "CONTAINER", str(subject.python or "python"))
    looks = Place("", tuple(command), "PORT").words(list(expected.files))
    return [shlex.join(running.find_words(port)), f"{shlex.join(looks)} {program}", *said]


def single(measure: Callable[[Reached], Measurement]) -> Callable[[Reached], Observation]:
    """Return a scenario of one measurement. It does not read the server's log, so only responses count."""
    return lambda server: token_race.observe(server, 0, (measure(server),))


#: Scenarios of `demo`: sequential requests, 5 tokens at once, and 5 rounds of 3 requests at once.
SCENARIOS: Mapping[str, Callable[[Reached], Observation]] = {
    "sequence": sequence.run,
    "token-race": single(token_race.five_tokens),
    "mixed-race": single(lambda server: token_race.three_mixed(server, server.token())),
}


def observe(
    url: str, proof: Proof, user: Mapping[str, str], progress: Progress
) -> Iterator[tuple[str, Observation]]:
    """
    Run the scenarios on a server.

    :param user: the ``username`` and ``password`` of an administrator.
    :return: the name and the observation of each scenario, as soon as it ends.
    :raises Problem: USAGE if the user or the password is wrong.
    """
    with closing(Reached(url, proof.seen.pair, user)) as server:
        for name, run in SCENARIOS.items():
            with progress.task(name):
                try:
                    seen = run(server)
                except Problem as problem:
                    if problem.exit_code is Exit.USAGE:
                        raise UsageProblem(problem.what, "Use --username and --password.") from None
                    seen = Observation(sees=f"not measured: {problem.what}", failed=True)
            yield name, seen


def as_data(proof: Proof, seen: Mapping[str, Observation]) -> dict[str, Any]:
    """
    Return a verification as data for JSON.

    :return: ``proof`` with ``patches``, ``source``, ``place``, ``versions``, ``processes`` (``pid`` and
        ``started``, in seconds since the epoch) and ``files`` (``path``, ``file``, ``blob``); ``scenarios``,
        each with ``name``, ``failed``, ``sees`` and ``measurements``.
    """
    return {
        "proof": {
            "patches": list(proof.expected.patches),
            "source": proof.expected.source,
            "place": proof.place.name,
            "versions": dict(proof.seen.versions),
            "processes": [{"pid": each.pid, "started": each.started} for each in proof.seen.listeners],
            "files": [
                {"path": path, "file": each.file, "blob": each.blob}
                for path, each in proof.seen.files.items()
            ],
        },
        "scenarios": [
            {
                "name": name,
                "failed": each.failed,
                "sees": each.sees,
                "measurements": [measurement_data(one) for one in each.measurements],
            }
            for name, each in seen.items()
        ],
    }
