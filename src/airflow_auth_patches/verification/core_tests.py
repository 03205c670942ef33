"""
Upstream's tests of core, which are in no sdist: from a checkout of Airflow, against an installed core.

A commit is written below ``build/`` with the installed package in the place of its sources: upstream's tests
derive paths from ``airflow.__file__``. The checkout itself is only read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.checkout import Checkout
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.verification import upstream

#: What upstream's tests of core import and its `[tool.pytest]` asks for, from `devel-common/pyproject.toml`.
PACKAGES = (
    "apache-airflow-providers-celery",
    "apache-airflow-providers-cncf-kubernetes",
    "apache-airflow-providers-ftp",
    "apache-airflow-providers-git",
    "apache-airflow-providers-standard",
    "aioresponses",
    "aiosqlite",
    "beautifulsoup4",
    "blinker",
    "filelock",
    "jmespath",
    "kgb",
    "pytest",
    "pytest-asyncio",
    "pytest-cov",
    "pytest-custom-exit-code",
    "pytest-icdiff",
    "pytest-instafail",
    "pytest-mock",
    "pytest-rerunfailures!=16.0",
    "pytest-timeouts",
    "pytest-unordered",
    "pytest-xdist",
    "requests_mock",
    "semver",
    "sqlalchemy[asyncio]",
    "sqlalchemy-utils",
    "statsd",
    "time-machine[dateutil]",
)
ROOT = "airflow-core/tests/unit"
#: What is run whichever files are patched.
ALWAYS = ("api_fastapi", "core/test_configuration.py", "utils/log")
#: Upstream's plugin has `uv run` write generated/provider_dependencies.json where that is missing or old.
UV = """\
#!/bin/sh
# In the place of uv, which would resolve the whole workspace: `uv run SCRIPT`, with the environment's Python.
shift
exec "{python}" "$@"
"""


def unpack(checkout: Checkout, environment: Environment, folder: Path) -> None:
    """
    Write the files of a commit of Airflow, with the installed package as its ``airflow-core/src/airflow``.

    :param folder: where; what is there is replaced.
    :raises Problem: when git fails, or the commit has no tests of core.
    """
    if checkout.entry(f"{ROOT}/__init__.py") is None:
        raise Problem(
            f"{checkout.path} at {checkout.base[:10]} has no {ROOT}.", "Name another commit.", Exit.USAGE
        )
    shutil.rmtree(folder, ignore_errors=True)
    # An index of our own: that of the checkout is not touched. (`git archive` leaves out devel-common.)
    checkout.git("read-tree", checkout.base)
    checkout.git("checkout-index", "--all", f"--prefix={folder}/")
    sources = folder / "airflow-core" / "src" / "airflow"
    shutil.rmtree(sources)
    installed = next(environment.python.parents[1].glob("lib/python*/site-packages/airflow"))
    shutil.copytree(installed, sources, ignore=shutil.ignore_patterns("__pycache__"))
    uv = folder / ".bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(UV.format(python=environment.python))
    uv.chmod(0o755)


def paths(folder: Path, patches: Sequence[Patch]) -> list[str]:
    """
    Return the files and folders of tests that touch what some patches change.

    :param folder: what :func:`unpack` has written.
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
    Run tests of core with an ``AIRFLOW_HOME`` and a database of their own.

    :param folder: what :func:`unpack` has written for that environment.
    :param only: files, folders or ids of tests.
    :param expression: pytest's ``-k``; all of them when not given.
    :param timeout: seconds.
    :return: see :func:`airflow_auth_patches.verification.upstream.run`.
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
        return upstream.run(folder, environment, arguments, only, variables=variables, timeout=timeout)
