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
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from unittest import mock

import jwt
import pytest
from sqlalchemy import delete, event, func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError
from starlette.concurrency import run_in_threadpool

from airflow import settings
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import revoked_token
from airflow.models.revoked_token import RevokedToken
from airflow.utils.session import create_session

pytestmark = pytest.mark.db_test

#: Seconds to wait for what stock does not do while its event loop is blocked.
SHORT = 3
DUE = float("-inf")


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch):
    def clean():
        settings.Session.remove()
        with create_session(scoped=False) as session:
            session.execute(delete(RevokedToken))
        # Only an Airflow that caches revoked tokens has a cache.
        if get_cache := getattr(revoked_token, "get_revoked_token_cache", None):
            get_cache.cache_clear()

    clean()
    monkeypatch.setattr(RevokedToken, "_last_cleanup_time", time.monotonic())
    yield
    clean()


@pytest.fixture
def manager():
    return SimpleAuthManager()


@pytest.fixture
def token(manager):
    return manager.generate_jwt(SimpleAuthManagerUser(username="user", role="admin"))


def jti_of(token: str) -> str:
    return jwt.decode(token, options={"verify_signature": False})["jti"]


def add_rows(*jtis: str, exp: timedelta = timedelta(hours=1)) -> None:
    """Add rows as another worker would: this process does not notice."""
    with settings.engine.begin() as connection:
        at = datetime.now(tz=timezone.utc) + exp
        connection.execute(insert(RevokedToken.__table__), [{"jti": jti, "exp": at} for jti in jtis])


def rows() -> int:
    with create_session(scoped=False) as session:
        return session.scalar(select(func.count()).select_from(RevokedToken))


async def outcome(manager, token):
    """Return the name of the user, or the error."""
    try:
        return (await manager.get_user_from_token(token)).get_name()
    except Exception as e:
        return e


@contextmanager
def at_each_statement(act):
    def note(connection, cursor, statement, parameters, context, executemany):
        act(statement)

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)


class Hold:
    """Makes the next query of a check wait until it is released."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self.go = threading.Event()
        self.released: bool | None = None

    def __call__(self, statement: str) -> None:
        if self.released is None and statement.startswith("SELECT"):
            self.released = False
            self.loop.call_soon_threadsafe(self.reached.set)
            self.released = self.go.wait(SHORT)


@pytest.mark.asyncio
@pytest.mark.parametrize("revoked", [True, False])
async def test_check_does_not_use_the_database_on_the_event_loop(manager, token, revoked):
    if revoked:
        add_rows(jti_of(token))
    threads = []
    with at_each_statement(lambda statement: threads.append(threading.current_thread())):
        assert str(await outcome(manager, token)) == ("Token has been revoked" if revoked else "user")
    assert threads
    assert threading.current_thread() not in threads


@pytest.mark.asyncio
async def test_loop_goes_on_while_a_query_waits(manager, token):
    hold = Hold()
    with at_each_statement(hold):
        check = asyncio.create_task(outcome(manager, token))
        await hold.reached.wait()
        hold.go.set()
        assert await check == "user"
    assert hold.released, "the event loop was blocked until the query gave up"


@pytest.mark.asyncio
async def test_revocation_is_seen_by_the_next_request_while_an_older_check_waits(manager, token):
    hold = Hold()
    with at_each_statement(hold):
        check = asyncio.create_task(outcome(manager, token))
        await hold.reached.wait()
        add_rows(jti_of(token))
        assert str(await outcome(manager, token)) == "Token has been revoked"
        hold.go.set()
        await check


@pytest.mark.asyncio
async def test_logout_is_seen_by_the_next_request(manager, token):
    assert await outcome(manager, token) == "user"
    await run_in_threadpool(manager.revoke_token, token)
    assert str(await outcome(manager, token)) == "Token has been revoked"


def break_scoped_session() -> None:
    """Leave the scoped session of this thread as a failed flush does: every use raises until a rollback."""
    session = settings.Session()
    session.add(RevokedToken(jti="broken", exp=None))
    with pytest.raises(IntegrityError):
        session.flush()


@pytest.mark.asyncio
async def test_broken_scoped_session_of_the_loop_does_not_matter(manager, token):
    break_scoped_session()
    assert await outcome(manager, token) == "user"


@pytest.mark.asyncio
async def test_broken_scoped_session_of_the_worker_thread_does_not_matter(manager, token):
    await run_in_threadpool(break_scoped_session)
    try:
        assert await outcome(manager, token) == "user"
    finally:
        await run_in_threadpool(settings.Session.remove)


@pytest.mark.asyncio
async def test_connection_dropped_while_the_loop_held_it_does_not_matter(manager, token):
    settings.Session().connection().connection.dbapi_connection.close()
    try:
        assert await outcome(manager, token) == "user"
    finally:
        settings.Session.registry.clear()


@pytest.mark.asyncio
async def test_error_of_the_database_refuses_the_request_and_not_the_next(manager, token):
    with settings.engine.begin() as connection:
        connection.execute(text("ALTER TABLE revoked_token RENAME TO away"))
    try:
        assert isinstance(await outcome(manager, token), DBAPIError)
    finally:
        with settings.engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO revoked_token"))
    assert await outcome(manager, token) == "user"


@pytest.mark.asyncio
async def test_check_is_called_with_the_id_of_the_token_only(manager, token):
    with mock.patch.object(RevokedToken, "is_revoked", autospec=True, return_value=True) as is_revoked:
        assert str(await outcome(manager, token)) == "Token has been revoked"
    is_revoked.assert_called_once_with(jti_of(token))


def test_cleanup_deletes_one_batch_at_a_time():
    add_rows(*[f"expired-{number}" for number in range(250)], exp=timedelta(days=-1))
    add_rows("token")
    left = []
    RevokedToken._last_cleanup_time = DUE
    for number in range(4):
        assert RevokedToken.is_revoked(f"token-{number}") is False
        left.append(rows())
    assert left == [151, 51, 1, 1]
    assert RevokedToken.is_revoked("token") is True


def test_cleanup_keeps_its_schedule_once_nothing_is_left():
    RevokedToken._last_cleanup_time = DUE
    seen = []
    with at_each_statement(seen.append):
        for number in range(3):
            RevokedToken.is_revoked(f"token-{number}")
    assert len([statement for statement in seen if statement.startswith("DELETE")]) == 1


def test_failed_cleanup_fails_no_check_and_ends_in_its_savepoint():
    def fail(statement):
        seen.append(statement)
        if statement.startswith("DELETE"):
            raise OSError("no more")

    add_rows("expired", exp=timedelta(days=-1))
    RevokedToken._last_cleanup_time = DUE
    seen = []
    with at_each_statement(fail):
        assert RevokedToken.is_revoked("token") is False
    assert any(statement.startswith("ROLLBACK TO") for statement in seen)
    assert rows() == 1


def test_cleanup_skips_rows_that_another_worker_is_deleting():
    RevokedToken._last_cleanup_time = DUE
    session = mock.MagicMock(spec=settings.NonScopedSession())
    session.get_bind.return_value.dialect.name = "postgresql"
    RevokedToken.is_revoked("token", session=session)
    statement = session.scalars.call_args.args[0].compile(dialect=postgresql.dialect())
    assert str(statement).endswith("FOR UPDATE SKIP LOCKED")
