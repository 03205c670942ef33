"""
Run tests of the series in one process that imports Airflow once and forks for each test file or reproducer.

Importing Airflow takes most of the time of a run, so many files run together. Each file or reproducer runs in
a forked child process, so its changes to the process state do not affect the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.series.bugs import Bug
from airflow_auth_patches.verification import run_pytest


def reproduce(root: Path, environment: Environment, bugs: Sequence[Bug]) -> dict[str, str]:
    """
    Run the reproducers of some bugs, each in a separate process.

    :return: ``{bug: outcome}``, with outcomes as in `run_pytest.cases`. A parametrised test has its first
        worst outcome. If a file cannot be imported, the outcome is its error.
    :raises Problem: when pytest did not complete.
    """
    if not bugs:
        return {}
    asked = {bug.slug: bug.reproducer or "" for bug in bugs}
    files = sorted({test.partition("::")[0] for test in asked.values()})
    outcomes = _run(root, environment, files, list(asked.values()))
    found = {}
    for slug, test in asked.items():
        file, _, name = test.partition("::")
        found[slug] = _by_name(outcomes, file).get(name, outcomes.get(file, "not run"))
    return found


def run_files(root: Path, environment: Environment, files: Sequence[str]) -> dict[str, dict[str, str]]:
    """
    Run test files of the series, each in a separate process.

    :return: ``{file: {test name: outcome}}``, with outcomes as in `run_pytest.cases`. If a file cannot be
        imported, its own path has the error.
    :raises Problem: when pytest did not complete.
    """
    if not files:
        return {}
    outcomes = _run(root, environment, files)
    return {
        file: _by_name(outcomes, file) or ({file: outcomes[file]} if file in outcomes else {})
        for file in files
    }


def _run(
    root: Path, environment: Environment, files: Sequence[str], only: Sequence[str] = ()
) -> dict[str, str]:
    arguments, variables = run_pytest.with_plugin_stub(root, "forked")
    variables["AUTH_PATCHES_ONLY"] = "\n".join(only)
    found = run_pytest.run(root, environment, [*arguments, *files], variables=variables)
    # Remove local paths, so that recorded results are the same on every machine and in every environment.
    environment_folder = f"{environment.python.parents[1]}/"
    return {
        test: outcome.replace(environment_folder, "").replace(f"{root}/", "")
        for test, outcome in found.items()
    }


def _by_name(outcomes: Mapping[str, str], file: str) -> dict[str, str]:
    """Return the outcomes of a file's tests by name. A parametrised test has its first worst outcome."""
    parts = [(*test.partition("[")[0].rpartition("::"), outcome) for test, outcome in outcomes.items()]
    return run_pytest.worst(
        (name, outcome) for where, _, name, outcome in parts if where.partition("::")[0] == file
    )
