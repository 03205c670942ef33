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
from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock
from uuid import uuid4

import anyio
import httpx
import pytest
from sqlalchemy import event, select

from airflow import settings
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api import security
from airflow.api_fastapi.core_api.security import get_user
from airflow.models import Log
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

pytestmark = pytest.mark.db_test

SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
TIMEOUT = 20


def on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def listening(name: str, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(settings.engine, name, listener)
    try:
        yield
    finally:
        event.remove(settings.engine, name, listener)


@contextmanager
def database_work() -> Iterator[list[tuple[str, bool]]]:
    """Collect statements and checkouts of connections, each with whether the event loop waits for it."""
    collected: list[tuple[str, bool]] = []

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        collected.append((statement, on_event_loop()))

    def taken(connection, record, proxy) -> None:
        collected.append(("checkout", on_event_loop()))

    with listening("before_cursor_execute", before), listening("checkout", taken):
        yield collected


class AuditLogWrite:
    """
    Watch the statement that writes a row of the audit log.

    :param hold: keep each such statement waiting until it is released, unless the event loop would wait too.
    """

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self.on_loop: list[bool] = []
        self.began = threading.Event()
        self.released = threading.Event()
        self.ended = threading.Event()

    def before(self, conn, cursor, statement, parameters, context, executemany) -> None:
        if "INTO log" in statement:
            self.on_loop.append(on_event_loop())
            self.began.set()
            if self.hold and not self.on_loop[-1]:
                self.released.wait(TIMEOUT)

    def given_back(self, connection, record) -> None:
        if self.on_loop:
            self.ended.set()

    @contextmanager
    def watched(self) -> Iterator[AuditLogWrite]:
        with listening("before_cursor_execute", self.before), listening("checkin", self.given_back):
            try:
                yield self
            finally:
                self.released.set()


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    purge_cached_app()
    with conf_vars({("core", "auth_manager"): SIMPLE}):
        yield create_app(apps="core")
    purge_cached_app()


@pytest.fixture
def client_of(app) -> Callable[[str], httpx.AsyncClient]:
    def client_of(role: str) -> httpx.AsyncClient:
        token = app.state.auth_manager.generate_jwt(SimpleAuthManagerUser(username="test", role=role))
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test/api/v2",
            headers={"Authorization": f"Bearer {token}"},
        )

    return client_of


@pytest.fixture
def client(client_of) -> httpx.AsyncClient:
    return client_of("admin")


def new_pool() -> dict[str, Any]:
    return {"name": f"pool-{uuid4()}", "slots": 1}


def rows(name: str) -> list[Log]:
    """Return the rows of the audit log that name a resource, from a connection of their own."""
    with create_session(scoped=False) as session:
        return list(session.scalars(select(Log).where(Log.extra.contains(name))))


TASK_INSTANCE = "/dags/d/dagRuns/r/taskInstances/t"
LOGGED_WRITES = [
    pytest.param("POST", "/pools", {"name": "{}", "slots": 1}, 201, id="pool"),
    pytest.param("POST", "/pools", {"name": "{}", "slots": "many"}, 422, id="invalid-body"),
    pytest.param("DELETE", "/pools/{}", None, 404, id="handler-fails"),
    pytest.param("POST", "/variables", {"key": "{}", "value": "v"}, 201, id="variable"),
    pytest.param("POST", "/connections", {"connection_id": "{}", "conn_type": "http"}, 201, id="connection"),
    pytest.param("PATCH", f"{TASK_INSTANCE}?map_index=0", {"note": "{}"}, 404, id="task-instance"),
    pytest.param("PATCH", f"{TASK_INSTANCE}?map_index=x", {"note": "{}"}, 422, id="malformed-task-instance"),
]


def filled_in(template: Any, name: str) -> Any:
    return None if template is None else json.loads(json.dumps(template).replace("{}", name))


@pytest.mark.parametrize(("method", "path", "body", "status"), LOGGED_WRITES)
async def test_request_does_no_database_work_on_the_event_loop(app, client, method, path, body, status):
    name = f"name-{uuid4()}"
    user = SimpleAuthManagerUser(username="test", role="admin")
    # Without a token: its check is not part of the audit log.
    with mock.patch.dict(app.dependency_overrides, {get_user: lambda: user}), database_work() as collected:
        response = await client.request(method, path.replace("{}", name), json=filled_in(body, name))

    assert response.status_code == status, response.text
    assert [what for what, on_loop in collected if on_loop] == []
    assert ["INTO log" in what for what, on_loop in collected if not on_loop].count(True) == 1


async def test_team_of_a_resource_is_looked_up_in_a_thread(app, client):
    async def no_team(*_) -> set[str | None]:
        return {None}

    user = SimpleAuthManagerUser(username="test", role="admin")
    with (
        conf_vars({("core", "multi_team"): "True"}),
        # The authorization looks up the team too, which is not meant here.
        mock.patch.object(security, "_collect_teams_to_check", no_team, create=True),
        mock.patch.dict(app.dependency_overrides, {get_user: lambda: user}),
        database_work() as collected,
    ):
        response = await client.delete(f"/pools/name-{uuid4()}")

    assert response.status_code == 404
    assert [what for what, on_loop in collected if on_loop] == []


