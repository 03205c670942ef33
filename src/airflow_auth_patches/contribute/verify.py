"""Verify a running API server: check that it runs the patched code, then probe it for each patch."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_auth_patches.contribute import probes
from airflow_auth_patches.contribute.expected import Expected, Subject, expect, expect_none
from airflow_auth_patches.demo.faults import ServerDatabase
from airflow_auth_patches.demo.outcomes import Observation
from airflow_auth_patches.demo.reached import Reached
from airflow_auth_patches.demo.report import measurement_data
from airflow_auth_patches.demo.scenarios import sequence
from airflow_auth_patches.installation import running
from airflow_auth_patches.installation.running import Place, Seen
from airflow_auth_patches.series import probes as probe_data
from airflow_auth_patches.series.probes import Probe
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem
from airflow_auth_patches.util.progress import Progress

SEQUENCE = "sequence"


@dataclass(frozen=True)
class Proof:
    """
    The proof that a server runs the patched code: the expected code, the place, and the code found.

    :param patched: whether the server runs it; if not, it is proven that it does not.
    """

    expected: Expected
    place: Place
    seen: Seen
    patched: bool = True

    def __str__(self) -> str:
        pids = ", ".join(str(each.pid) for each in self.seen.listeners)
        versions = ", ".join(f"{name} {version}" for name, version in self.seen.versions.items())
        patches = ", ".join(self.expected.patches)
        if not self.patched:
            return f"Process {pids} of {self.place.name} does not run {patches}. Versions: {versions}."
        return (
            f"Process {pids} of {self.place.name} runs the patched code: {len(self.expected.files)} files "
            f"have the content of {self.expected.source}, and none has changed since the process started. "
            f"Versions: {versions}. Patches: {patches}."
        )


@dataclass(frozen=True)
class Result:
    """
    The result of the sequence of requests, or of the probe of a patch.

    :param observation: ``None`` if the patch has no probe, or the probe did not run.
    :param note: the reason for that.
    :param passed: whether the observation is the expected one; without the patches, a probe must fail.
    """

    name: str
    observation: Observation | None
    note: str = ""
    passed: bool = True

    @property
    def sees(self) -> str:
        """What was observed, or why nothing was."""
        return self.observation.sees if self.observation else self.note

    @property
    def outcome(self) -> str:
        """The outcome, for a report."""
        if self.observation is None:
            return "no probe"
        if self.observation.inconclusive:
            return "not measured"
        told = "failed" if self.observation.failed else "passed"
        return f"{told}, as expected" if self.passed and self.observation.failed else told


def prove(url: str, subject: Subject, project: Project, progress: Progress, *, patched: bool = True) -> Proof:
    """
    Check that a server runs the patched code, see `running.prove`, or that it does not.

    :param url: the URL of the server, on this machine.
    :param patched: whether it must run the patched code.
    :raises Problem: USAGE if it runs other code, or this cannot be checked.
    """
    port = running.port_of(url)
    try:
        with progress.task(f"checking that the server runs {'' if patched else 'un'}patched code"):
            expected = (expect if patched else expect_none)(subject, project, progress)
            place = _place(port, subject)
            seen = running.inspect(place, list(expected.files))
            running.prove(place, seen, expected.files if patched else {})
            if not patched and expected.files and not list(running.faults(place, seen, expected.files)):
                raise UsageProblem(
                    f"The server of {place.name} runs the patched code.", "Leave out --unpatched."
                )
    except Problem as problem:
        raise UsageProblem(problem.what, problem.remedy) from problem
    return Proof(expected, place, seen, patched)


def _place(port: int, subject: Subject) -> Place:
    if subject.python is not None and not subject.contained:
        return running.local_place(subject.python, port)
    return running.published(port, str(subject.python) if subject.python else None, subject.container)


def lines(url: str, subject: Subject, expected: Expected, project: Project) -> list[str]:
    """
    Return the commands that `prove` and `observe` run, quoted for a shell.

    ``CONTAINER``, ``PORT`` and ``PYTHON`` are placeholders for values that only Docker knows.

    :raises Problem: if the URL is not of this machine, or the path is not an interpreter.
    """
    port = running.port_of(url)
    program = f"< {shlex.quote(str(running.PROGRAM))}"
    names = [name for name, each in chosen(expected, subject, project).items() if each.kind]
    said = [f"# then requests to {url}: {', '.join([SEQUENCE, *names])}"]
    if not subject.contained:
        return [f"{shlex.join(_place(port, subject).words(list(expected.files)))} {program}", *said]
    container = subject.container or "CONTAINER"
    finds = [shlex.join(running.find_words(port))]
    if subject.python is None:
        words = shlex.join(running.find_python_words(container, "PORT"))
        finds.append(f"{words} < {shlex.quote(str(running.FIND_PYTHON))}")
    command = running.exec_words(container, str(subject.python or "PYTHON"))
    looks = Place("", tuple(command), "PORT").words(list(expected.files))
    return [*finds, f"{shlex.join(looks)} {program}", *said]


def chosen(expected: Expected, subject: Subject, project: Project) -> dict[str, Probe]:
    """
    Return the probes of the patches to verify: of the named ones, else of all that the server must run.

    :return: ``{slug: probe}``, without patches that have no entry because upstream has them.
    """
    known = probe_data.load(project.series.folder)
    return {slug: known[slug] for slug in subject.patches or expected.patches if slug in known}


def observe(
    url: str,
    proof: Proof,
    wanted: Mapping[str, Probe],
    user: Mapping[str, str],
    progress: Progress,
) -> Iterator[Result]:
    """
    Send requests one by one, and run the probes.

    Without the patches, the requests one by one are left out.

    :param wanted: ``{slug: probe}``.
    :param user: the ``username`` and ``password`` of an administrator.
    :return: the results, as soon as they are there.
    :raises Problem: USAGE if the user or the password is wrong, or the database cannot be used.
    """
    with ExitStack() as stack:
        database = None
        if any(each.kind for each in wanted.values()):
            database = stack.enter_context(ServerDatabase(proof.place.command, proof.place.port))
        server = stack.enter_context(closing(Reached(url, proof.seen.pair, user, database)))
        if proof.patched:
            with progress.task(SEQUENCE):
                seen = _measured(partial(sequence.run, server))
            yield Result(SEQUENCE, seen, passed=not seen.failed)
        for slug, probe in wanted.items():
            missing = sorted(set(probe.needs) - set(proof.expected.patches)) if proof.patched else []
            why = probe.none or (f"It needs {', '.join(missing)} too." if missing else "")
            if why or database is None:
                yield Result(slug, None, why)
                continue
            with progress.task(slug):
                seen = _measured(partial(probes.RUN[probe.kind], server, database, probe))
            yield Result(slug, seen, passed=not seen.inconclusive and seen.failed is not proof.patched)


def _measured(run: Callable[[], Observation]) -> Observation:
    try:
        return run()
    except Problem as problem:
        if problem.exit_code is Exit.USAGE:
            raise UsageProblem(problem.what, "Use --username and --password.") from None
        sees = f"not measured: {problem.what} {problem.remedy}"
        return Observation(sees=sees, failed=True, inconclusive=True)


def as_data(proof: Proof, results: Sequence[Result]) -> dict[str, Any]:
    """
    Return a verification as data for JSON.

    :return: ``proof`` with ``patched``, ``patches``, ``source``, ``place``, ``versions``, ``processes``
        (``pid`` and ``started``, in seconds since the epoch) and ``files`` (``path``, ``file``, ``blob``);
        ``scenarios``, each with ``name``, ``outcome``, ``passed``, ``sees`` and ``measurements``.
    """
    return {
        "proof": {
            "patched": proof.patched,
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
                "name": each.name,
                "outcome": each.outcome,
                "passed": each.passed,
                "sees": each.sees,
                "measurements": [
                    measurement_data(one)
                    for one in (each.observation.measurements if each.observation else ())
                ],
            }
            for each in results
        ],
    }
