#
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
The clean-up of the scoped session after each request to FAB's FastAPI application.

The clean-up runs on the event loop. Here that is the thread of the test, so the session that it removes is
the one that the test, or a page of its own, opens with ``settings.Session``.
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
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from airflow import settings
from airflow.api_fastapi.app import purge_cached_app
from airflow.providers.fab.auth_manager import fab_auth_manager
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI
    from sqlalchemy.engine import Engine
    from starlette.requests import Request

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite")]


def break_connection(*, savepoint: bool = False) -> None:
    """Use the session of this thread, and close its connection as the database does."""
    settings.Session.execute(text("BEGIN"))
    if savepoint:
        settings.Session.begin_nested()
    settings.Session.connection().connection.dbapi_connection.close()


SAVEPOINT = pytest.mark.parametrize("savepoint", [False, True], ids=["no-savepoint", "savepoint"])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch):
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
    # The collector would give back a forgotten connection, now and then.
    gc.disable()
    yield engine
    gc.enable()
    engine.dispose()


@pytest.fixture
def app(engine: Engine):
    """Return FAB's FastAPI application, with its real Flask application behind it."""
    purge_cached_app()
    app = FabAuthManager().get_fastapi_app()
    assert app is not None
    settings.Session.remove()
    assert engine.pool.checkedout() == 0
    yield app
    purge_cached_app()


@pytest.fixture
def records(app: FastAPI):
    """Return the list of what the module logs."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[assignment,method-assign]
    logger = logging.getLogger(fab_auth_manager.__name__)
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def add_page(app: FastAPI, make_response: Callable[[], Response]) -> None:
    """Serve ``/page``; before Flask's mount, which takes every path."""

    async def page(request: Request) -> Response:
        return make_response()

    app.router.routes.insert(0, Route("/page", page))


def get(app: FastAPI, path: str = "/page", *, raise_app_exceptions: bool = False) -> httpx.Response:
    """Request a path on an event loop of this thread; a client sees an exception as a 500."""

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=raise_app_exceptions)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.get(path)

    return asyncio.run(request())


def left_over(engine: Engine) -> tuple[int, bool]:
    """Return how many connections are checked out, and whether this thread still has a session."""
    return engine.pool.checkedout(), settings.Session.registry.has()


def exception_of(app: FastAPI) -> BaseException | None:
    """Request the page and return the exception that leaves the application."""
    try:
        get(app, raise_app_exceptions=True)
    except BaseException as error:
        return error
    return None


def make_plain_text() -> Response:
    response = PlainTextResponse("hello", headers={"X-Page": "yes"})
    response.set_cookie("one", "1")
    response.set_cookie("two", "2")
    return response


def make_stream() -> Response:
    async def chunks():
        for number in range(5):
            yield f"chunk {number}\n"

    return StreamingResponse(chunks(), status_code=206, media_type="text/csv", headers={"X-Page": "yes"})


@pytest.mark.parametrize(
    "make_response",
    [make_plain_text, lambda: JSONResponse({"detail": "no such thing"}, status_code=404), make_stream],
    ids=["200", "404", "stream"],
)
def test_client_gets_its_response_when_remove_fails(app, make_response):
    add_page(app, make_response)
    healthy = get(app)

    break_connection()
    response = get(app)

    assert response.status_code == healthy.status_code
    assert response.headers.raw == healthy.headers.raw
    assert response.content == healthy.content


def test_login_page_is_served_when_remove_fails(app):
    break_connection()

    response = get(app, "/login/")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.rstrip().endswith("</html>")


@SAVEPOINT
def test_next_request_can_use_the_database(app, engine, savepoint):
    add_page(app, lambda: JSONResponse(settings.Session.scalar(text("SELECT 'answer'"))))

    break_connection(savepoint=savepoint)
    failing = get(app, "/login/")
    nothing_left = left_over(engine)
    following = get(app)

    assert (failing.status_code, nothing_left) == (200, (0, False))
    assert (following.status_code, following.json()) == (200, "answer")


def test_failing_remove_is_logged_once_as_a_warning_with_its_traceback(app, records):
    add_page(app, make_plain_text)

    break_connection()
    get(app)
    get(app)

    assert [record.levelname for record in records] == ["WARNING"]
    assert records[0].exc_info
    assert isinstance(records[0].exc_info[1].__cause__, sqlite3.Error)


@pytest.mark.parametrize("stop", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_exception_that_stops_the_process_is_not_suppressed(app, engine, records, stop):
    add_page(app, make_plain_text)

    def raise_stop(connection):
        raise stop

    settings.Session.execute(text("SELECT 1"))
    event.listen(engine, "rollback", raise_stop)
    raised = exception_of(app)
    event.remove(engine, "rollback", raise_stop)

    assert type(raised) is stop
    assert records == []


@pytest.mark.parametrize("broken", [False, True], ids=["healthy", "broken"])
def test_exception_of_the_request_propagates(app, engine, records, broken):
    error = ValueError("the request's own")

    def fail() -> Response:
        raise error

    add_page(app, fail)
    if broken:
        break_connection()

    assert exception_of(app) is error
    assert error.__cause__ is None
    assert left_over(engine) == (0, False)
    assert len(records) == broken


def test_healthy_session_gives_its_connection_back_alive(app, engine):
    add_page(app, make_plain_text)

    dbapi_connection = settings.Session.connection().connection.dbapi_connection
    get(app)

    assert left_over(engine) == (0, False)
    assert dbapi_connection.execute("SELECT 'alive'").fetchone() == ("alive",)


@pytest.mark.parametrize("session", [None, settings.SkipDBTestsSession], ids=["none", "fake"])
def test_session_without_a_registry_is_accepted(app, records, monkeypatch, session):
    add_page(app, make_plain_text)
    monkeypatch.setattr(settings, "Session", session)

    response = get(app)

    assert (response.status_code, response.text) == (200, "hello")
    assert records == []
