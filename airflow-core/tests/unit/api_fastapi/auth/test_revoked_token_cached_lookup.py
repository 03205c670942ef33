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

import jwt
import pytest
from sqlalchemy import delete, event, insert
from sqlalchemy.orm import Session

from airflow import settings
from airflow._shared.observability.metrics import stats
from airflow._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import revoked_token
from airflow.models.revoked_token import RevokedToken
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

TIMEOUT = 20
#: For what a release that blocks the event loop does not do in any time.
SHORT = 3
SIZE = ("api_auth", "revoked_token_cache_size")
TTL = ("api_auth", "revoked_token_cache_ttl_seconds")


def join_runners() -> None:
    """Wait until the threads that look up tokens have ended, as they do when no request waits."""
    threads = [thread for thread in threading.enumerate() if thread.name == "revoked-tokens"]
    for thread in threads:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in threads)


def forget_cache() -> None:
    # A release that has no cache has nothing to forget.
    if get_cache := getattr(revoked_token, "get_revoked_token_cache", None):
        get_cache.cache_clear()


@pytest.fixture(autouse=True)
def clean_slate():
    def clean():
        join_runners()
        settings.Session.remove()
        with create_session(scoped=False) as session:
            session.execute(delete(RevokedToken))
        forget_cache()

    clean()
    before = RevokedToken._last_cleanup_time
    RevokedToken._last_cleanup_time = time.monotonic()
    yield
    RevokedToken._last_cleanup_time = before
    clean()


@pytest.fixture
def manager():
    return SimpleAuthManager()


@pytest.fixture
def token(manager):
    return manager.generate_jwt(SimpleAuthManagerUser(username="user", role="admin"))


def jti_of(token: str) -> str:
    return jwt.decode(token, options={"verify_signature": False})["jti"]


def add_row(jti: str, exp: timedelta = timedelta(hours=1)) -> None:
    """Add a row as another process would: this one is not told."""
    with settings.engine.begin() as connection:
        row = {"jti": jti, "exp": datetime.now(tz=timezone.utc) + exp}
        connection.execute(insert(RevokedToken.__table__).values(row))


def revoke(jti: str) -> None:
    with create_session(scoped=False) as session:
        RevokedToken.revoke(jti, datetime.now(tz=timezone.utc) + timedelta(hours=1), session=session)


def has_row(jti: str) -> bool:
    with create_session(scoped=False) as session:
        return session.get(RevokedToken, jti) is not None


async def outcome(manager, token) -> str:
    """Return the name of the user, or the error."""
    try:
        return (await manager.get_user_from_token(token)).get_name()
    except Exception as e:
        return str(e)


@pytest.fixture
def statements():
    """Collect the statements that reach the database, with whether the event loop's thread sent them."""
    seen: list[tuple[str, bool]] = []

    def note(connection, cursor, statement, parameters, context, executemany):
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            seen.append((statement, False))
        else:
            seen.append((statement, True))

    event.listen(settings.engine, "before_cursor_execute", note)
    yield seen
    event.remove(settings.engine, "before_cursor_execute", note)


class Hold:
    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go = threading.Event()
        self.let_go: bool | None = None


@contextmanager
def held_answer():
    """Hold the next check between the answer of the database and the use of it."""
    hold = Hold()
    loop = asyncio.get_running_loop()
    asked = threading.local()

    def note(connection, cursor, statement, parameters, context, executemany):
        asked.now = statement.startswith("SELECT") and "revoked_token" in statement

    def act(session):
        if getattr(asked, "now", False) and hold.let_go is None:
            asked.now = hold.let_go = False
            loop.call_soon_threadsafe(hold.reached.set)
            hold.let_go = hold.go.wait(SHORT)

    event.listen(settings.engine, "before_cursor_execute", note)
    event.listen(Session, "before_commit", act)
    try:
        yield hold
    finally:
        hold.go.set()
        event.remove(settings.engine, "before_cursor_execute", note)
        event.remove(Session, "before_commit", act)


