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

import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from unittest import mock

import pytest
import time_machine
from jwt import InvalidTokenError
from sqlalchemy import delete, event, insert
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from airflow import settings
from airflow._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow._shared.observability.metrics.metrics_registry import MetricsRegistry
from airflow.api_fastapi.app import create_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.exceptions import AirflowConfigException
from airflow.models import revoked_token
from airflow.models.revoked_token import RevokedToken
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

SIZE = ("api_auth", "revoked_token_cache_size")
TTL = ("api_auth", "revoked_token_cache_ttl_seconds")
OFF = [{SIZE: "0"}, {SIZE: "-1"}, {TTL: "0"}, {TTL: "-1"}]
TIMEOUT = 20


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch):
    def clean():
        settings.Session.remove()
        with create_session(scoped=False) as session:
            session.execute(delete(RevokedToken))
        # A release without a cache has nothing to forget.
        if get_cache := getattr(revoked_token, "get_revoked_token_cache", None):
            get_cache.cache_clear()

    clean()
    monkeypatch.setattr(RevokedToken, "_last_cleanup_time", time.monotonic())
    yield
    clean()


@pytest.fixture
def clock(monkeypatch):
    clock = mock.create_autospec(time.monotonic, return_value=1_000_000.0)
    monkeypatch.setattr(time, "monotonic", clock)
    RevokedToken._last_cleanup_time = clock.return_value
    return clock


def in_an_hour() -> datetime:
    return datetime.now(tz=timezone.utc) + timedelta(hours=1)


def add_row(jti: str) -> None:
    """Add a row as another worker would: this process does not notice."""
    with settings.engine.begin() as connection:
        connection.execute(insert(RevokedToken.__table__).values(jti=jti, exp=in_an_hour()))


@contextmanager
def statements(error: Exception | None = None):
    """Collect the statements that are sent to the database, and fail them if an error is given."""
    seen = []

    def note(connection, cursor, statement, parameters, context, executemany):
        seen.append(statement)
        if error is not None:
            raise error

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)


def check(jti: str) -> tuple[bool, int]:
    """Return what ``is_revoked`` returns and how many statements it takes."""
    with statements() as seen:
        revoked = RevokedToken.is_revoked(jti)
    return revoked, len(seen)


@contextmanager
def once_answered(act):
    """Call ``act`` in the next check, after the database has answered it and before the answer is used."""
    done = []

    def on_commit(session):
        if not done:
            done.append(True)
            act()

    event.listen(Session, "before_commit", on_commit)
    try:
        yield
    finally:
        event.remove(Session, "before_commit", on_commit)
    assert done


@pytest.fixture
def manager():
    return SimpleAuthManager()


@pytest.fixture
def token(manager):
    user = SimpleAuthManagerUser(username="user", role="admin")
    return manager.generate_jwt(user, expiration_time_in_seconds=30)


@pytest.mark.parametrize("revoked", [True, False])
def test_second_check_asks_no_database(revoked):
    if revoked:
        add_row("token")
    assert check("token") == (revoked, 1)
    assert check("token") == (revoked, 0)


@pytest.mark.asyncio
async def test_hit_needs_neither_a_thread_nor_the_database(manager, token, monkeypatch):
    await manager.get_user_from_token(token)
    RevokedToken._last_cleanup_time = float("-inf")
    with statements(OSError("the database is away")), monkeypatch.context() as patch:
        # A release that checks on the event loop needs no thread either.
        patch.setattr("anyio.to_thread.run_sync", None)
        try:
            outcome = (await manager.get_user_from_token(token)).get_name()
        except Exception as e:
            outcome = str(e)
    assert outcome == "user"


@pytest.mark.asyncio
async def test_token_is_refused_after_logout(manager, token):
    await manager.get_user_from_token(token)
    await run_in_threadpool(manager.revoke_token, token)
    with statements() as seen, pytest.raises(InvalidTokenError, match="revoked"):
        await manager.get_user_from_token(token)
    assert seen == []


@pytest.mark.asyncio
async def test_expired_token_is_refused_when_its_answer_is_cached(manager, token):
    await manager.get_user_from_token(token)
    with time_machine.travel(datetime.now(tz=timezone.utc) + timedelta(seconds=45)):
        with pytest.raises(InvalidTokenError, match="expired"):
            await manager.get_user_from_token(token)


def test_answer_expires(clock):
    assert check("token") == (False, 1)
    clock.return_value += 59
    assert check("token") == (False, 0)
    add_row("token")
    clock.return_value += 2
    assert check("token") == (True, 1)


