"""
Pytest plugin for upstream's own tests, in addition to :mod:`tests_common.pytest_plugin`.

Load it after that plugin. Every test gets an initialised database with FAB's roles. The fixture ``session``
returns the session of the thread, which the tested code uses too.
"""

from __future__ import annotations

import os
from types import TracebackType

import pytest

from tests_common.test_utils.config import conf_vars

FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
# The provider reads it at import; a test of the user cache waits until it expires.
os.environ["AIRFLOW__FAB__CACHE_TTL"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker in item.iter_markers("backend"):
            if "sqlite" not in marker.args:
                item.add_marker(pytest.mark.skip(reason=f"for {', '.join(marker.args)} only"))


@pytest.fixture(scope="session")
def _initialised_database() -> None:
    """Create the tables of Airflow and FAB, and FAB's roles; leave no auth manager behind."""
    from airflow.api_fastapi.app import purge_cached_app
    from airflow.providers.fab.www.app import create_app
    from airflow.utils.db import initdb

    with conf_vars({("core", "auth_manager"): FAB}):
        initdb()
        app = create_app(enable_plugins=False)
        with app.app_context():
            app.appbuilder.sm.sync_roles()
    purge_cached_app()


@pytest.fixture(scope="session", autouse=True)
def _database_for_all(_initialised_database: None) -> None:
    """Initialise the database also for tests without the marker."""


@pytest.fixture
def cleanup_providers_manager():
    """Give this test, and the next one, a new providers manager."""
    from airflow.providers_manager import ProvidersManager

    ProvidersManager()._cleanup()
    ProvidersManager().initialize_providers_configuration()
    yield
    ProvidersManager()._cleanup()
    ProvidersManager().initialize_providers_configuration()


@pytest.fixture(autouse=True)
def _same_environment():
    """Restore the environment variables after a test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def session():
    """Return the session of this thread; it is rolled back at the end."""
    from airflow.utils.session import create_session

    with create_session() as session:
        yield session
        session.rollback()


@pytest.fixture
def testing_dag_bundle() -> None:
    """Create the bundle of the tests' Dags."""
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    from tests_common.test_utils.dag import BUNDLE

    with create_session() as session:
        session.merge(DagBundleModel(name=BUNDLE))


class DagMaker:
    """
    Create Dags, and write each to the database at the end of its ``with`` block.

    :param session: the session to write them with.
    """

    def __init__(self, session) -> None:
        self.session = session

    def __call__(self, dag_id: str, **arguments) -> DagMaker:
        """Create a Dag. The arguments are those of ``DAG``."""
        from airflow.sdk import DAG

        self.dag = DAG(dag_id, **arguments)
        return self

    def __enter__(self):
        return self.dag.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        from tests_common.test_utils.dag import sync_dag_to_db

        self.dag.__exit__(kind, error, trace)
        if kind is None:
            sync_dag_to_db(self.dag, session=self.session)


@pytest.fixture
def dag_maker(session) -> DagMaker:
    """Return a factory of Dags."""
    return DagMaker(session)