@pytest.mark.asyncio
@pytest.mark.parametrize("revoked", [True, False])
async def test_hit_takes_no_thread_and_no_query(manager, token, statements, monkeypatch, revoked):
    if revoked:
        add_row(jti_of(token))
    told = "Token has been revoked" if revoked else "user"
    assert await outcome(manager, token) == told
    join_runners()
    statements.clear()
    started = []
    monkeypatch.setattr(threading.Thread, "start", started.append)
    assert await outcome(manager, token) == told
    assert (started, statements) == ([], [])


@pytest.mark.asyncio
async def test_miss_leaves_the_loop(manager, token, statements):
    assert await outcome(manager, token) == "user"
    assert [statement for statement, on_loop in statements if on_loop] == []


@pytest.mark.asyncio
async def test_cleanup_leaves_the_loop_when_all_are_hits(manager, token, statements):
    assert await outcome(manager, token) == "user"
    add_row("expired", timedelta(days=-1))
    statements.clear()
    RevokedToken._last_cleanup_time = float("-inf")
    assert await outcome(manager, token) == "user"
    join_runners()
    assert [statement for statement, on_loop in statements if on_loop] == []
    assert not has_row("expired")


@pytest.mark.asyncio
async def test_request_is_not_answered_by_an_older_query(manager, token):
    with held_answer() as hold:
        first = asyncio.create_task(outcome(manager, token))
        await hold.reached.wait()
        add_row(jti_of(token))
        second = asyncio.create_task(outcome(manager, token))
        await asyncio.sleep(0)
        hold.go.set()
        assert [await first, await second] == ["user", "Token has been revoked"]
    assert hold.let_go, "the event loop stood still until the query gave up"


@pytest.mark.asyncio
@pytest.mark.parametrize("evicted", [True, False])
async def test_check_under_way_does_not_overwrite_a_revocation(manager, token, evicted):
    with conf_vars({SIZE: "1"}), held_answer() as hold:
        first = asyncio.create_task(outcome(manager, token))
        await hold.reached.wait()
        revoke(jti_of(token))
        if evicted:
            revoke("other")
        hold.go.set()
        await first
        assert await outcome(manager, token) == "Token has been revoked"


@pytest.mark.asyncio
async def test_logout_is_seen_by_the_next_request(manager, token):
    assert await outcome(manager, token) == "user"
    await asyncio.to_thread(manager.revoke_token, token)
    assert await outcome(manager, token) == "Token has been revoked"


@pytest.mark.asyncio
@pytest.mark.parametrize("option", [SIZE, TTL], ids=["size", "ttl"])
async def test_off_asks_the_database_each_time(manager, token, statements, option):
    with conf_vars({option: "0"}):
        assert [await outcome(manager, token) for _ in range(3)] == ["user"] * 3
        assert len(statements) == 3
        add_row(jti_of(token))
        assert await outcome(manager, token) == "Token has been revoked"


class Recorder(NoStatsLogger):
    """Notes the counters that are emitted."""

    def __init__(self) -> None:
        self.emitted: list[str] = []

    def incr(self, stat, *args, **kwargs) -> None:
        self.emitted.append(stat.removeprefix("api_server.revoked_token."))


@pytest.fixture
def emitted(monkeypatch):
    recorder = Recorder()
    if hasattr(stats, "initialize"):
        monkeypatch.setattr(stats, "_backend", recorder)
        yield recorder.emitted
    else:
        stats.Stats.initialize(factory=lambda: recorder)
        yield recorder.emitted
        stats.Stats.initialize(factory=NoStatsLogger)


@pytest.mark.asyncio
async def test_each_check_is_a_hit_or_a_miss(manager, token, emitted):
    await asyncio.gather(*[outcome(manager, token) for _ in range(3)])
    await outcome(manager, token)
    assert emitted == ["cache_miss"] * 3 + ["cache_hit"]
