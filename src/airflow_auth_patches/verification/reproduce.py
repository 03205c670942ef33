"""
Run tests of the series in an environment, in one process that imports Airflow once and forks for each.

Most of the time of a run of one file is the import of Airflow, so many files are run together. What one
file, or one reproducer, does to the process, its child takes with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.series.series import Bug
from airflow_auth_patches.verification import upstream


def reproduce(root: Path, environment: Environment, bugs: Sequence[Bug]) -> dict[str, str]:
    """
    Run the reproducers of some bugs, each in a process of its own.

    :param root: the checkout of this project.
    :return: ``{bug: outcome}``, in the words of `unit_tests.run_tests`; of a parametrised test the first
        of the worst, of a file that cannot be imported its error.
    :raises Problem: when pytest did not run to its end.
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
    Run test files of the series, each in a process of its own.

    :param root: the checkout of this project.
    :return: ``{file: {test name: outcome}}``, as `unit_tests.run_tests` gives it for a file; a file that
        cannot be imported has its error under its own path.
    :raises Problem: when pytest did not run to its end.
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
    standin = root / "tests/standin"
    plugins = [word for name in ("pytest_plugin", "forked") for word in ("-p", f"tests_common.{name}")]
    found = upstream.run(
        root,
        environment,
        [*plugins, "-c", standin / "pytest.ini"],
        files,
        variables={
            "PYTHONPATH": str(standin),
            "AUTH_PATCHES_DATABASES": str(root / "build" / "databases"),
            "AUTH_PATCHES_ONLY": "\n".join(only),
        },
    )
    # A recorded result names no folder of this machine, and reads the same for every environment.
    folders = (f"{environment.python.parents[1]}/", f"{root}/")
    return {test: _without(outcome, folders) for test, outcome in found.items()}


def _without(outcome: str, folders: Sequence[str]) -> str:
    for folder in folders:
        outcome = outcome.replace(folder, "")
    return outcome


def _by_name(outcomes: Mapping[str, str], file: str) -> dict[str, str]:
    """Return the outcomes of a file's tests by name: of a parametrised one the first of the worst."""
    found: dict[str, str] = {}
    for test, outcome in outcomes.items():
        where, _, name = test.partition("[")[0].rpartition("::")
        if where.partition("::")[0] == file:
            found[name] = min(found.get(name, outcome), outcome, key=upstream.rank)
    return found