async def test_loop_goes_on_while_the_audit_log_waits(client):
    pool = new_pool()
    with AuditLogWrite(hold=True).watched() as write:
        request = asyncio.create_task(client.post("/pools", json=pool))
        try:
            assert await asyncio.to_thread(write.began.wait, TIMEOUT)
            assert write.on_loop == [False]

            version = await asyncio.wait_for(client.get("/version"), TIMEOUT)
            assert version.status_code == 200
            assert not request.done()
        finally:
            write.released.set()
            response = await asyncio.wait_for(request, TIMEOUT)

    assert response.status_code == 201
    assert len(rows(pool["name"])) == 1


async def post_cancelled_by_its_task(client: httpx.AsyncClient, write: AuditLogWrite, pool: Any) -> None:
    request = asyncio.create_task(client.post("/pools", json=pool))
    assert await asyncio.to_thread(write.began.wait, TIMEOUT)
    request.cancel()
    write.released.set()
    with suppress(asyncio.CancelledError):
        await request


async def post_cancelled_by_its_scope(client: httpx.AsyncClient, write: AuditLogWrite, pool: Any) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(partial(client.post, "/pools", json=pool))
        assert await asyncio.to_thread(write.began.wait, TIMEOUT)
        group.cancel_scope.cancel()
        write.released.set()


@pytest.mark.parametrize("cancelled_post", [post_cancelled_by_its_task, post_cancelled_by_its_scope])
async def test_cancelled_request_leaves_its_row_and_no_connection(client, cancelled_post):
    pool = new_pool()
    with AuditLogWrite(hold=True).watched() as write:
        await cancelled_post(client, write, pool)
        assert write.on_loop == [False]
        assert await asyncio.to_thread(write.ended.wait, TIMEOUT)

    assert len(rows(pool["name"])) == 1
    assert settings.engine.pool.checkedout() == 0
    assert (await client.get(f"/pools/{pool['name']}")).status_code == 404


async def test_row_is_there_before_the_path_operation(client):
    pool = new_pool()
    found = []

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        if "INTO slot_pool" in statement:
            found.append(len(rows(pool["name"])))

    with listening("before_cursor_execute", before):
        response = await client.post("/pools", json=pool)

    assert response.status_code == 201
    assert found == [1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", "/pools", {"name": "{}", "slots": "many"}, 422, id="invalid-body"),
        pytest.param("DELETE", "/pools/{}", None, 404, id="not-found"),
        pytest.param("POST", "/variables", {"key": "{}", "value": "v", "extra": 1}, 422, id="extra-field"),
        pytest.param("PATCH", "/variables/other", {"key": "{}", "value": "v"}, 400, id="bad-request"),
    ],
)
async def test_row_stays_though_the_path_operation_fails(client, method, path, body, status):
    name = f"name-{uuid4()}"
    response = await client.request(method, path.replace("{}", name), json=filled_in(body, name))

    assert response.status_code == status
    assert [row.owner for row in rows(name)] == ["test"]


async def test_second_of_a_kind_conflicts_and_is_logged(client):
    pool = new_pool()
    statuses = [(await client.post("/pools", json=pool)).status_code for _ in range(2)]

    assert statuses == [201, 409]
    assert len(rows(pool["name"])) == 2


@pytest.mark.parametrize(
    ("path", "key", "logged"),
    [
        pytest.param("/pools", "name", 0, id="permission-first"),
        pytest.param("/variables", "key", 1, id="log-first"),
    ],
)
async def test_refused_request_is_logged_where_the_log_comes_first(client_of, path, key, logged):
    name = f"name-{uuid4()}"
    response = await client_of("viewer").post(path, json={key: name, "slots": 1, "value": "v"})

    assert response.status_code == 403
    assert len(rows(name)) == logged


async def test_secrets_are_masked(client):
    name = f"name_{uuid4().hex}"
    await client.post("/variables", json={"key": f"{name}_secret", "value": "of a variable"})
    await client.post(
        "/connections",
        json={
            "connection_id": name,
            "conn_type": "http",
            "password": "of a connection",
            "extra": json.dumps({"password": "of its extra"}),
        },
    )

    extras = [json.loads(row.extra) for row in rows(name)]
    variable, connection = sorted(extras, key=lambda extra: "connection_id" in extra)
    assert variable["value"] == "***"
    assert connection["password"] == "***"
    assert connection["extra"] == {"password": "***"}
    assert {variable["method"], connection["method"]} == {"POST"}


async def test_failed_commit_fails_its_request_only(client):
    pool = new_pool()
    handled = []

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        if "INTO slot_pool" in statement:
            handled.append(statement)
        if "INTO log" in statement:
            raise RuntimeError("the database is gone")

    with listening("before_cursor_execute", before):
        response = await client.post("/pools", json=pool)

    assert response.status_code == 500
    assert handled == []
    assert rows(pool["name"]) == []
    assert (await client.post("/pools", json=pool)).status_code == 201
