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
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import event, func, select

from airflow import settings
from airflow._shared.timezones import timezone
from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import DagModel, Log
from airflow.models.backfill import Backfill
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

pytestmark = pytest.mark.db_test

TIMEOUT = 20


def on_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Hold:
    """Keep those who come waiting until they are released, unless the event loop would wait too."""

    def __init__(self) -> None:
        self.on_loop: list[bool] = []
        self.began = threading.Event()
        self.released = threading.Event()

    def come(self) -> None:
        self.on_loop.append(on_event_loop())
        self.began.set()
        if not self.on_loop[-1]:
            self.released.wait(TIMEOUT)


class RecordingAuthManager(SimpleAuthManager):
    """Note in what thread it is asked for a Dag, and let a test keep it waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.on_loop: list[bool] = []
        self.hold: Hold | None = None

    def asked(self) -> None:
        self.on_loop.append(on_event_loop())
        if self.hold:
            self.hold.come()

    def is_authorized_backfill(self, **kwargs: Any) -> bool:
        self.asked()
        return super().is_authorized_backfill(**kwargs)

    def is_authorized_dag(self, **kwargs: Any) -> bool:
        self.asked()
        return super().is_authorized_dag(**kwargs)


@contextmanager
def listening(name: str, listener: Callable[..., None]) -> Iterator[None]:
    event.listen(settings.engine, name, listener)
    try:
        yield
    finally:
        event.remove(settings.engine, name, listener)


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    purge_cached_app()
    with conf_vars({("core", "auth_manager"): f"{__name__}.{RecordingAuthManager.__name__}"}):
        yield create_app(apps="core")
    purge_cached_app()


@pytest.fixture
def auth_manager(app) -> RecordingAuthManager:
    auth_manager = get_auth_manager()
    auth_manager.on_loop, auth_manager.hold = [], None
    return auth_manager


@pytest.fixture
def client_of(app, auth_manager) -> Callable[[str], httpx.AsyncClient]:
    def client_of(role: str) -> httpx.AsyncClient:
        token = auth_manager.generate_jwt(SimpleAuthManagerUser(username="test", role=role))
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test/api/v2/backfills",
            headers={"Authorization": f"Bearer {token}"},
        )

    return client_of


@pytest.fixture
def client(client_of) -> httpx.AsyncClient:
    return client_of("admin")


@pytest.fixture
def backfill() -> Backfill:
    """Make a backfill of a Dag that no cache has seen."""
    name = f"name-{uuid4()}"
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name=name))
        session.flush()
        session.add(DagModel(dag_id=name, bundle_name=name))
        session.flush()
        backfill = Backfill(dag_id=name, from_date=timezone.utcnow(), to_date=timezone.utcnow())
        session.add(backfill)
    return backfill


class Case(NamedTuple):
    """A request, and a piece of the first statement of its authorization."""

    method: str
    path: str
    body: Any
    status: int
    table: str

    async def send(self, client: httpx.AsyncClient, backfill: Backfill) -> httpx.Response:
        body = {**self.body, "dag_id": backfill.dag_id} if self.body else None
        return await client.request(self.method, self.path.format(backfill.id), json=body)


BY_ID = [
    pytest.param(Case("GET", "/{}", None, 200, "FROM backfill"), id="get"),
    pytest.param(Case("PUT", "/{}/pause", None, 200, "FROM backfill"), id="pause"),
]
BY_DAG_ID = [
    pytest.param(
        Case(
            "POST",
            "/dry_run",
            {"from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"},
            404,
            "JOIN dag_bundle_team",
        ),
        id="dry-run",
    )
]


async def test_nothing_is_asked_on_the_event_loop(client, auth_manager, backfill):
    queries: list[bool] = []

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        if "revoked_token" not in statement:  # the check of the token is no authorization
            queries.append(on_event_loop())

    with listening("before_cursor_execute", before):
        response = await client.get(f"/{backfill.id}")

    assert response.status_code == 200
    assert (set(queries), set(auth_manager.on_loop)) == ({False}, {False})


@pytest.mark.parametrize("case", [*BY_ID, *BY_DAG_ID])
async def test_loop_goes_on_while_the_query_waits(client, backfill, case):
    hold = Hold()

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        if not hold.on_loop and case.table in " ".join(statement.split()):
            hold.come()

    with listening("before_cursor_execute", before):
        await check_that_loop_goes_on(client, hold, case, backfill)


@pytest.mark.parametrize("case", [*BY_ID, *BY_DAG_ID])
async def test_loop_goes_on_while_the_auth_manager_waits(client, auth_manager, backfill, case):
    hold = auth_manager.hold = Hold()
    await check_that_loop_goes_on(client, hold, case, backfill)


async def check_that_loop_goes_on(
    client: httpx.AsyncClient, hold: Hold, case: Case, backfill: Backfill
) -> None:
    request = asyncio.create_task(case.send(client, backfill))
    try:
        assert await asyncio.to_thread(hold.began.wait, TIMEOUT)
        assert hold.on_loop == [False]

        version = await asyncio.wait_for(client.get("http://test/api/v2/version"), TIMEOUT)
        assert version.status_code == 200
        assert not request.done()
    finally:
        hold.released.set()
        response = await asyncio.wait_for(request, TIMEOUT)
    assert response.status_code == case.status


@pytest.mark.parametrize("case", BY_ID)
async def test_request_takes_one_connection_at_a_time(client, backfill, case):
    out: list[object] = []
    most = []

    def taken(connection, record, proxy) -> None:
        out.append(record)
        most.append(len(out))

    def given_back(connection, record) -> None:
        out.remove(record)

    with listening("checkout", taken), listening("checkin", given_back):
        response = await case.send(client, backfill)

    assert response.status_code == case.status
    assert max(most) == 1
    assert out == []


async def test_response_names_what_was_asked_for(client, backfill):
    found = (await client.get(f"/{backfill.id}")).json()

    assert (found["id"], found["dag_id"]) == (backfill.id, backfill.dag_id)


@pytest.mark.parametrize(("method", "path"), [("GET", "/999999999"), ("PUT", "/999999999/pause")])
async def test_unknown_is_404(client, method, path):
    assert (await client.request(method, path)).status_code == 404


async def test_malformed_id_is_422(client):
    assert (await client.get("/one")).status_code == 422


@pytest.mark.parametrize(("role", "status", "logged"), [("viewer", 403, 0), ("admin", 200, 1)])
async def test_what_is_refused_is_not_logged(client_of, backfill, role, status, logged):
    def count() -> int:
        with create_session(scoped=False) as session:
            return session.scalar(select(func.count()).select_from(Log).where(Log.event == "pause_backfill"))

    before = count()
    response = await client_of(role).put(f"/{backfill.id}/pause")

    assert response.status_code == status
    assert count() - before == logged


async def test_failed_query_fails_its_request_only(client, auth_manager, backfill):
    failed = []

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        if not failed and "FROM backfill" in " ".join(statement.split()):
            failed.append(statement)
            raise RuntimeError("the database is gone")

    with listening("before_cursor_execute", before):
        response = await client.get(f"/{backfill.id}")

    assert response.status_code == 500
    assert auth_manager.on_loop == []
    assert settings.engine.pool.checkedout() == 0
    assert (await client.get(f"/{backfill.id}")).status_code == 200
