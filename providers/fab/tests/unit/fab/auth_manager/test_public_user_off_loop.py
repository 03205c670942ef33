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
import os
import select as io_select
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio.to_thread
import httpx
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError
from starlette.responses import PlainTextResponse

from airflow import settings
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.api_fastapi.core_api import security
from airflow.providers.fab.auth_manager import middleware
from airflow.providers.fab.auth_manager.middleware import FabAuthRolePublicMiddleware
from airflow.providers.fab.auth_manager.models import Action, Permission, Resource, Role

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite"), pytest.mark.asyncio]

NAME = "public-user"
THREADS = 4

# What must happen has happened after so many seconds, even on a busy machine.
DEADLINE = 20
# What must not happen is given so many seconds.
GRACE = 1

request_is: ContextVar[str] = ContextVar("request_is", default="unknown")


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


class Database:
    """Watches the queries for the role; makes them wait, unless the event loop would wait too, or fail."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.on_loop: list[bool] = []
        self.requests: list[str] = []
        # The connections of those queries, from when they are taken until they are given back.
        self.taken: list[Any] = []
        self.given_back = threading.Semaphore(0)

    def ask(self, conn, cursor, statement, parameters, context, executemany) -> None:
        if "FROM ab_role" not in statement or NAME not in str(parameters):
            return
        self.taken.append(conn.connection.dbapi_connection)
        self.requests.append(request_is.get())
        self.on_loop.append(on_loop())
        self.asked.release()
        if not self.on_loop[-1]:
            assert self.go_on.wait(DEADLINE)
        if self.error is not None:
            raise self.error

    def give_back(self, dbapi_connection, record) -> None:
        if dbapi_connection in self.taken:
            self.taken.remove(dbapi_connection)
            self.given_back.release()


@pytest.fixture
def database(role: None) -> Iterator[Database]:
    database = Database()
    event.listen(settings.engine, "before_cursor_execute", database.ask)
    event.listen(settings.engine, "checkin", database.give_back)
    yield database
    database.go_on.set()
    event.remove(settings.engine, "before_cursor_execute", database.ask)
    event.remove(settings.engine, "checkin", database.give_back)


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
    """Let the public read variables; the server has made the role where it is missing."""
    permit(("can_read", "Variables"))


@pytest.fixture(autouse=True)
def _public_role() -> Iterator[None]:
    with conf_vars({("fab", "auth_role_public"): NAME}):
        yield


class Trusted:
    """Say of every request that core may trust its user."""

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
            # Core asks auth managers for their middleware from 3.3 on.
            app.add_middleware(FabAuthRolePublicMiddleware)
        elif not hasattr(middleware, "core_api_security"):
            # Core wants to be told from 3.3 on, the provider tells it from 3.7.3 on.
            app.add_middleware(Trusted)
        yield app
    purge_cached_app()
    remove_role()


def client_of(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test/api/v2")


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return client_of(app)


async def in_time(awaitable):
    try:
        return await asyncio.wait_for(awaitable, DEADLINE)
    except asyncio.TimeoutError:
        pytest.fail("nothing came in time")


async def happened(semaphore: threading.Semaphore, times: int = 1) -> None:
    """Wait without the loop, and without a thread that a request could need."""
    with ThreadPoolExecutor(1) as thread:
        for _ in range(times):
            came = asyncio.get_running_loop().run_in_executor(thread, semaphore.acquire, True, DEADLINE)
            assert await came


async def status(client: httpx.AsyncClient, path: str, **more: Any) -> int:
    return (await in_time(client.get(path, **more))).status_code


async def test_server_answers_while_the_public_user_is_read(client, database):
    database.go_on.clear()
    public = asyncio.create_task(client.get("/variables"))
    try:
        await happened(database.asked)
        with_token = await status(client, "/version", headers={"Authorization": "Bearer of somebody"})
        answered_first = not public.done()
    finally:
        database.go_on.set()
        public_status = (await in_time(public)).status_code

    assert (with_token, public_status) == (200, 200)
    assert answered_first
    assert database.on_loop == [False]


async def test_nothing_is_asked_of_the_database_on_the_loop(client, database):
    """Neither a statement, nor a connection, nor the end of a transaction."""
    asked: list[tuple[str, bool]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *args: asked.append((name, on_loop()))

    listeners = {
        "before_cursor_execute": note("statement"),
        "checkout": note("connection"),
        "checkin": note("connection back"),
        "commit": note("commit"),
    }
    for name, listener in listeners.items():
        event.listen(settings.engine, name, listener)
    try:
        statuses = [await status(client, path) for path in ("/version", "/variables")]
    finally:
        for name, listener in listeners.items():
            event.remove(settings.engine, name, listener)

    assert statuses == [200, 200]
    assert {name for name, _ in asked} == {"statement", "connection", "connection back", "commit"}
    assert [name for name, loop in asked if loop] == []


async def test_public_has_the_rights_of_its_role_and_no_more(client, database):
    assert await status(client, "/variables") == 200
    assert await status(client, "/pools") == 403
    assert (await in_time(client.post("/variables", json={"key": "k", "value": "v"}))).status_code == 403


async def test_rights_count_from_the_next_request_on(client, database):
    seen = [await status(client, "/pools")]
    permit(("can_read", "Pools"))
    seen += [await status(client, "/pools"), await status(client, "/variables")]

    assert seen == [403, 200, 403]


async def test_role_without_permissions_is_refused(client, database):
    permit()

    assert await status(client, "/variables") == 403


async def test_role_that_is_not_there_is_an_error_for_the_request_that_needs_it(client, database):
    remove_role()

    assert [await status(client, path) for path in ("/variables", "/version")] == [500, 200]


@pytest.mark.parametrize(
    "credentials",
    [{"headers": {"Authorization": "Bearer of nobody"}}, {"headers": {"Cookie": "_token=of-nobody"}}],
    ids=["header", "cookie"],
)
async def test_bad_token_is_refused_and_asks_for_no_public_user(client, database, credentials):
    assert await status(client, "/variables", **credentials) in (401, 403)
    assert database.on_loop == []


async def test_error_of_the_database_is_an_error_of_its_request_alone(client, database):
    database.error = OperationalError("the query fails", None, Exception())
    failed = [await status(client, path) for path in ("/variables", "/version")]
    database.error = None

    assert failed == [500, 500]
    assert [await status(client, path) for path in ("/variables", "/version")] == [200, 200]
    assert database.taken == []


async def test_requests_leave_no_connection_taken(client, database):
    seen = await in_time(asyncio.gather(*(client.get("/variables") for _ in range(3 * THREADS))))

    assert [answer.status_code for answer in seen] == [200] * 3 * THREADS
    assert (len(database.on_loop), database.taken) == (3 * THREADS, [])


async def keep_user(scope, receive, send) -> None:
    """Answer as a page that keeps the user of its request."""
    scope["app_users"].append(scope["state"]["user"])
    await PlainTextResponse("kept")(scope, receive, send)


def keeping(users: list[Any]):
    middleware = FabAuthRolePublicMiddleware(keep_user)

    async def app(scope, receive, send) -> None:
        await middleware({**scope, "app_users": users, "state": {}}, receive, send)

    return app


def read_all(user: Any) -> Any:
    """Read what FAB and core read of the user of a request."""
    roles = [
        (role.id, role.name, [(perm.id, perm.action.name, perm.resource.name) for perm in role.permissions])
        for role in user.roles
    ]
    return user.get_id(), user.get_name(), user.is_active, user.is_anonymous, user.groups, user.perms, roles


async def test_public_user_can_be_read_in_all_threads(app, database):
    users: list[Any] = []
    assert await status(client_of(keeping(users)), "/") == 200
    expected = read_all(users[0])
    barrier = threading.Barrier(8)

    def read():
        barrier.wait(DEADLINE)
        return read_all(users[0])

    with ThreadPoolExecutor(8) as threads:
        seen = [thread.result(DEADLINE) for thread in [threads.submit(read) for _ in range(8)]]

    assert (expected[1], expected[5]) == ("Anonymous", {("can_read", "Variables")})
    assert seen == [expected] * 8
    assert database.taken == []


async def test_context_of_the_request_is_seen_while_its_user_is_read(client, database):
    name = str(uuid4())
    token = request_is.set(name)
    try:
        assert await status(client, "/version") == 200
    finally:
        request_is.reset(token)

    assert database.requests == [name]


@pytest.mark.parametrize("whose", ["routes", "loop"])
async def test_public_user_is_read_while_all_other_threads_are_taken(client, database, whose):
    release = threading.Event()
    limiter = anyio.to_thread.current_default_thread_limiter()
    takers = [object() for _ in range(int(limiter.total_tokens))] if whose == "routes" else []
    taken = []
    for taker in takers:
        limiter.acquire_on_behalf_of_nowait(taker)
    if whose == "loop":
        loop = asyncio.get_running_loop()
        taken = [loop.run_in_executor(None, release.wait, DEADLINE) for _ in range(64)]
    public = asyncio.create_task(client.get("/variables"))
    try:
        await happened(database.asked)
    finally:
        release.set()
        for taker in takers:
            limiter.release_on_behalf_of(taker)
        await asyncio.gather(*taken)
        public_status = (await in_time(public)).status_code

    assert public_status == 200


async def test_few_are_read_at_once_and_all_are_answered(client, database):
    database.go_on.clear()
    public = [asyncio.create_task(client.get("/variables")) for _ in range(3 * THREADS)]
    try:
        await happened(database.asked, THREADS)
        with ThreadPoolExecutor(1) as thread:
            one_more = await asyncio.wrap_future(thread.submit(database.asked.acquire, True, GRACE))
    finally:
        database.go_on.set()
        seen = await in_time(asyncio.gather(*public))

    assert not one_more
    assert [answer.status_code for answer in seen] == [200] * 3 * THREADS


async def test_cancelled_request_leaves_no_connection_taken(client, database):
    database.go_on.clear()
    reading = [asyncio.create_task(client.get("/variables")) for _ in range(THREADS)]
    await happened(database.asked, THREADS)
    waiting = [asyncio.create_task(client.get("/variables")) for _ in range(THREADS)]
    # Let them come to where they wait.
    for _ in range(50):
        await asyncio.sleep(0)
    for task in (*reading, *waiting):
        task.cancel()
    ended = await in_time(asyncio.gather(*reading, *waiting, return_exceptions=True))
    taken_meanwhile = len(database.taken)
    database.go_on.set()
    await happened(database.given_back, THREADS)

    assert [type(each) for each in ended] == [asyncio.CancelledError] * 2 * THREADS
    assert (taken_meanwhile, database.taken) == (THREADS, [])
    assert await status(client, "/variables") == 200
    # Who had no thread yet never asked.
    assert len(database.on_loop) == THREADS + 1


def in_child(function: Callable[[], Any]) -> str:
    """Return what a call says in a child process, or the error, or that nothing came in time."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = str(function())
        except BaseException as error:
            said = repr(error)
        os.write(writer, said.encode()[:1000])
        os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = io_select.select([reader], [], [], DEADLINE)
        if not ready:
            os.kill(child, signal.SIGKILL)
        return os.read(reader, 1000).decode() if ready else "no answer"
    finally:
        os.close(reader)
        os.waitpid(child, 0)


async def test_app_that_was_made_before_a_fork_answers_after_it(app, database):
    users: list[Any] = []
    client = client_of(keeping(users))

    def ask() -> Any:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, client.get("/")).result().status_code, len(users)

    assert in_child(ask) == "(200, 1)"
