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
"""The user of requests without a token, where ``[fab] auth_role_public`` names a role for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from airflow import settings
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.api_fastapi.core_api import security
from airflow.providers.fab.auth_manager import middleware
from airflow.providers.fab.auth_manager.middleware import FabAuthRolePublicMiddleware
from airflow.providers.fab.auth_manager.models import Action, Permission, Resource, Role

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from fastapi import FastAPI

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite"), pytest.mark.asyncio]

NAME = "public-user"
PAGE = "/api/v2/variables"
DEADLINE = 20


def on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def changes():
    with settings.NonScopedSession() as session:
        yield session
        session.commit()


class RoleQueries:
    """The queries for the role, and whether each ran on the loop; a test can hold them or make them fail."""

    def __init__(self) -> None:
        self.on_loop: list[bool] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def __call__(self, conn, cursor, statement, parameters, context, executemany) -> None:
        if "FROM ab_role" not in statement or NAME not in str(parameters):
            return
        self.on_loop.append(on_loop())
        self.begun.release()
        if not self.on_loop[-1]:
            assert self.go_on.wait(DEADLINE)
        if self.error is not None:
            raise self.error


@pytest.fixture
def queries(role: None) -> Iterator[RoleQueries]:
    queries = RoleQueries()
    event.listen(settings.engine, "before_cursor_execute", queries)
    yield queries
    queries.go_on.set()
    event.remove(settings.engine, "before_cursor_execute", queries)


def find_or_make(session, model, **values):
    found = session.scalars(select(model).filter_by(**values)).unique().first()
    if found is None:
        session.add(found := model(**values))
        session.flush()
    return found


def permit(*permissions: tuple[str, str]) -> None:
    """Let the public do this and nothing else."""
    with changes() as session:
        find_or_make(session, Role, name=NAME).permissions = [
            find_or_make(
                session,
                Permission,
                action_id=find_or_make(session, Action, name=action).id,
                resource_id=find_or_make(session, Resource, name=resource).id,
            )
            for action, resource in permissions
        ]


def remove_role() -> None:
    with changes() as session:
        for found in session.scalars(select(Role).where(Role.name == NAME)).unique():
            session.delete(found)


@pytest.fixture
def role(app: FastAPI) -> None:
    """Let the public read variables."""
    permit(("can_read", "Variables"))


@pytest.fixture(autouse=True)
def _public_role() -> Iterator[None]:
    with conf_vars({("fab", "auth_role_public"): NAME}):
        yield


class Trusted:
    """Mark the user of every request as one that core may trust."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        scope.setdefault("state", {})["user_authenticated_via"] = security.USER_INJECTED_BY_TRUSTED_MIDDLEWARE
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    purge_cached_app()
    with conf_vars({("fab", "auth_role_public"): NAME}):
        app = create_app(apps="core")
        if not hasattr(BaseAuthManager, "get_fastapi_middlewares"):
            # Core adds the middleware of the auth manager from 3.3 on.
            app.add_middleware(FabAuthRolePublicMiddleware)
        elif not hasattr(middleware, "core_api_security"):
            # Core asks for the mark from 3.3 on, the provider sets it from 3.7.3 on.
            app.add_middleware(Trusted)
        yield app
    purge_cached_app()
    remove_role()


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return make_client(app)


def make_client(app: FastAPI, root_path: str = "") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, root_path=root_path)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def status(client: httpx.AsyncClient, path: str = PAGE, **more: Any) -> int:
    return (await asyncio.wait_for(client.get(path, **more), DEADLINE)).status_code


async def test_server_answers_while_the_public_user_is_read(client, queries):
    queries.go_on.clear()
    public = asyncio.create_task(client.get(PAGE))
    try:
        assert await asyncio.to_thread(queries.begun.acquire, timeout=DEADLINE)
        with_token = await status(client, "/api/v2/version", headers={"Authorization": "Bearer of somebody"})
        answered_first = not public.done()
    finally:
        queries.go_on.set()
        answer = await asyncio.wait_for(public, DEADLINE)

    assert (with_token, answer.status_code) == (200, 200)
    assert answered_first
    assert queries.on_loop == [False]


async def test_nothing_is_asked_of_the_database_on_the_loop(client, queries):
    asked: list[tuple[str, bool]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *args: asked.append((name, on_loop()))

    listeners = {name: note(name) for name in ("before_cursor_execute", "checkout", "checkin", "commit")}
    for name, listener in listeners.items():
        event.listen(settings.engine, name, listener)
    try:
        answered = await status(client)
    finally:
        for name, listener in listeners.items():
            event.remove(settings.engine, name, listener)

    assert answered == 200
    assert {name for name, _ in asked} == set(listeners)
    assert [name for name, loop in asked if loop] == []


@pytest.mark.parametrize("root_path", ["", "/airflow"])
@pytest.mark.parametrize(
    "path",
    [
        "/api/v2/monitor/health",
        "/api/v2/version",
        "/auth/login",
        "/auth/token",
        "/execution/health",
        "/static/no-such-file",
    ],
)
async def test_request_that_needs_no_user_does_not_look_one_up(app, queries, path, root_path):
    await status(make_client(app, root_path), root_path + path)

    assert queries.on_loop == []


@pytest.mark.parametrize("path", ["/api/v2/version", "/api/v2/monitor/health"])
async def test_probe_without_a_token_answers_while_the_role_cannot_be_read(client, queries, path):
    queries.error = OperationalError("the query fails", None, Exception())

    assert await status(client, path) == 200


async def test_public_has_the_rights_of_its_role_and_no_more(client, queries):
    seen = [await status(client), await status(client, "/api/v2/pools")]
    seen.append((await client.post(PAGE, json={"key": "k", "value": "v"})).status_code)

    assert seen == [200, 403, 403]


async def test_rights_count_from_the_next_request_on(client, queries):
    seen = [await status(client, "/api/v2/pools")]
    permit(("can_read", "Pools"))
    seen += [await status(client, "/api/v2/pools"), await status(client)]
    permit()
    seen.append(await status(client, "/api/v2/pools"))

    assert seen == [403, 200, 403, 403]


async def test_missing_role_is_an_error(client, queries):
    remove_role()

    assert await status(client) == 500


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer of nobody"}, {"Cookie": "_token=of-nobody"}],
    ids=["header", "cookie"],
)
async def test_bad_token_is_refused_and_reads_no_public_user(client, queries, headers):
    assert await status(client, headers=headers) in (401, 403)
    assert queries.on_loop == []


async def test_error_of_the_database_is_an_error_of_its_request_alone(client, queries):
    queries.error = OperationalError("the query fails", None, Exception())
    failed = await status(client)
    queries.error = None

    assert (failed, await status(client)) == (500, 200)
