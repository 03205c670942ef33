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
The look-up of the user that a token names, from threads and from the event loop.

Tests of ``adeserialize_user`` call it themselves, so they do not need a core that awaits it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from typing import Any
from unittest import mock

import pytest
from cachetools import TTLCache
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from airflow import settings
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import Role, User
from airflow.providers.fab.www.app import create_app

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite")]

DEADLINE = 10
# How long a thread that must wait is watched.
GRACE = 0.5
NAMES = ["user-cache-0", "user-cache-1"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class UserQueries:
    """The queries for users: whether each ran on the event loop; a test can hold them or make some fail."""

    def __init__(self) -> None:
        self.on_loop: list[bool] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.failures = 0

    def __call__(self, conn, cursor, statement, parameters, context, executemany) -> None:
        if not statement.startswith("SELECT") or "FROM ab_user \n" not in statement:
            return
        self.on_loop.append(on_loop())
        self.begun.release()
        assert self.on_loop[-1] or self.go_on.wait(DEADLINE)
        if self.failures:
            self.failures -= 1
            raise OperationalError("the query fails", None, Exception())


def on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@cache
def app_builder():
    return create_app(enable_plugins=False).appbuilder


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def users() -> Iterator[list[dict[str, str]]]:
    """Make users, and return the claims of their tokens."""
    app_builder()
    made = [User(first_name="a", last_name="b", username=name, email=name, active=True) for name in NAMES]
    with settings.NonScopedSession(expire_on_commit=False) as session:
        session.add_all(made)
        session.commit()
        yield [{"sub": str(user.id)} for user in made]
        for user in made:
            session.delete(user)
        session.commit()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth_manager(clock: Clock, users: list[dict[str, str]]) -> Iterator[FabAuthManager]:
    yield make_auth_manager(FabAuthManager, clock)
    settings.Session.remove()


def make_auth_manager(cls: type[FabAuthManager], clock: Clock) -> FabAuthManager:
    """Return an auth manager with a cache of its own, whose time is that of the clock."""
    auth_manager = cls()
    auth_manager.appbuilder = app_builder()
    auth_manager.cache = TTLCache(maxsize=100, ttl=30, timer=clock)
    return auth_manager


@pytest.fixture
def queries(auth_manager: FabAuthManager) -> Iterator[UserQueries]:
    queries = UserQueries()
    event.listen(settings.engine, "before_cursor_execute", queries)
    yield queries
    queries.go_on.set()
    event.remove(settings.engine, "before_cursor_execute", queries)


async def look_up(auth_manager: FabAuthManager, claims: dict[str, str]) -> User:
    return await asyncio.wait_for(auth_manager.adeserialize_user(claims), DEADLINE)


class Entry:
    """A key of the cache that lets a test act while the cache looks for it."""

    def __init__(self, number: int = 1 << 40) -> None:
        self.number = number
        self.acts: list[Callable[[], Any]] = []

    def __hash__(self) -> int:
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        if self.acts:
            self.acts.pop(0)()
        return self is other or (isinstance(other, int) and other == self.number)


def test_two_threads_may_remove_the_same_expired_entries(auth_manager, clock, users, threads):
    first, second = Entry(), Entry()
    for entry in (first, second, first):
        # Both have one hash, so the cache compares them when it looks for the second, which expires first.
        auth_manager.cache[entry] = "somebody"
    clock.now = 100
    others: list[Future[User]] = []

    def look_another_user_up():
        others.append(threads.submit(auth_manager.deserialize_user, users[1]))
        wait(others, GRACE)

    first.acts = [look_another_user_up]
    user, error = None, None
    try:
        user = auth_manager.deserialize_user(users[0])
    except KeyError as raised:
        error = raised
    other_error = others[0].exception(DEADLINE)

    assert (error, other_error) == (None, None)
    assert [user.username, others[0].result().username] == NAMES


def test_entry_may_be_removed_while_it_is_found(auth_manager, clock, users, queries, threads):
    user = auth_manager.deserialize_user(users[0])
    assert queries.begun.acquire(timeout=DEADLINE)
    entry = Entry(user.id)
    auth_manager.cache = TTLCache(maxsize=1, ttl=30, timer=clock)
    auth_manager.cache[entry] = user
    queries.go_on.clear()
    other = threads.submit(auth_manager.deserialize_user, users[1])
    assert queries.begun.acquire(timeout=DEADLINE)

    def let_the_other_user_be_entered():
        queries.go_on.set()
        wait([other], GRACE)

    entry.acts = [lambda: None, let_the_other_user_be_entered]
    found, error = None, None
    try:
        found = auth_manager._get_cached_user(users[0])
    except KeyError as raised:
        error = raised
    other_user = other.result(DEADLINE)

    assert error is None
    assert [found.username, other_user.username] == NAMES


def test_threads_that_miss_the_same_user_make_one_query(auth_manager, users, queries, threads):
    queries.go_on.clear()
    looking = [threads.submit(auth_manager.deserialize_user, users[0]) for _ in range(8)]
    begun = [queries.begun.acquire(timeout=DEADLINE), queries.begun.acquire(timeout=GRACE)]
    queries.go_on.set()

    assert {each.result(DEADLINE).username for each in looking} == {NAMES[0]}
    assert (begun, len(queries.on_loop)) == ([True, False], 1)


def test_cached_user_does_not_wait_for_a_query(auth_manager, users, queries, threads):
    auth_manager.deserialize_user(users[0])
    assert queries.begun.acquire(timeout=DEADLINE)
    queries.go_on.clear()
    miss = threads.submit(auth_manager.deserialize_user, users[1])
    assert queries.begun.acquire(timeout=DEADLINE)
    hit = threads.submit(auth_manager.deserialize_user, users[0])
    try:
        assert hit in wait([hit], DEADLINE).done
    finally:
        queries.go_on.set()
    assert [each.result(DEADLINE).username for each in (hit, miss)] == NAMES


def test_user_is_cached_until_the_ttl_is_over(auth_manager, clock, users, queries):
    seen = []
    for now in (0, 29, 31):
        clock.now = now
        seen.append((auth_manager.deserialize_user(users[0]).username, len(queries.on_loop)))

    assert seen == [(NAMES[0], 1), (NAMES[0], 1), (NAMES[0], 2)]


@pytest.mark.parametrize("limits", [{"maxsize": 100, "ttl": 0}, {"maxsize": 0, "ttl": 30}], ids=str)
def test_cache_that_keeps_nothing_reads_each_time(auth_manager, clock, users, queries, limits):
    auth_manager.cache = TTLCache(timer=clock, **limits)

    assert [auth_manager.deserialize_user(users[0]).username for _ in range(3)] == [NAMES[0]] * 3
    assert len(queries.on_loop) == 3


def test_token_is_answered_with_its_user(auth_manager, users, queries):
    token = auth_manager._get_token_signer().generate(users[0])

    async def authenticate() -> set[str]:
        return {(await auth_manager.get_user_from_token(token)).username for _ in range(3)}

    assert asyncio.run(authenticate()) == {NAMES[0]}
    # One query; core awaits adeserialize_user, or calls deserialize_user as it always did.
    assert queries.on_loop == [not hasattr(BaseAuthManager, "adeserialize_user")]


def test_requests_that_miss_make_one_query_off_the_loop_for_each_user(auth_manager, users, queries):
    async def authenticate() -> list[str]:
        queries.go_on.clear()
        tasks = [asyncio.create_task(look_up(auth_manager, claims)) for claims in users * 8]
        assert await asyncio.to_thread(queries.begun.acquire, timeout=DEADLINE)
        queries.go_on.set()
        return [user.username for user in await asyncio.gather(*tasks)]

    assert asyncio.run(authenticate()) == NAMES * 8
    assert queries.on_loop == [False, False]


def test_cached_user_needs_no_thread(auth_manager, users):
    auth_manager.deserialize_user(users[0])

    with mock.patch(f"{FabAuthManager.__module__}.run_in_threadpool", autospec=True) as run_in_threadpool:
        user = asyncio.run(look_up(auth_manager, users[0]))

    run_in_threadpool.assert_not_called()
    assert user.username == NAMES[0]


def test_failure_is_not_cached(auth_manager, users, queries):
    queries.failures = 2

    async def authenticate() -> list[Any]:
        first = await asyncio.gather(look_up(auth_manager, users[0]), return_exceptions=True)
        queries.failures = 0
        return [*first, (await look_up(auth_manager, users[0])).username]

    failed, following = asyncio.run(authenticate())

    assert (type(failed), following) == (OperationalError, NAMES[0])


def test_cancelled_request_leaves_the_answer_to_the_others(auth_manager, users, queries):
    async def authenticate() -> str:
        queries.go_on.clear()
        cancelled, other = (asyncio.create_task(look_up(auth_manager, users[0])) for _ in range(2))
        assert await asyncio.to_thread(queries.begun.acquire, timeout=DEADLINE)
        cancelled.cancel()
        queries.go_on.set()
        return (await other).username

    assert asyncio.run(authenticate()) == NAMES[0]
    assert len(queries.on_loop) == 1


def test_method_of_a_subclass_is_called_on_the_loop(clock, users):
    threads = []

    class ExtendedAuthManager(FabAuthManager):
        def deserialize_user(self, token):
            threads.append(threading.get_ident())
            return super().deserialize_user(token)

    auth_manager = make_auth_manager(ExtendedAuthManager, clock)
    found = [asyncio.run(look_up(auth_manager, users[0])).username for _ in range(2)]

    assert (found, threads) == ([NAMES[0]] * 2, [threading.get_ident()] * 2)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_session_of_the_caller_survives_a_look_up(auth_manager, users, queries, failures):
    settings.Session.add(Role(name="not committed"))
    session = settings.Session()
    queries.failures = failures
    with suppress(OperationalError):
        auth_manager.deserialize_user(users[0])

    assert settings.Session() is session
    assert [role.name for role in session.new] == ["not committed"]