@pytest.mark.parametrize("seconds", [50, 70])
def test_age_of_an_answer_counts_from_the_question(clock, seconds):
    def answer_late():
        add_row("token")
        clock.return_value += seconds

    with once_answered(answer_late):
        assert RevokedToken.is_revoked("token") is False
    clock.return_value += 11
    assert check("token") == (True, 1)


@pytest.mark.parametrize("option", OFF, ids=str)
def test_cache_that_is_off_asks_the_database_each_time(option):
    with conf_vars(option):
        assert [check("token") for _ in range(2)] == [(False, 1)] * 2
        RevokedToken.revoke("token", in_an_hour())
        assert [check("token") for _ in range(2)] == [(True, 1)] * 2


@pytest.mark.parametrize("option", OFF, ids=str)
def test_cache_that_is_off_is_not_made(option):
    with conf_vars(option):
        assert revoked_token.get_revoked_token_cache() is None


def test_check_in_progress_does_not_replace_a_revocation():
    def revoke():
        with create_session(scoped=False) as session:
            RevokedToken.revoke("token", in_an_hour(), session=session)

    with once_answered(revoke):
        assert RevokedToken.is_revoked("token") is True
    assert check("token") == (True, 0)


def test_revocation_that_is_rolled_back_is_refused_for_the_ttl(clock):
    with create_session(scoped=False) as session:
        RevokedToken.revoke("token", in_an_hour(), session=session)
        session.rollback()
    assert check("token") == (True, 0)
    clock.return_value += 61
    assert check("token") == (False, 1)


def test_passed_session_is_asked_and_not_cached():
    assert RevokedToken.is_revoked("token") is False
    with create_session(scoped=False) as session:
        session.add(RevokedToken(jti="token", exp=in_an_hour()))
        session.flush()
        assert RevokedToken.is_revoked("token", session=session) is True
        session.rollback()
    assert check("token") == (False, 0)


def test_slow_query_delays_no_other_check():
    RevokedToken.is_revoked("known")
    meanwhile = []

    def ask():
        other = threading.Thread(target=lambda: meanwhile.append(RevokedToken.is_revoked("known")))
        other.start()
        other.join(TIMEOUT)

    with once_answered(ask):
        assert RevokedToken.is_revoked("token") is False
    assert meanwhile == [False]


@pytest.mark.parametrize("use", ["get_cached", "revoke", "clear_cache"])
def test_cache_is_used_under_its_lock(monkeypatch, use):
    def watched(name):
        def method(self, *args):
            locked.append(lock.locked())
            return getattr(dict, name)(self, *args)

        return method

    lock, locked = threading.Lock(), []
    answers = type("Watched", (dict,), {name: watched(name) for name in ("get", "__setitem__", "clear")})()
    monkeypatch.setattr(revoked_token, "_cache_lock", lock)
    with mock.patch.object(revoked_token, "get_revoked_token_cache", autospec=True, return_value=answers):
        getattr(RevokedToken, use)(*{"get_cached": ["token"], "revoke": ["token", in_an_hour()]}.get(use, []))
    assert locked
    assert all(locked)


def test_metrics_are_emitted_and_registered():
    prefix = "api_server.revoked_token.cache"
    # Core 3.2 has a class of metrics in place of a module.
    name = "stats" if hasattr(revoked_token, "stats") else "Stats"
    with mock.patch.object(revoked_token, name, spec=NoStatsLogger) as stats:
        RevokedToken.is_revoked("token")
        RevokedToken.is_revoked("token")
        RevokedToken.clear_cache()
    emitted = [(call[0], *call.args) for call in stats.method_calls]
    assert emitted == [
        ("incr", f"{prefix}_miss"),
        ("gauge", f"{prefix}_size", 1),
        ("incr", f"{prefix}_hit"),
        ("incr", f"{prefix}_clear"),
        ("gauge", f"{prefix}_size", 0),
    ]
    types = {"incr": "counter", "gauge": "gauge"}
    for kind, metric, *_ in emitted:
        assert MetricsRegistry().get(metric)["type"] == types[kind]
    assert check("token") == (False, 1)


@pytest.mark.parametrize("option", [SIZE, TTL], ids=["size", "ttl"])
def test_only_the_api_server_refuses_to_start_with_a_value_that_is_not_a_number(option):
    with conf_vars({option: "many"}):
        create_app(apps="execution")
        with pytest.raises(AirflowConfigException, match=option[1]):
            create_app(apps="core")
