"""
Pytest plugin: a new ``AIRFLOW_HOME`` with a SQLite database, and the markers of the monorepo.

Load it with ``-p``, before Airflow is imported. ``AIRFLOW_HOME`` is a temporary folder, removed at the end of
the session. Tests with the marker ``db_test`` get an initialised database, which the first of them creates.
If ``AUTH_PATCHES_DATABASES`` names a folder, it is created once for all runs on the same installation.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib.metadata import distributions
from pathlib import Path

import pytest

_home = tempfile.mkdtemp(prefix="airflow-home-")
for _name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
    del os.environ[_name]
os.environ.update(
    AIRFLOW_HOME=_home,
    AIRFLOW__CORE__UNIT_TEST_MODE="True",
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{_home}/unittests.db",
    AIRFLOW__API_AUTH__JWT_SECRET="a secret for unit tests, and long enough for HS512: " + "x" * 32,
    AIRFLOW__API_AUTH__JWT_ISSUER="unit-tests",
    AIRFLOW__API__SECRET_KEY="another secret for unit tests",
    AIRFLOW__CORE__AUTH_MANAGER=(
        "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
        if os.environ.get("TESTS_COMMON_AUTH_MANAGER", "fab") == "fab"
        else "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    ),
)

_environment = {name: value for name, value in os.environ.items() if name != "AUTH_PATCHES_REPLACED"}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "db_test: the test uses the metadata database")
    config.addinivalue_line("markers", "backend(*names): the test runs on these databases only")


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _providers_configuration() -> None:
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()


@pytest.fixture(scope="session")
def _initialised_database() -> None:
    if not (folder := os.environ.get("AUTH_PATCHES_DATABASES")):
        from airflow.utils.db import initdb

        initdb()
        return
    template = Path(folder) / f"{_installed()}.db"
    if not template.exists():
        template.parent.mkdir(parents=True, exist_ok=True)
        draft = template.with_suffix(f".{os.getpid()}")
        # With the configuration above, which a test may have changed meanwhile.
        made_by = {**_environment, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{draft}"}
        initialise = "from airflow.utils.db import initdb; initdb()"
        subprocess.run([sys.executable, "-c", initialise], env=made_by, check=True, capture_output=True)
        draft.replace(template)  # atomic, because other runs may create it at the same time
    _copy(template, Path(_home) / "unittests.db")


def _installed() -> str:
    """Return a digest of the installed packages, which determine an empty database."""
    found = sorted(distributions(), key=lambda each: (each.metadata["Name"], each.version))
    digest = hashlib.sha256(sys.version.encode())
    for each in found:
        name = each.metadata["Name"]
        told = each.read_text("RECORD") if name.startswith("apache-airflow") else ""
        digest.update(f"{name} {each.version}\n{told}".encode())
    return digest.hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copy a SQLite database with its write-ahead log; the target may be open."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
        # The backup does not copy it, and Airflow can only set it with exclusive access.
        (mode,) = one.execute("PRAGMA journal_mode").fetchone()
        other.execute(f"PRAGMA journal_mode = {mode}")


@pytest.fixture(autouse=True)
def _database(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("db_test"):
        request.getfixturevalue("_initialised_database")


@pytest.fixture
def session():
    """Return a new session, which is rolled back and closed at the end."""
    from airflow import settings

    session = settings.NonScopedSession()
    try:
        yield session
    finally:
        session.rollback()
        session.close()
