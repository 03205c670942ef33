"""Run the unit tests of a patch, and compare their outcomes with what is expected of them."""

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
from airflow_auth_patches.series.affected import fails_by_assertion
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import attempt
from airflow_auth_patches.verification.expectations import Expectations, Mutant

#: What a caller has set for pytest of its own would choose other tests, or end a run early.
UNSET = {"PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
#: No source in the tracebacks, which nobody reads here. To show it pytest parses it, and on Python 3.11 that
#: fails where a finalizer that a garbage collection runs meanwhile parses too (SystemError: AST constructor
#: recursion depth mismatch): it ended the process.
BRIEF = "--tb=line"
#: What :class:`Result` is of, when it is not of a mutant.
WHOLE = ("stock", "patched", "alone")


@dataclass(frozen=True)
class Result:
    """
    Whether the unit tests of a patch ended as expected.

    :param what: ``stock``, ``patched``, ``alone``, or the mutant's name.
    :param wrong: what is not as it must be, a line each; empty when all is as expected.
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


def compare_stock(expected: Expectations, slug: str, outcomes: Mapping[str, str]) -> Result:
    """Compare the outcomes on stock: those that must fail do so by an assertion, regression tests pass."""
    wrong = [
        f"{name} must fail by an assertion: {outcomes.get(name, 'not run')}"
        for name in expected.fails_on_stock
        if not fails_by_assertion(outcomes.get(name, "not run"))
    ]
    wrong += [
        f"{name} must pass: {outcomes.get(name, 'not run')}"
        for name in expected.regression
        if outcomes.get(name) != "passed"
    ]
    return Result(slug, "stock", tuple(wrong), tally(outcomes))


def compare_patched(
    expected: Expectations, slug: str, outcomes: Mapping[str, str], what: str = "patched"
) -> Result:
    """Judge the unit tests of a patch on a patched release: all must pass."""
    listed = expected.tests
    wrong = [
        f"{name} must pass: {outcomes.get(name, 'not run')}"
        for name in listed
        if outcomes.get(name) != "passed"
    ]
    return Result(slug, what, tuple(wrong), tally(outcomes))


def run_alone(root: Path, expected: Expectations, slug: str, environment: Environment) -> Result:
    """Run the unit tests of a patch where it is the only one: all must pass."""
    return compare_patched(expected, slug, run_tests(root, environment, expected.file), "alone")


@contextmanager
def mutated(mutant: Mutant, site: Path) -> Iterator[dict[str, str]]:
    """
    Write the mutated file next to the environment, for the length of a ``with`` block.

    :param site: the site-packages; nothing in it is changed.
    :return: the environment variables with which the tests run with the mutant.
    :raises Problem: when the mutant's text is not there exactly once.
    """
    installed = to_installed(mutant.path)
    if installed is None or not installed.endswith(".py") or installed.endswith("__init__.py"):
        raise Problem(f"{mutant.path} of the mutant {mutant.name} is no installed module.")
    before = (site / installed).read_text(encoding="utf-8")
    if before.count(mutant.old) != 1:
        raise Problem(
            f"The text of the mutant {mutant.name!r} occurs {before.count(mutant.old)} times in {installed}."
        )
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        path = Path(folder) / Path(installed).name
        path.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
        module = installed.removesuffix(".py").replace("/", ".")
        yield {"AUTH_PATCHES_REPLACED": json.dumps({module: str(path)})}


def run_mutant(
    root: Path, expected: Expectations, slug: str, mutant: Mutant, environment: Environment, site: Path
) -> Result:
    """Run the tests that must kill a mutant: each must fail, by an assertion or a time-out."""
    with mutated(mutant, site) as variables:
        outcomes = run_tests(root, environment, expected.file, mutant.killed_by, variables=variables)
    wrong = [
        f"{name} must fail with the mutant: {outcome}"
        for name, outcome in outcomes.items()
        if not fails_by_assertion(outcome)
    ]
    return Result(slug, mutant.name, tuple(wrong) if outcomes else ("no test ran",), tally(outcomes))
