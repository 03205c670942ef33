"""Run the reproducers of bugs in an environment, in one process that imports Airflow once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from airflow_auth_patches import upstream
from airflow_auth_patches.environments import Environment
from airflow_auth_patches.series import Bug


def reproduce(root: Path, environment: Environment, bugs: Sequence[Bug]) -> dict[str, str]:
    """
    Run the reproducers of some bugs, each in a process of its own, forked from one that has imported Airflow.

    :param root: the checkout of this project.
    :return: ``{bug: outcome}``, in the words of `proofs.run_tests`; of a parametrised test the first that is
        not passed, of a file that cannot be imported its error.
    :raises Problem: when pytest did not get as far as a report.
    """
    if not bugs:
        return {}
    asked = {bug.slug: bug.reproducer or "" for bug in bugs}
    files = sorted({test.partition("::")[0] for test in asked.values()})
    standin = root / "tests/standin"
    plugins = [word for name in ("pytest_plugin", "forked") for word in ("-p", f"tests_common.{name}")]
    outcomes = upstream.run(
        root,
        environment,
        [*plugins, "-c", standin / "pytest.ini"],
        files,
        variables={
            "PYTHONPATH": str(standin),
            "AUTH_PATCHES_DATABASES": str(root / "build" / "databases"),
            "AUTH_PATCHES_ONLY": "\n".join(asked.values()),
        },
    )
    return {slug: _outcome(outcomes, test) for slug, test in asked.items()}


def _outcome(outcomes: dict[str, str], test: str) -> str:
    mine = [said for name, said in outcomes.items() if name.partition("[")[0] == test]
    if mine:
        return next((said for said in mine if said != "passed"), "passed")
    return outcomes.get(test.partition("::")[0], "not run")
