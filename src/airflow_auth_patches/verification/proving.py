"""Prove a patch: run its tests, and judge them red on stock, green when patched, red without a guard."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import to_installed
from airflow_auth_patches.series.verdicts import is_red
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt
from airflow_auth_patches.verification.proofs import Guard, Proof

#: What a caller has set for pytest of its own would choose other tests, or end a run early.
UNSET = {"PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
#: No source in the tracebacks, which nobody reads here. To show it pytest parses it, and on Python 3.11 that
#: fails where a finalizer that a garbage collection runs meanwhile parses too (SystemError: AST constructor
#: recursion depth mismatch): it ended the process.
BRIEF = "--tb=line"
#: The proofs of a patch that are not of a guard.
WHOLE = ("stock", "patched", "alone")


@dataclass(frozen=True)
class Verdict:
    """
    The outcome of one proof.

    :param what: ``stock``, ``patched``, ``alone``, or the guard's name.
    :param wrong: what is not as it must be, a line each; empty when the proof holds.
    :param counts: how many tests ended how.
    """

    slug: str
    what: str
    wrong: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


def run_tests(
    root: Path,
    environment: Environment,
    file: str,
    only: Sequence[str] = (),
    *,
    variables: Mapping[str, str] | None = None,
    timeout: float = 900,
) -> dict[str, str]:
    """
    Run a test file of the series in an environment.

    :param only: the names to run, with a parameter in brackets or for all of them, or nothing for all tests.
    :param variables: environment variables of the run, see :func:`without`.
    :return: ``{test name: outcome}``; an outcome is ``passed``, ``skipped``, ``error: ...``, ``failed: ...``
        or ``not run``. Parametrised tests count as one, by their worst outcome.
    :raises Problem: when pytest did not get as far as a report.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-", ignore_cleanup_errors=True) as folder:
        report = Path(folder) / "report.xml"
        words: list[str | Path] = [
            environment.python,
            "-m",
            "pytest",
            "-q",
            BRIEF,
            "-p",
            "tests_common.pytest_plugin",
        ]
        words += ["-c", root / "tests/standin/pytest.ini", f"--rootdir={root}", f"--junitxml={report}"]
        words += [f"{root / file}::{name}" for name in only] or [root / file]
        done = attempt(
            words,
            cwd=root,
            env={
                **UNSET,
                "TMPDIR": folder,  # what pytest cannot remove, as it is ended, goes with it
                "PYTHONPATH": str(root / "tests/standin"),
                "AUTH_PATCHES_DATABASES": str(root / "build" / "databases"),
                **(variables or {}),
            },
            timeout=timeout,
        )
        if not report.exists():
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise Problem(f"pytest gave no report of {file}:\n{tail}", "", Exit.FAILED)
        cases = ElementTree.parse(report).getroot().iter("testcase")
        outcomes = dict.fromkeys(only, "not run")
        for case in cases:
            name = case.get("name") or ""
            if name not in only:
                name = name.partition("[")[0]
            outcome = outcome_of(case)
            if outcomes.get(name, "not run") in ("not run", "passed"):
                outcomes[name] = outcome
    return outcomes


def outcome_of(case: ElementTree.Element) -> str:
    """Return the outcome of a test case of a JUnit report, in the words of :func:`run_tests`."""
    for tag in ("error", "failure", "skipped"):
        if (node := case.find(tag)) is not None:
            word = {"error": "error: ", "failure": "failed: ", "skipped": "skipped"}[tag]
            return word + _said(node) * (tag != "skipped")
    return "passed"


def _said(node: ElementTree.Element) -> str:
    """Return the first line of a failure; of a file that could not be collected, its error's."""
    message: str = ((node.get("message") or "").splitlines() or [""])[0]
    if message == "collection failure":
        errors = [line[1:].strip() for line in (node.text or "").splitlines() if line.startswith("E ")]
        return errors[-1] if errors else message
    return message


def tally(outcomes: Mapping[str, str]) -> dict[str, int]:
    """Count outcomes by their first word."""
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        word = outcome.partition(":")[0]
        counts[word] = counts.get(word, 0) + 1
    return counts


def stock_verdict(proof: Proof, slug: str, outcomes: Mapping[str, str]) -> Verdict:
    """Judge the unit tests of a patch on stock: the red fail by an assertion, the kept pass."""
    wrong = [
        f"{name} must fail by an assertion: {outcomes.get(name, 'not run')}"
        for name in proof.red
        if not is_red(outcomes.get(name, "not run"))
    ]
    wrong += [
        f"{name} must pass: {outcomes.get(name, 'not run')}"
        for name in proof.kept
        if outcomes.get(name) != "passed"
    ]
    return Verdict(slug, "stock", tuple(wrong), tally(outcomes))


def patched_verdict(proof: Proof, slug: str, outcomes: Mapping[str, str], what: str = "patched") -> Verdict:
    """Judge the unit tests of a patch on a patched release: all must pass."""
    listed = [*proof.red, *proof.new_surface, *proof.kept]
    wrong = [
        f"{name} must pass: {outcomes.get(name, 'not run')}"
        for name in listed
        if outcomes.get(name) != "passed"
    ]
    return Verdict(slug, what, tuple(wrong), tally(outcomes))


def prove_alone(root: Path, proof: Proof, slug: str, environment: Environment) -> Verdict:
    """Run the unit tests of a patch where it is the only one: all must pass."""
    return patched_verdict(proof, slug, run_tests(root, environment, proof.file), "alone")


@contextmanager
def without(guard: Guard, site: Path) -> Iterator[dict[str, str]]:
    """
    Write the patched file without a guard beside the environment, for the length of a ``with`` block.

    :param site: the site-packages; nothing in it is changed.
    :return: the environment variables with which the tests run without the guard.
    :raises Problem: when the guard's text is not there exactly once.
    """
    installed = to_installed(guard.path)
    if installed is None or not installed.endswith(".py") or installed.endswith("__init__.py"):
        raise Problem(f"{guard.path} of the guard {guard.name} is no installed module.")
    before = (site / installed).read_text(encoding="utf-8")
    if before.count(guard.old) != 1:
        raise Problem(
            f"The text of the guard {guard.name!r} occurs {before.count(guard.old)} times in {installed}."
        )
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        path = Path(folder) / Path(installed).name
        path.write_text(before.replace(guard.old, guard.new), encoding="utf-8")
        module = installed.removesuffix(".py").replace("/", ".")
        yield {"AUTH_PATCHES_REPLACED": json.dumps({module: str(path)})}


def prove_guard(
    root: Path, proof: Proof, slug: str, guard: Guard, environment: Environment, site: Path
) -> Verdict:
    """Run the tests that a guard names, without the guard: each must fail, by an assertion or a time-out."""
    with without(guard, site) as variables:
        outcomes = run_tests(root, environment, proof.file, guard.red, variables=variables)
    wrong = [
        f"{name} must fail without the guard: {outcome}"
        for name, outcome in outcomes.items()
        if not is_red(outcome)
    ]
    return Verdict(slug, guard.name, tuple(wrong) if outcomes else ("no test ran",), tally(outcomes))
