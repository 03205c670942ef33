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
What the clean-up after a request leaves of a session that could not be removed.

The clean-up runs on the event loop. Here that is the thread of the test, so the session that it removes is
the one that the test opens with ``settings.Session``.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow import settings
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.providers.fab.auth_manager import fab_auth_manager
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    # The collector would give back a forgotten connection, now and then.
    gc.disable()
    yield engine
    gc.enable()
    engine.dispose()


@pytest.fixture
def app(engine: Engine) -> Iterator[FastAPI]:
    """Return FAB's FastAPI application, with a page before Flask's mount, which takes every path."""
    purge_cached_app()
    with conf_vars({("fab", "update_fab_perms"): "False"}):
        create_auth_manager()
        app = FabAuthManager().get_fastapi_app()
    assert app is not None

    async def page(request: Request) -> Response:
        return JSONResponse("page")

    async def query(request: Request) -> Response:
        return JSONResponse(settings.Session.scalar(text("SELECT 'answer'")))

    app.router.routes[:0] = [Route("/page", page), Route("/query", query)]
    settings.Session.remove()
    assert engine.pool.checkedout() == 0
    yield app
    purge_cached_app()


def get(app: FastAPI, path: str) -> httpx.Response:
    """Request a path on an event loop of this thread; a client sees an exception as a 500."""

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return await client.get(path)

    return asyncio.run(request())


@SAVEPOINT
def test_nothing_is_left_of_a_session_whose_remove_fails(app, engine, savepoint):
    break_connection(savepoint=savepoint)
    response = get(app, "/page")

    assert (response.status_code, response.json()) == (200, "page")
    assert (engine.pool.checkedout(), settings.Session.registry.has()) == (0, False)


@SAVEPOINT
def test_next_request_can_use_the_database(app, savepoint):
    break_connection(savepoint=savepoint)
    responses = [get(app, "/page"), get(app, "/query"), get(app, "/query")]

    assert [response.status_code for response in responses] == [200, 200, 200]


def test_failing_remove_is_logged_once_as_a_warning_with_its_traceback(app):
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[assignment,method-assign]
    logger = logging.getLogger(fab_auth_manager.__name__)
    logger.addHandler(handler)
    break_connection()
    get(app, "/page")
    get(app, "/page")
    logger.removeHandler(handler)

    assert [record.levelname for record in records] == ["WARNING"]
    assert records[0].exc_info


def test_healthy_session_gives_its_connection_back_alive(app, engine):
    dbapi_connection = settings.Session.connection().connection.dbapi_connection
    get(app, "/page")

    assert (engine.pool.checkedout(), settings.Session.registry.has()) == (0, False)
    assert dbapi_connection.execute("SELECT 'alive'").fetchone() == ("alive",)


@pytest.mark.parametrize("session", [None, settings.SkipDBTestsSession], ids=["none", "fake"])
def test_session_without_a_registry_is_accepted(app, monkeypatch, session):
    monkeypatch.setattr(settings, "Session", session)

    assert get(app, "/page").status_code == 200
