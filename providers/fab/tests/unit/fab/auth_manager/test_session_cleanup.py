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
from unittest import mock

import httpx
import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
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


class SessionConnection:
    """The database connection that the session of this thread has checked out, and what can happen to it."""

    def __init__(self, *, savepoint: bool = False) -> None:
        settings.Session.execute(text("BEGIN"))
        if savepoint:
            settings.Session.begin_nested()
        self._dbapi_connection = settings.Session.connection().connection.dbapi_connection

    def die(self) -> None:
        """Be closed from below: every use of it is an error that SQLAlchemy takes for a disconnect."""
        self._dbapi_connection.close()

    def refuse(self) -> None:
        """Stay open, but fail every statement, with an error that SQLAlchemy takes for no disconnect."""
        self._dbapi_connection.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)


FAULTS = pytest.mark.parametrize("fault", [SessionConnection.die, SessionConnection.refuse])
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


def make_failing_page(error: Exception) -> Callable[[], Response]:
    def fail() -> Response:
        raise error

    return fail


def make_stream() -> Response:
    async def chunks():
        for number in range(5):
            yield f"chunk {number}\n"

    return StreamingResponse(chunks(), status_code=206, media_type="text/csv", headers={"X-Page": "yes"})


@pytest.mark.parametrize(
    "make_response",
    [
        make_plain_text,
        lambda: JSONResponse({"detail": "no such thing"}, status_code=404, headers={"X-Page": "no"}),
        lambda: RedirectResponse("/elsewhere"),
        lambda: Response(status_code=204),
        make_stream,
    ],
    ids=["200", "404", "redirect", "no-content", "stream"],
)
def test_client_gets_its_response_when_remove_fails(app, make_response):
    add_page(app, make_response)
    healthy = get(app)

    SessionConnection().die()
    response = get(app)

    assert response.status_code == healthy.status_code
    assert response.headers.raw == healthy.headers.raw
    assert response.content == healthy.content


def test_login_page_is_served_when_remove_fails(app):
    SessionConnection().die()

    response = get(app, "/login/")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert response.text.rstrip().endswith("</html>")


@FAULTS
@SAVEPOINT
def test_nothing_is_left_of_a_session_whose_remove_fails(app, engine, fault, savepoint):
    add_page(app, make_plain_text)

    fault(SessionConnection(savepoint=savepoint))
    response = get(app)

    assert (response.status_code, *left_over(engine)) == (200, 0, False)


@FAULTS
@SAVEPOINT
def test_next_request_can_use_the_database(app, engine, fault, savepoint):
    add_page(app, lambda: JSONResponse(settings.Session.scalar(text("SELECT 'answer'"))))

    fault(SessionConnection(savepoint=savepoint))
    failing = get(app, "/login/")
    following = [get(app) for _ in range(2)]

    assert [failing.status_code, *(response.status_code for response in following)] == [200, 200, 200]
    assert [response.json() for response in following] == ["answer", "answer"]
    assert left_over(engine) == (0, False)


@FAULTS
@SAVEPOINT
def test_failing_remove_is_logged_once_as_a_warning_with_its_traceback(app, records, fault, savepoint):
    add_page(app, make_plain_text)

    fault(SessionConnection(savepoint=savepoint))
    get(app)
    get(app)

    assert [record.levelname for record in records] == ["WARNING"]
    assert records[0].exc_info
    assert isinstance(records[0].exc_info[1].__cause__, sqlite3.Error)
    assert records[0].exc_info[2] is not None


def test_failing_invalidate_is_suppressed_too(app, engine, records):
    add_page(app, make_plain_text)
    tried = []

    def fail_to_invalidate(dbapi_connection, connection_record, exception):
        tried.append(dbapi_connection)
        raise RuntimeError("cannot be invalidated")

    event.listen(engine, "invalidate", fail_to_invalidate)

    SessionConnection(savepoint=True).refuse()
    response = get(app)

    assert (response.status_code, response.text, settings.Session.registry.has()) == (200, "hello", False)
    assert tried
    assert len(records) == 1


def test_connection_taken_while_remove_fails_is_let_go(app, engine):
    """A hook may begin a new transaction while the old one ends, and only then fail."""
    add_page(app, make_plain_text)
    session = settings.Session()

    def take_a_connection_and_fail(session, transaction):
        event.remove(session, "after_transaction_end", take_a_connection_and_fail)
        session.execute(text("SELECT 1"))
        raise RuntimeError("the hook fails")

    session.execute(text("SELECT 1"))
    event.listen(session, "after_transaction_end", take_a_connection_and_fail)
    response = get(app)

    assert (response.status_code, *left_over(engine)) == (200, 0, False)


@pytest.mark.parametrize("stop", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
def test_exception_that_is_to_stop_the_process_is_not_suppressed(app, engine, records, stop):
    add_page(app, make_plain_text)

    def raise_stop(connection):
        raise stop

    settings.Session.execute(text("SELECT 1"))
    event.listen(engine, "rollback", raise_stop)
    raised = exception_of(app)
    event.remove(engine, "rollback", raise_stop)

    assert type(raised) is stop
    assert records == []


def test_exception_of_the_request_propagates(app, engine, records):
    error = ValueError("the request's own")
    add_page(app, make_failing_page(error))

    settings.Session.execute(text("SELECT 1"))

    assert exception_of(app) is error
    assert left_over(engine) == (0, False)
    assert records == []


@FAULTS
@SAVEPOINT
def test_exception_of_the_request_wins_over_that_of_remove(app, records, fault, savepoint):
    error = ValueError("the request's own")
    add_page(app, make_failing_page(error))

    fault(SessionConnection(savepoint=savepoint))
    raised = exception_of(app)

    assert raised is error
    assert error.__cause__ is None
    assert len(records) == 1
    assert records[0].exc_info[1] is not error


def test_healthy_session_is_removed_once_and_quietly(app, engine, records):
    add_page(app, make_plain_text)

    settings.Session.execute(text("SELECT 1"))
    with mock.patch.object(settings.Session, "remove", wraps=settings.Session.remove) as remove:
        response = get(app)

    assert (response.status_code, response.text) == (200, "hello")
    remove.assert_called_once_with()
    assert left_over(engine) == (0, False)
    assert records == []


def test_healthy_session_gives_its_connection_back_alive(app, engine):
    add_page(app, make_plain_text)

    dbapi_connection = settings.Session.connection().connection.dbapi_connection
    get(app)

    assert engine.pool.checkedout() == 0
    assert dbapi_connection.execute("SELECT 'alive'").fetchone() == ("alive",)


def test_no_session_is_made_where_there_is_none(app, engine, records, monkeypatch):
    add_page(app, make_plain_text)
    made = []

    def make_session():
        made.append(settings.NonScopedSession())
        return made[-1]

    monkeypatch.setattr(settings.Session.registry, "createfunc", make_session)
    response = get(app)

    assert (response.status_code, response.text) == (200, "hello")
    assert made == []
    assert records == []


def test_orm_may_be_gone(app, records, monkeypatch):
    add_page(app, make_plain_text)
    monkeypatch.setattr(settings, "Session", None)

    response = get(app)

    assert (response.status_code, response.text) == (200, "hello")
    assert records == []
