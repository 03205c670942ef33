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
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import event, insert
from sqlalchemy.orm import Session

from airflow import settings
from airflow._shared.timezones import timezone
from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api import security
from airflow.models import Connection, DagModel, Log, Pool, Variable
from airflow.models.backfill import Backfill
from airflow.models.dagbundle import DagBundleModel
from airflow.models.team import Team
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

pytestmark = pytest.mark.db_test

TIMEOUT = 20

#: Before 3.2.2 the event log has a synchronous dependency, which FastAPI runs in a thread.
HAS_EVENT_LOG = hasattr(security, "requires_access_event_log")
#: Before 3.3.2 the dependency reads the whole row of a backfill, and not only its Dag.
READS_DAG_ID = hasattr(security, "_authorize_backfill_in_path")


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
    """Note in what thread it is asked, and let a test keep it waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.on_loop: list[bool] = []
        self.hold: Hold | None = None

    def asked(self) -> None:
        self.on_loop.append(on_event_loop())
        if self.hold:
            self.hold.come()

    def is_authorized_dag(self, **kwargs: Any) -> bool:
        self.asked()
        return super().is_authorized_dag(**kwargs)

    def is_authorized_pool(self, **kwargs: Any) -> bool:
        self.asked()
        return super().is_authorized_pool(**kwargs)

    def is_authorized_connection(self, **kwargs: Any) -> bool:
        self.asked()
        return super().is_authorized_connection(**kwargs)

    def is_authorized_variable(self, **kwargs: Any) -> bool:
        self.asked()
        return super().is_authorized_variable(**kwargs)


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
        collected.append((" ".join(statement.split()), on_event_loop()))

    def taken(connection, record, proxy) -> None:
        collected.append(("checkout", on_event_loop()))

    with listening("before_cursor_execute", before), listening("checkout", taken):
        yield collected


class Case(NamedTuple):
    """A request, and a piece of the first statement of its authorization."""

    method: str
    path: str
    body: Any
    status: int
    table: str


class World(NamedTuple):
    """What the requests name."""

    name: str
    backfill: int
    event_log: int

    def fill(self, template: Any) -> Any:
        if template is None:
            return None
        text = json.dumps(template)
        for key, value in self._asdict().items():
            text = text.replace(f"<{key}>", str(value))
        return json.loads(text)


BACKFILL = [
    pytest.param(Case("GET", "/backfills/<backfill>", None, 200, "FROM backfill"), id="backfill"),
    pytest.param(Case("PUT", "/backfills/<backfill>/pause", None, 200, "FROM backfill"), id="pause-backfill"),
]
EVENT_LOG = [
    pytest.param(Case("GET", "/eventLogs/<event_log>", None, 200, "FROM log"), id="event-log"),
] * HAS_EVENT_LOG
BY_DAG_ID = [
    pytest.param(Case("GET", "/backfills?dag_id=<name>", None, 200, "JOIN dag_bundle_team"), id="backfills"),
    pytest.param(
        Case(
            "POST",
            "/backfills/dry_run",
            {"dag_id": "<name>", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"},
            404,
            "JOIN dag_bundle_team",
        ),
        id="dry-run-of-backfill",
    ),
] + [
    pytest.param(Case("GET", "/eventLogs?dag_id=<name>", None, 200, "JOIN dag_bundle_team"), id="event-logs"),
] * HAS_EVENT_LOG
OF_TEAM = [
    pytest.param(Case("DELETE", "/pools/<name>", None, 204, "FROM slot_pool"), id="pool"),
    pytest.param(Case("DELETE", "/connections/<name>", None, 204, "FROM connection"), id="connection"),
    pytest.param(Case("GET", "/variables/<name>", None, 200, "FROM variable"), id="variable"),
]
TO_TEAM = [
    pytest.param(
        Case("POST", "/pools", {"name": "<name>-2", "slots": 1, "team_name": "<name>"}, 201, "FROM team"),
        id="new-pool-of-team",
    ),
    pytest.param(
        Case(
            "POST",
            "/connections",
            {"connection_id": "<name>-2", "conn_type": "http", "team_name": "<name>"},
            201,
            "FROM team",
        ),
        id="new-connection-of-team",
    ),
    pytest.param(
        Case(
            "POST", "/variables", {"key": "<name>-2", "value": "v", "team_name": "<name>"}, 201, "FROM team"
        ),
        id="new-variable-of-team",
    ),
]


@pytest.fixture(scope="module")
def app() -> Iterator[FastAPI]:
    purge_cached_app()
    auth_manager = f"{__name__}.{RecordingAuthManager.__name__}"
    with conf_vars({("core", "auth_manager"): auth_manager}):
        yield create_app(apps="core")
    purge_cached_app()


@pytest.fixture(autouse=True)
def multi_team() -> Iterator[None]:
    with conf_vars({("core", "multi_team"): "True"}):
        yield


@pytest.fixture
def auth_manager(app) -> RecordingAuthManager:
    auth_manager = get_auth_manager()
    auth_manager.on_loop, auth_manager.hold = [], None
    return auth_manager


@pytest.fixture
def client_of(app, auth_manager, world) -> Callable[[str], httpx.AsyncClient]:
    def client_of(role: str) -> httpx.AsyncClient:
        user = SimpleAuthManagerUser(username="test", role=role, teams=[world.name])
        token = auth_manager.generate_jwt(user)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://test/api/v2",
            headers={"Authorization": f"Bearer {token}"},
        )

    return client_of


@pytest.fixture
def client(client_of) -> httpx.AsyncClient:
    return client_of("admin")


@pytest.fixture
def world() -> World:
    """Make one row of each kind, all of one team and under a name that no cache has seen."""
    name = f"name-{uuid4()}"
    with create_session(scoped=False) as session:
        team, bundle = Team(name=name), DagBundleModel(name=name)
        bundle.teams.append(team)
        session.add_all([team, bundle])
        session.flush()
        session.add_all(
            [
                DagModel(dag_id=name, bundle_name=name),
                Pool(pool=name, slots=1, include_deferred=False, team_name=name),
                Connection(conn_id=name, conn_type="http", team_name=name),
                Variable(key=name, val="v", team_name=name),
            ]
        )
        session.flush()
        backfill = Backfill(dag_id=name, from_date=timezone.utcnow(), to_date=timezone.utcnow())
        session.add(backfill)
        session.flush()
        # Not with the class: from 3.4 it would look up the team of the Dag, which is cached.
        log = session.execute(insert(Log).values(event="test", dag_id=name, dttm=timezone.utcnow()))
        return World(name, backfill.id, log.inserted_primary_key[0])


async def send(client: httpx.AsyncClient, case: Case, world: World) -> httpx.Response:
    return await client.request(case.method, world.fill(case.path), json=world.fill(case.body))


@pytest.mark.parametrize("path", ["pools", "connections", "variables"])
async def test_nothing_is_asked_on_the_event_loop(app, auth_manager, path):
    user = SimpleAuthManagerUser(username="test", role="admin")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async with httpx.AsyncClient(transport=transport, base_url="http://test/api/v2") as client:
        # Without a token: its check is not part of the authorization.
        with mock.patch.dict(app.dependency_overrides, {security.get_user: lambda: user}):
            with database_work() as collected:
                response = await client.get(f"/{path}/none")

    assert response.status_code == 404
    assert [what for what, on_loop in collected if on_loop] == []
    assert {what for what, on_loop in collected} > {"checkout"}
    assert set(auth_manager.on_loop) == {False}


@pytest.mark.parametrize(
    "path",
    [
        *["/eventLogs/<event_log>"] * HAS_EVENT_LOG,
        *["/backfills/<backfill>", "/pools/<name>", "/connections/<name>", "/variables/<name>"],
    ],
)
async def test_request_does_no_database_work_on_the_event_loop(app, client, world, path):
    user = SimpleAuthManagerUser(username="test", role="admin", teams=[world.name])
    with mock.patch.dict(app.dependency_overrides, {security.get_user: lambda: user}):
        with database_work() as collected:
            response = await client.get(world.fill(path))

    assert response.status_code == 200
    assert [what for what, on_loop in collected if on_loop] == []
    assert {what for what, on_loop in collected if not on_loop} > {"checkout"}


@pytest.mark.parametrize("case", [*BACKFILL, *EVENT_LOG, *BY_DAG_ID, *OF_TEAM, *TO_TEAM])
async def test_authorization_queries_in_a_thread(client, world, case):
    with database_work() as collected:
        response = await send(client, case, world)

    assert response.status_code == case.status, response.text
    on_loop = [on_loop for statement, on_loop in collected if case.table in statement]
    assert on_loop[:1] == [False]


@pytest.mark.parametrize("case", [*BACKFILL, *EVENT_LOG, *BY_DAG_ID, *OF_TEAM, *TO_TEAM])
async def test_auth_manager_is_asked_in_a_thread(client, auth_manager, world, case):
    response = await send(client, case, world)

    assert response.status_code == case.status
    assert auth_manager.on_loop
    assert not any(auth_manager.on_loop)


@pytest.mark.parametrize("case", [*BACKFILL, *EVENT_LOG, *OF_TEAM])
async def test_loop_goes_on_while_the_query_waits(client, world, case):
    hold = Hold()

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        if not hold.on_loop and case.table in " ".join(statement.split()):
            hold.come()

    with listening("before_cursor_execute", before):
        await check_that_loop_goes_on(client, hold, case, world)


@pytest.mark.parametrize("case", [*BACKFILL, *EVENT_LOG, *BY_DAG_ID, *OF_TEAM])
async def test_loop_goes_on_while_the_auth_manager_waits(client, auth_manager, world, case):
    hold = auth_manager.hold = Hold()
    await check_that_loop_goes_on(client, hold, case, world)


async def check_that_loop_goes_on(client: httpx.AsyncClient, hold: Hold, case: Case, world: World) -> None:
    request = asyncio.create_task(send(client, case, world))
    try:
        assert await asyncio.to_thread(hold.began.wait, TIMEOUT)
        assert hold.on_loop == [False]

        version = await asyncio.wait_for(client.get("/version"), TIMEOUT)
        assert version.status_code == 200
        assert not request.done()
    finally:
        hold.released.set()
        response = await asyncio.wait_for(request, TIMEOUT)
    assert response.status_code == case.status


@pytest.mark.parametrize("case", [*BACKFILL, *EVENT_LOG])
async def test_request_takes_one_connection_at_a_time(client, world, case):
    out: list[object] = []
    most = []

    def taken(connection, record, proxy) -> None:
        out.append(record)
        most.append(len(out))

    def given_back(connection, record) -> None:
        out.remove(record)

    with listening("checkout", taken), listening("checkin", given_back):
        response = await send(client, case, world)

    assert response.status_code == case.status
    assert max(most) == 1
    assert out == []


async def test_response_names_what_was_asked_for(client, world):
    backfill = await client.get(f"/backfills/{world.backfill}")
    paused = await client.put(f"/backfills/{world.backfill}/pause")
    log = await client.get(f"/eventLogs/{world.event_log}")

    assert (backfill.json()["id"], backfill.json()["dag_id"]) == (world.backfill, world.name)
    assert paused.json()["is_paused"] is True
    assert (await client.get(f"/backfills/{world.backfill}")).json()["is_paused"] is True
    assert (log.json()["event_log_id"], log.json()["dag_id"]) == (world.event_log, world.name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/backfills/999999999"),
        ("PUT", "/backfills/999999999/pause"),
        ("GET", "/eventLogs/999999999"),
        ("DELETE", "/pools/<name>-2"),
        ("DELETE", "/connections/<name>-2"),
        ("DELETE", "/variables/<name>-2"),
    ],
)
async def test_unknown_is_404(client, world, method, path):
    assert (await client.request(method, world.fill(path))).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/backfills/<backfill>/pause"),
        ("DELETE", "/pools/<name>"),
        ("DELETE", "/connections/<name>"),
        ("DELETE", "/variables/<name>"),
    ],
)
async def test_refused_is_403(client_of, world, method, path):
    response = await client_of("viewer").request(method, world.fill(path))

    assert (response.status_code, response.json()) == (403, {"detail": "Forbidden"})


async def test_backfill_is_read_by_the_calls_that_tests_mock(auth_manager, world):
    session = mock.create_autospec(Session, instance=True)
    if READS_DAG_ID:
        session.scalar.return_value = world.name
    else:
        session.scalars.return_value.one_or_none.return_value = Backfill(dag_id=world.name)
    request = SimpleNamespace(path_params={"backfill_id": "1"})
    user = SimpleAuthManagerUser(username="test", role="admin")

    with mock.patch.object(auth_manager, "is_authorized_dag", autospec=True, return_value=True) as asked:
        await security.requires_access_backfill("GET")(request, user, session)

    assert [call.kwargs["details"].id for call in asked.mock_calls] == [world.name]


@pytest.mark.parametrize("path", ["/backfills/one", "/backfills/-1"])
async def test_malformed_backfill_id_is_422(client, path):
    assert (await client.get(path)).status_code == 422


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/pools", {"name": "<name>-2", "slots": 1, "team_name": "no team"}),
        ("/connections", {"connection_id": "<name>-2", "conn_type": "http", "team_name": "no team"}),
        ("/variables", {"key": "<name>-2", "value": "v", "team_name": "no team"}),
    ],
)
async def test_unknown_team_is_400(client, auth_manager, world, path, body):
    response = await client.post(path, json=world.fill(body))

    assert (response.status_code, response.json()) == (400, {"detail": "Team 'no team' does not exist"})
    assert auth_manager.on_loop == []


@pytest.mark.parametrize("case", [*BACKFILL, *EVENT_LOG, *OF_TEAM])
async def test_failed_query_fails_its_request_only(client, auth_manager, world, case):
    failed = []

    def before(conn, cursor, statement, parameters, context, executemany) -> None:
        if not failed and case.table in " ".join(statement.split()):
            failed.append(statement)
            raise RuntimeError("the database is gone")

    with listening("before_cursor_execute", before):
        response = await send(client, case, world)

    assert response.status_code == 500
    assert auth_manager.on_loop == []
    assert settings.engine.pool.checkedout() == 0
    assert (await send(client, case, world)).status_code == case.status


@pytest.mark.parametrize(
    ("dependency", "path_params"),
    [
        (security.requires_access_pool("DELETE"), {"pool_name": "<name>"}),
        (security.requires_access_connection("DELETE"), {"connection_id": "<name>"}),
        (security.requires_access_variable("DELETE"), {"variable_key": "<name>"}),
    ],
)
@pytest.mark.parametrize("role", ["admin", "viewer"])
async def test_dependency_can_be_awaited(auth_manager, world, dependency, path_params, role):
    request = SimpleNamespace(path_params=world.fill(path_params))
    user = SimpleAuthManagerUser(username="test", role=role)

    if role == "viewer":
        with pytest.raises(security.HTTPException, match="Forbidden"):
            await dependency(request, user)
    else:
        await dependency(request, user)
    assert len(auth_manager.on_loop) == 1
