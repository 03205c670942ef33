"""
Pytest plugin: a fresh AIRFLOW_HOME with its own SQLite database, and the monorepo's markers.

It must be loaded with ``-p`` before anything imports Airflow. ``AIRFLOW_HOME`` is a temporary folder that
goes with the session. Tests marked ``db_test`` get an initialised database; the first one pays for it.
"""

from __future__ import annotations

import os
import shutil
import tempfile

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
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(autouse=True)
def _database(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("db_test"):
        request.getfixturevalue("_initialised_database")


@pytest.fixture
def session():
    """Return a session of the test's own that is rolled back and closed at the end."""
    from airflow import settings

    session = settings.NonScopedSession()
    try:
        yield session
    finally:
        session.rollback()
        session.close()
