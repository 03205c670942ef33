"""
Run upstream's tests of core, which no sdist contains, from a checkout of Airflow against an installed core.

The files of a commit are written below ``build/``. The installed package replaces the sources of the commit,
because upstream's tests derive paths from ``airflow.__file__``. The checkout itself is not changed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.checkout import PLAIN, contains, worktree
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util import git
from airflow_auth_patches.util.errors import UsageProblem
from airflow_auth_patches.verification import run_pytest

#: Packages that the tests of core or `[tool.pytest]` need, from `devel-common/pyproject.toml`.
PACKAGES = (
    *("apache-airflow-providers-celery", "apache-airflow-providers-cncf-kubernetes"),
    *("apache-airflow-providers-ftp", "apache-airflow-providers-git"),
    *("apache-airflow-providers-standard", "aioresponses", "aiosqlite", "beautifulsoup4", "blinker"),
    *("filelock", "jmespath", "kgb", "pytest", "pytest-asyncio", "pytest-cov", "pytest-custom-exit-code"),
    *("pytest-icdiff", "pytest-instafail", "pytest-mock", "pytest-rerunfailures!=16.0"),
    *("pytest-timeouts", "pytest-unordered", "pytest-xdist", "requests_mock", "semver"),
    *("sqlalchemy[asyncio]", "sqlalchemy-utils", "statsd", "time-machine[dateutil]"),
)
ROOT = "airflow-core/tests/unit"
#: Tests that always run, whichever files are patched.
ALWAYS = ("api_fastapi", "core/test_configuration.py", "utils/log")
#: Calls in upstream's test utilities that fail on a newer release than the commit, and the same by keyword.
UTILITIES = {
    "devel-common/src/tests_common/test_utils/db.py": (
        "add_default_pool_if_not_exists(session)",
        "add_default_pool_if_not_exists(session=session)",
    )
}
#: Upstream's pytest plugin calls `uv run` if generated/provider_dependencies.json is missing or old.
UV = """\
#!/bin/sh
# Replaces uv, which resolves the whole workspace: runs `uv run SCRIPT` with the environment's Python.
shift
exec "{python}" "$@"
"""


def unpack(checkout: Path, commit: str, environment: Environment, folder: Path) -> None:
    """
    Write the files of a commit of Airflow, with the installed package as its ``airflow-core/src/airflow``.

    :param folder: the target folder; its content is replaced.
    :raises Problem: when git fails, or the commit contains no tests of core.
    """
    if not contains(checkout, commit, f"{ROOT}/__init__.py"):
        raise UsageProblem(f"{checkout} at {commit[:10]} has no {ROOT}.", "Choose another commit.")
    shutil.rmtree(folder, ignore_errors=True)
    with worktree(checkout, commit, files=False) as work:  # `git archive` leaves out devel-common
        git.run(work, *PLAIN, "checkout-index", "--all", f"--prefix={folder}/")
    sources = folder / "airflow-core" / "src" / "airflow"
    shutil.rmtree(sources)
    installed = next(environment.python.parents[1].glob("lib/python*/site-packages/airflow"))
    shutil.copytree(installed, sources, ignore=shutil.ignore_patterns("__pycache__"))
    for name, (old, new) in UTILITIES.items():
        file = folder / name
        if file.exists():
            file.write_text(file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    uv = folder / ".bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV.format(python=environment.python))
    uv.chmod(0o755)


def paths(folder: Path, patches: Sequence[Patch]) -> list[str]:
    """
    Return the test files and folders that cover the files changed by the patches.

    :param folder: the folder that :func:`unpack` wrote.
    :return: paths below the folder: those of `ALWAYS`, and ``a/test_b.py`` for a patched ``a/b.py``.
    """
    found = list(ALWAYS)
    for patch in patches:
        for file in patch.edits:
            inside = file.removeprefix("airflow-core/src/airflow/")
            if inside == file or any(inside.startswith(f"{each}/") for each in ALWAYS):
                continue
            parent, _, name = inside.rpartition("/")
            found.append(f"{parent}/test_{name}")
    return [f"{ROOT}/{each}" for each in dict.fromkeys(found) if (folder / ROOT / each).exists()]


def run(
    folder: Path,
    environment: Environment,
    only: Sequence[str],
    expression: str | None = None,
    *,
    timeout: float = 5400,
) -> Mapping[str, str]:
    """
    Run tests of core with a separate ``AIRFLOW_HOME`` and database.

    :param folder: the folder that :func:`unpack` wrote for that environment.
    :param only: files, folders or ids of tests.
    :param expression: pytest's ``-k``; runs all tests if not given.
    :param timeout: seconds.
    :return: see :func:`.run_pytest.run`.
    """
    arguments: list[str | Path] = ["-c", folder / "pyproject.toml", "-p", "tests_common.pytest_plugin"]
    arguments += ["--with-db-init", *(["-k", expression] if expression else [])]
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-", ignore_cleanup_errors=True) as home:
        variables = {
            "AIRFLOW_HOME": home,
            "HOME": home,
            "TZ": "UTC",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "PATH": f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(
                str(folder / each) for each in ("devel-common/src", "airflow-core/src", "airflow-core/tests")
            ),
        }
        return run_pytest.run(
            folder, environment, [*arguments, *(only or ["tests"])], variables=variables, timeout=timeout
        )
