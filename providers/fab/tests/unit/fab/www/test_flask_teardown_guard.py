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
The end of a request to FAB's Flask application, when the connection of its session is dead.

The page is served by the real Flask application within FAB's real FastAPI application, or its teardown runs
in the thread of the test, when an application context ends.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sqlite3
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool
from starlette.routing import Mount

from airflow import settings
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.www import app
from airflow.providers.fab.www.app import create_app

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI
    from flask import Flask
    from sqlalchemy.engine import Engine

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite")]

PAGE = "a page of some length\n" * 1000


def break_connection(*, savepoint: bool = False) -> None:
    """Use the session of this thread, and close its connection as the database does."""
    settings.Session.execute(text("BEGIN"))
    if savepoint:
        settings.Session.begin_nested()
    settings.Session.connection().connection.dbapi_connection.close()


SAVEPOINT = pytest.mark.parametrize("savepoint", [False, True], ids=["no-savepoint", "savepoint"])


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Put Airflow on an engine and a scoped session of the test's own, with nothing checked out."""
    engine = create_engine(
        settings.SQL_ALCHEMY_CONN,
        poolclass=QueuePool,
        connect_args={"check_same_thread": False},
        future=True,
    )
    factory = sessionmaker(engine, autoflush=False, expire_on_commit=False)
    monkeypatch.setattr(settings, "engine", engine)
    monkeypatch.setattr(settings, "NonScopedSession", factory)
    monkeypatch.setattr(settings, "Session", scoped_session(factory))
    purge_cached_app()
    # The collector would give back a forgotten connection, now and then.
    gc.disable()
    with conf_vars({("fab", "session_backend"): "securecookie", ("fab", "update_fab_perms"): "False"}):
        yield engine
    gc.enable()
    purge_cached_app()
    engine.dispose()


@pytest.fixture(params=[False, True], ids=["auth-manager", "plugins"])
def flask_app(request: pytest.FixtureRequest, engine: Engine) -> Flask:
    """Return the Flask application of the auth manager, and that of Airflow 2's plugins."""
    create_auth_manager()
    app = create_app(enable_plugins=request.param)
    settings.Session.remove()
    assert engine.pool.checkedout() == 0
    return app


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Return the list of what the module logs from a warning on."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[assignment,method-assign]
    logger = logging.getLogger(app.__name__)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def left_over(engine: Engine) -> tuple[int, bool]:
    """Return how many connections are checked out, and whether this thread still has a session."""
    return engine.pool.checkedout(), settings.Session.registry.has()


def use(app: Flask, view: Callable[[], object]) -> BaseException | None:
    """Run a view in a context of the application, and return the exception that leaves it."""
    try:
        with app.app_context():
            view()
    except BaseException as error:
        return error
    return None


def get_page(view: Callable[[], str]) -> httpx.Response:
    """Request a page of the Flask application within the FastAPI application; truncated if it fails late."""
    create_auth_manager()
    app: FastAPI | None = FabAuthManager().get_fastapi_app()
    assert app is not None
    wsgi = next(route.app for route in app.routes if isinstance(route, Mount))
    wsgi.app.add_url_rule("/page", view_func=view)
    settings.Session.remove()

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.get("/page")

    return asyncio.run(request())


@pytest.mark.parametrize("backend", ["database", "securecookie"])
def test_page_is_whole_when_its_connection_dies(backend):
    def page():
        break_connection()
        return PAGE

    with conf_vars({("fab", "session_backend"): backend}):
        usual = get_page(lambda: PAGE)
        response = get_page(page)

    # Some releases write no secure cookie with the werkzeug of their day: there each page is a 500.
    assert backend == "securecookie" or (usual.status_code, usual.text) == (200, PAGE)
    assert (response.status_code, response.text) == (usual.status_code, usual.text)


@SAVEPOINT
def test_nothing_is_left_of_a_session_whose_remove_fails(flask_app, engine, savepoint):
    error = use(flask_app, lambda: break_connection(savepoint=savepoint))

    assert (error, *left_over(engine)) == (None, 0, False)
    assert settings.Session.scalar(text("SELECT 'answer'")) == "answer"


@SAVEPOINT
def test_failing_remove_is_logged_once_as_a_warning_with_its_traceback(flask_app, records, savepoint):
    use(flask_app, lambda: break_connection(savepoint=savepoint))
    use(flask_app, lambda: None)

    assert [record.levelname for record in records] == ["WARNING"]
    assert records[0].exc_info
    assert isinstance(records[0].exc_info[1].__cause__, sqlite3.Error)


def test_session_that_cannot_be_closed_is_not_met_again(flask_app, engine, monkeypatch):
    def fail(session):
        raise RuntimeError("cannot be closed")

    monkeypatch.setattr(settings.NonScopedSession.class_, "close", fail)
    error = use(flask_app, lambda: settings.Session.execute(text("SELECT 1")))

    assert (error, settings.Session.registry.has()) == (None, False)


def test_exception_of_the_request_wins_over_that_of_remove(flask_app):
    error = ValueError("the request's own")

    def view():
        break_connection()
        raise error

    assert use(flask_app, view) is error


@pytest.mark.parametrize("stop", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_exception_that_stops_the_process_is_not_suppressed(flask_app, engine, stop):
    def raise_stop(connection):
        raise stop

    def view():
        settings.Session.execute(text("SELECT 1"))
        event.listen(engine, "rollback", raise_stop)

    raised = use(flask_app, view)
    event.remove(engine, "rollback", raise_stop)

    assert type(raised) is stop


def test_healthy_session_gives_its_connection_back_alive(flask_app, engine, records):
    connections = []

    def view():
        settings.Session.execute(text("SELECT 1"))
        connections.append(settings.Session.connection().connection.dbapi_connection)

    assert use(flask_app, view) is None
    assert left_over(engine) == (0, False)
    assert connections[0].execute("SELECT 'alive'").fetchone() == ("alive",)
    assert records == []


def test_session_without_a_registry_is_accepted(flask_app, records, monkeypatch):
    extension = flask_app.extensions["sqlalchemy"]
    monkeypatch.setattr(getattr(extension, "db", extension), "session", settings.SkipDBTestsSession)

    assert use(flask_app, lambda: None) is None
    assert records == []
