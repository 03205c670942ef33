# Licensed to the Apache Software Foundation (ASF) under one
# or more contributor license agreements.  See the NOTICE file
# distributed with this work for additional information
# regarding copyright ownership.  The ASF licenses this file
# to you under the Apache License, Version 2.0 (the
# "License"); you may not use this file except in compliance
# with the License.  You may obtain a copy of the License at
#
#   http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing,
# software distributed under the License is distributed on an
# "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
# KIND, either express or implied.  See the License for the
# specific language governing permissions and limitations
# under the License.
"""Check that requests to FAB's synchronous FastAPI routes keep no Flask app, session or connection."""

from __future__ import annotations

import gc
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from flask import Flask, current_app
from sqlalchemy import create_engine, delete, event, select, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import Pool, QueuePool
from werkzeug.security import generate_password_hash

import airflow
from airflow import settings
from airflow.api_fastapi.app import get_auth_manager, init_auth_manager, purge_cached_app
from airflow.api_fastapi.core_api.security import get_user
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import Role, User
from airflow.providers.fab.www.extensions.init_appbuilder import AirflowAppBuilder

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite")]

PASSWORD = {"username": "reuse", "password": "secret"}
WRONG_PASSWORD = {"username": "reuse", "password": "wrong"}
UNKNOWN_USER = {"username": "unknown", "password": "secret"}

REQUESTS = [
    ("POST", "/token", PASSWORD, 201),
    ("POST", "/token", WRONG_PASSWORD, 401),
    ("POST", "/token", UNKNOWN_USER, 401),
    ("POST", "/token", {}, 400),
    ("POST", "/token/cli", PASSWORD, 201),
    ("POST", "/token/cli", WRONG_PASSWORD, 401),
    ("GET", "/logout", None, 307),
    ("GET", "/fab/v1/users/unknown", None, 404),
    ("GET", "/fab/v1/roles", None, 200),
    ("GET", "/fab/v1/roles/Admin", None, 200),
    ("GET", "/fab/v1/roles/unknown", None, 404),
    ("POST", "/fab/v1/roles", {"name": "Admin", "actions": []}, 409),
    ("GET", "/fab/v1/permissions", None, 200),
]


class OnPurposeError(Exception):
    pass


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Give Airflow an engine and a scoped session of this test, with no connection checked out."""
    engine = create_engine(
        settings.SQL_ALCHEMY_CONN,
        poolclass=QueuePool,
        # More than all requests of a test can keep.
        pool_size=100,
        connect_args={"check_same_thread": False},
        future=True,
    )
    factory = sessionmaker(engine, autoflush=False, expire_on_commit=False)
    monkeypatch.setattr(settings, "engine", engine)
    monkeypatch.setattr(settings, "NonScopedSession", factory)
    monkeypatch.setattr(settings, "Session", scoped_session(factory))
    purge_cached_app()
    with conf_vars({("fab", "update_fab_perms"): "False"}):
        yield engine
    settings.Session.remove()
    purge_cached_app()
    engine.dispose()


@pytest.fixture
def open_connections(engine: Engine) -> Iterator[set[int]]:
    """Return the set of connections of all engines that are opened from now on and not closed."""
    found: set[int] = set()

    def opened(dbapi_connection, connection_record):
        found.add(id(dbapi_connection))

    def closed(dbapi_connection, connection_record):
        found.discard(id(dbapi_connection))

    event.listen(Pool, "connect", opened)
    event.listen(Pool, "close", closed)
    yield found
    event.remove(Pool, "connect", opened)
    event.remove(Pool, "close", closed)


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of each Flask app that is created from now on."""
    created: list[str] = []
    init = Flask.__init__

    def record_and_init(self, *args, **kwargs):
        init(self, *args, **kwargs)
        created.append(self.name)

    monkeypatch.setattr(Flask, "__init__", record_and_init)
    return created


