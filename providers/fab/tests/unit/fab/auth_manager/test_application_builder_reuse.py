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
"""
What a request to FAB's synchronous FastAPI routes leaves behind: Flask apps, sessions and connections.

Each request is served by FAB's real FastAPI application, on a worker thread that ends with it.
"""

from __future__ import annotations

import gc
import os
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from flask import Flask, current_app
from sqlalchemy import create_engine, delete, event, select, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import Pool, QueuePool

import airflow
from airflow import settings
from airflow.api_fastapi.app import get_auth_manager, init_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.core_api.security import get_user
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import Role, User
from airflow.providers.fab.www import utils
from airflow.providers.fab.www.extensions.init_appbuilder import AirflowAppBuilder

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    """Put Airflow on an engine and a scoped session of the test's own, with nothing checked out."""
    engine = create_engine(
        settings.SQL_ALCHEMY_CONN,
        poolclass=QueuePool,
        # More than all requests of a test could keep.
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
    """Return the set of connections that are open, of whatever engine, from now on."""
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
def made(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Flask]]:
    """Return the list of Flask apps that are made from now on."""
    made: list[weakref.ref[Flask]] = []
    init = Flask.__init__

    def note_and_init(self, *args, **kwargs):
        made.append(weakref.ref(self))
        init(self, *args, **kwargs)

    monkeypatch.setattr(Flask, "__init__", note_and_init)
    return made


@pytest.fixture
def client(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Return a client of FAB's FastAPI application that may do everything, and one user with a password."""
    monkeypatch.setattr(FabAuthManager, "is_authorized_custom_view", lambda *_, **__: True)
    app = init_auth_manager().get_fastapi_app()
    assert app is not None
    app.dependency_overrides[get_user] = lambda: SimpleNamespace(id=1, username="tester")
    with get_application_builder() as appbuilder:
        role = appbuilder.sm.find_role("Admin")
        assert appbuilder.sm.add_user("reuse", "a", "b", "reuse@example.com", role, password="secret")
    settings.Session.remove()
    # The collector would give back a forgotten connection, now and then.
    gc.disable()
    yield TestClient(app, raise_server_exceptions=False, follow_redirects=False)
    gc.enable()
    gc.collect()
    with settings.NonScopedSession() as session:
        user = session.scalars(select(User).where(User.username == "reuse")).unique().one()
        session.delete(user)
        session.commit()


def use_application_builder() -> None:
    with get_application_builder() as appbuilder:
        assert current_app.appbuilder is appbuilder


def exception_of(function: Callable[[], None]) -> Exception | None:
    try:
        function()
    except Exception as error:
        return error
    return None


def ask(client: TestClient, method: str, path: str, body: dict | None, status: int) -> tuple[str, str, int]:
    """Make a request twice, and return it in a short form, to name it in a failure."""
    for _ in range(2):
        assert client.request(method, path, json=body).status_code == status
    return method, path, status


def test_requests_make_no_flask_app(client, made):
    made_by = {}
    for request in REQUESTS:
        before = len(made)
        name = ask(client, *request)
        made_by[name] = len(made) - before

    assert {request: count for request, count in made_by.items() if count} == {}


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


def test_route_that_raises_keeps_no_connection(client, engine, open_connections, monkeypatch):
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


def test_flask_apps_of_commands_go(made):
    for _ in range(3):
        with get_application_builder():
            pass
    gc.collect()

    assert len(made) == 3
    # The auth manager keeps the app builder that was made last.
    assert sum(app() is not None for app in made) <= 1


def test_command_makes_a_flask_app_of_its_own(made):
    with get_application_builder() as appbuilder:
        assert isinstance(appbuilder, AirflowAppBuilder)
        assert current_app.appbuilder is appbuilder
        assert current_app.static_folder == os.path.join(os.path.dirname(airflow.__file__), "www", "static")
        assert len(made) == 1


def test_command_with_another_auth_manager_makes_a_flask_app_of_its_own(made, monkeypatch):
    monkeypatch.setattr(utils, "get_auth_manager", SimpleAuthManager)

    assert exception_of(use_application_builder) is None
    assert len(made) == 1


def test_role_is_made_and_found_again(client):
    try:
        assert client.post("/fab/v1/roles", json={"name": "reuse", "actions": []}).status_code == 200
        assert client.get("/fab/v1/roles/reuse").json()["name"] == "reuse"
    finally:
        with settings.NonScopedSession() as session:
            session.execute(delete(Role).where(Role.name == "reuse"))
            session.commit()
    assert client.get("/fab/v1/roles/reuse").status_code == 404
