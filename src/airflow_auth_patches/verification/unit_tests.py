"""Run the unit tests of a patch, and compare their outcomes with its expectations."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import to_installed
from airflow_auth_patches.series.affected import fails_by_assertion
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import run_pytest
from airflow_auth_patches.verification.expectations import Expectations, Mutant

#: The values of `Result.what` other than the names of mutants.
WHOLE = ("stock", "patched", "alone")


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
    :return: ``{test name: outcome}``; an outcome is one of `run_pytest.cases` or ``not run``. A parametrised
        test is one entry, with its first outcome that is not ``passed``.
    :raises Problem: when pytest wrote no report.
    """
    arguments, given = run_pytest.with_plugin_stub(root)
    arguments += [f"{file}::{name}" for name in only] or [file]
    given |= variables or {}
    outcomes = dict.fromkeys(only, "not run")
    cases = run_pytest.cases(root, environment, arguments, variables=given, timeout=timeout, whole=False)
    for test, outcome in cases:
        name = test.removeprefix(f"{file}::")
        if name not in only:
            name = name.partition("[")[0]
        if outcomes.get(name, "not run") in ("not run", "passed"):
            outcomes[name] = outcome
    return outcomes


def compare_stock(expected: Expectations, slug: str, outcomes: Mapping[str, str]) -> Result:
    """Compare the outcomes on stock: expected failures fail by an assertion, regression tests pass."""
    wrong = [
        f"{name} must fail by an assertion: {outcomes.get(name, 'not run')}"
        for name in expected.fails_on_stock
        if not fails_by_assertion(outcomes.get(name, "not run"))
    ]
    wrong += _not_passed(expected.regression, outcomes)
    return Result(slug, "stock", tuple(wrong), run_pytest.tally(outcomes))


def compare_patched(
    expected: Expectations, slug: str, outcomes: Mapping[str, str], what: str = "patched"
) -> Result:
    """Compare the outcomes on a patched release: all tests must pass."""
    return Result(slug, what, tuple(_not_passed(expected.tests, outcomes)), run_pytest.tally(outcomes))


def _not_passed(names: Sequence[str], outcomes: Mapping[str, str]) -> list[str]:
    found = {name: outcomes.get(name, "not run") for name in names}
    return [f"{name} must pass: {outcome}" for name, outcome in found.items() if outcome != "passed"]


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
    counts = run_pytest.tally(outcomes)
    return Result(slug, mutant.name, tuple(wrong) if outcomes else ("no test ran",), counts)