@pytest.fixture
def client(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Return a client of FAB's FastAPI application that may do everything, and one user with a password."""
    monkeypatch.setattr(FabAuthManager, "is_authorized_custom_view", lambda *_, **__: True)
    app = init_auth_manager().get_fastapi_app()
    assert app is not None
    app.dependency_overrides[get_user] = lambda: SimpleNamespace(id=1, username="tester")
    with settings.NonScopedSession() as session:
        names = {"username": "reuse", "first_name": "a", "last_name": "b", "email": "reuse@example.com"}
        session.add(User(**names, active=True, password=generate_password_hash("secret")))
        session.commit()
    # The collector would now and then close a forgotten connection.
    gc.disable()
    yield TestClient(app, raise_server_exceptions=False, follow_redirects=False)
    gc.enable()
    gc.collect()
    with settings.NonScopedSession() as session:
        user = session.scalars(select(User).where(User.username == "reuse")).unique().one()
        session.delete(user)
        session.commit()


def ask(client: TestClient, method: str, path: str, body: dict | None, status: int) -> tuple[str, str, int]:
    """Send a request twice and return a short form of it, which names it in a failure."""
    for _ in range(2):
        assert client.request(method, path, json=body).status_code == status
    return method, path, status


def test_requests_create_no_flask_app(client, created):
    created_by = {}
    for request in REQUESTS:
        before = len(created)
        name = ask(client, *request)
        created_by[name] = len(created) - before

    assert {request: count for request, count in created_by.items() if count} == {}


def test_requests_keep_no_connection(client, engine, open_connections):
    kept_by = {}
    ask(client, *REQUESTS[0])  # opens the one that all use
    for request in REQUESTS:
        before = engine.pool.checkedout(), len(open_connections)
        name = ask(client, *request)
        if (after := (engine.pool.checkedout(), len(open_connections))) != before:
            kept_by[name] = f"{before} -> {after}"

    assert kept_by == {}
    assert engine.pool.checkedout() == 0


def test_failing_route_keeps_no_connection(client, engine, open_connections, monkeypatch):
    from airflow.providers.fab.auth_manager.api_fastapi.services.roles import FABAuthManagerRoles

    def fail(**kwargs):
        settings.Session.execute(text("SELECT 1"))
        raise OnPurposeError

    monkeypatch.setattr(FABAuthManagerRoles, "get_role", fail)
    first = client.get("/fab/v1/roles/Admin").status_code
    after_first = len(open_connections)
    following = [client.get("/fab/v1/roles/Admin").status_code for _ in range(3)]

    assert [first, *following] == [500] * 4
    assert engine.pool.checkedout() == 0
    assert len(open_connections) == after_first


def test_routes_use_the_flask_app_and_the_app_builder_of_the_server(client, monkeypatch):
    from airflow.providers.fab.auth_manager.api_fastapi.services.roles import FABAuthManagerRoles

    seen = []

    def note(**kwargs):
        seen.append((current_app._get_current_object(), get_auth_manager().security_manager))
        raise OnPurposeError

    monkeypatch.setattr(FABAuthManagerRoles, "get_role", note)
    appbuilder, security_manager = get_auth_manager().appbuilder, get_auth_manager().security_manager
    for _ in range(2):
        client.get("/fab/v1/roles/Admin")

    assert [app.appbuilder for app, _ in seen] == [appbuilder] * 2
    assert [used for _, used in seen] == [security_manager] * 2
    assert get_auth_manager().appbuilder is appbuilder


def test_command_creates_its_own_flask_app(created):
    with get_application_builder() as appbuilder:
        assert isinstance(appbuilder, AirflowAppBuilder)
        assert current_app.appbuilder is appbuilder
        assert current_app.static_folder == os.path.join(os.path.dirname(airflow.__file__), "www", "static")
        assert len(created) == 1


def test_caller_keeps_its_open_transaction(client):
    session = settings.Session()
    role = session.scalar(select(Role).where(Role.name == "Admin"))
    role.name = "changed and not committed"

    with get_application_builder() as appbuilder:
        appbuilder.sm.find_role("Public")

    assert settings.Session() is session
    assert role in session.dirty
    session.rollback()


def test_role_is_created_and_found(client):
    try:
        assert client.post("/fab/v1/roles", json={"name": "reuse", "actions": []}).status_code == 200
        assert client.get("/fab/v1/roles/reuse").json()["name"] == "reuse"
    finally:
        with settings.NonScopedSession() as session:
            session.execute(delete(Role).where(Role.name == "reuse"))
            session.commit()
    assert client.get("/fab/v1/roles/reuse").status_code == 404
