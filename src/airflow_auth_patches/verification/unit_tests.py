"""Run the unit tests of a patch, and compare their outcomes with its expectations."""

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

#: Unset variables of the user that could select other tests or stop a run early.
UNSET = {"PYTEST_ADDOPTS": "", "PYTEST_PLUGINS": ""}
#: No source code in tracebacks: to show it, pytest parses the file. On Python 3.11 this crashes if a garbage
#: collection runs a finalizer that parses code too (SystemError: AST constructor recursion depth mismatch).
BRIEF = "--tb=line"
#: The values of `Result.what` other than the names of mutants.
WHOLE = ("stock", "patched", "alone")
#: What to do when pytest fails by itself.
RUN_BY_HAND = "Correct the error above and run the command again."


@dataclass(frozen=True)
class Result:
    """
    The comparison of the outcomes of a patch's unit tests with its expectations.

    :param what: ``stock``, ``patched``, ``alone``, or the name of the mutant.
    :param wrong: the unexpected outcomes, one line each; empty if all are as expected.
    :param counts: the number of tests by the first word of their outcome.
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

    :param only: the names of the tests to run, without a parameter for all parameters; all tests if empty.
    :param variables: more environment variables of the run, see :func:`mutated`.
    :return: ``{test name: outcome}``; an outcome is ``passed``, ``skipped``, ``error: ...``, ``failed: ...``
        or ``not run``. A parametrised test is one entry, with its first outcome that is not ``passed``.
    :raises Problem: when pytest wrote no report.
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
                "TMPDIR": folder,  # removed with the folder, also if pytest is killed
                "PYTHONPATH": str(root / "tests/standin"),
                "AUTH_PATCHES_DATABASES": str(root / "build" / "databases"),
                **(variables or {}),
            },
            timeout=timeout,
        )
        if not report.exists():
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise Problem(f"pytest wrote no report of {file}:\n{tail}", RUN_BY_HAND, Exit.FAILED)
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
    """Return the outcome of a test case of a JUnit report, in the format of :func:`run_tests`."""
    for tag in ("error", "failure", "skipped"):
        if (node := case.find(tag)) is not None:
            word = {"error": "error: ", "failure": "failed: ", "skipped": "skipped"}[tag]
            return word + _message(node) * (tag != "skipped")
    return "passed"


def _message(node: ElementTree.Element) -> str:
    """Return the first line of a failure. If a file could not be collected, return the line of its error."""
    message: str = ((node.get("message") or "").splitlines() or [""])[0]
    if message == "collection failure":
        errors = [line[1:].strip() for line in (node.text or "").splitlines() if line.startswith("E ")]
        return errors[-1] if errors else message
    return message


def tally(outcomes: Mapping[str, str]) -> dict[str, int]:
    """Return the number of outcomes by their first word."""
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        word = outcome.partition(":")[0]
        counts[word] = counts.get(word, 0) + 1
    return counts


def compare_stock(expected: Expectations, slug: str, outcomes: Mapping[str, str]) -> Result:
    """Compare the outcomes on stock: expected failures fail by an assertion, regression tests pass."""
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
    """Compare the outcomes on a patched release: all tests must pass."""
    listed = expected.tests
    wrong = [
        f"{name} must pass: {outcomes.get(name, 'not run')}"
        for name in listed
        if outcomes.get(name) != "passed"
    ]
    return Result(slug, what, tuple(wrong), tally(outcomes))


def run_alone(root: Path, expected: Expectations, slug: str, environment: Environment) -> Result:
    """Run the unit tests of a patch with no other patch applied: all must pass."""
    return compare_patched(expected, slug, run_tests(root, environment, expected.file), "alone")


@contextmanager
def mutated(mutant: Mutant, site: Path) -> Iterator[dict[str, str]]:
    """
    Write the mutated file to a temporary folder for the duration of a ``with`` block.

    :param site: the site-packages folder; it is not changed.
    :return: the environment variables that make the tests import the mutated file.
    :raises Problem: when the mutant's text does not occur exactly once.
    """
    installed = to_installed(mutant.path)
    if installed is None or not installed.endswith(".py") or installed.endswith("__init__.py"):
        raise Problem(
            f"{mutant.path} of the mutant {mutant.name} is not an installed module.",
            "Correct its path in patches/expectations.",
        )
    before = (site / installed).read_text(encoding="utf-8")
    if before.count(mutant.old) != 1:
        raise Problem(
            f"The text of the mutant {mutant.name!r} occurs {before.count(mutant.old)} times in {installed}.",
            "Choose a text that occurs once.",
        )
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        path = Path(folder) / Path(installed).name
        path.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
        module = installed.removesuffix(".py").replace("/", ".")
        yield {"AUTH_PATCHES_REPLACED": json.dumps({module: str(path)})}


def run_mutant(
    root: Path, expected: Expectations, slug: str, mutant: Mutant, environment: Environment, site: Path
) -> Result:
    """Run the tests that must kill a mutant: each must fail by an assertion or a time-out."""
    with mutated(mutant, site) as variables:
        outcomes = run_tests(root, environment, expected.file, mutant.killed_by, variables=variables)
    wrong = [
        f"{name} must fail with the mutant: {outcome}"
        for name, outcome in outcomes.items()
        if not fails_by_assertion(outcome)
    ]
    return Result(slug, mutant.name, tuple(wrong) if outcomes else ("no test ran",), tally(outcomes))
