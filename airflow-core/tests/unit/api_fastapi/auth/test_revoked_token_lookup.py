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
import contextvars
import os
import select as io_select
import signal
import threading
import time
import traceback
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from unittest import mock

import jwt
import pytest
from jwt import InvalidTokenError
from sqlalchemy import delete, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from airflow import settings
from airflow.api_fastapi.auth import tokens
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import revoked_token
from airflow.models.revoked_token import RevokedToken
from airflow.utils.session import create_session

pytestmark = pytest.mark.db_test

TIMEOUT = 10
#: For what a release that blocks the event loop does not do in any time.
SHORT = 3


def runners() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "revoked-tokens"]


def join_runners() -> None:
    """Wait until the threads that look up tokens have ended, as they do when no request waits."""
    for thread in runners():
        thread.join(TIMEOUT)
    assert runners() == []


@pytest.fixture(autouse=True)
def clean_slate():
    def clean():
        join_runners()
        settings.Session.remove()
        with create_session(scoped=False) as session:
            session.execute(delete(RevokedToken))
        # With the cache of tokens, if this Airflow has one.
        if get_cache := getattr(revoked_token, "get_revoked_token_cache", None):
            get_cache.cache_clear()

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
def new_token(manager):
    return lambda: manager.generate_jwt(SimpleAuthManagerUser(username="user", role="admin"))


def jti_of(token: str) -> str:
    return jwt.decode(token, options={"verify_signature": False})["jti"]


def in_an_hour() -> datetime:
    return datetime.now(tz=timezone.utc) + timedelta(hours=1)


def add_row(jti: str) -> None:
    """Add a row as another process would: this one is not told."""
    with settings.engine.begin() as connection:
        connection.execute(insert(RevokedToken.__table__).values(jti=jti, exp=in_an_hour()))


def add_expired(count: int) -> None:
    exp = datetime.now(tz=timezone.utc) - timedelta(days=1)
    with settings.engine.begin() as connection:
        rows = [{"jti": f"expired-{number}", "exp": exp} for number in range(count)]
        connection.execute(insert(RevokedToken.__table__), rows)


def rows() -> int:
    with create_session(scoped=False) as session:
        return session.scalar(select(func.count()).select_from(RevokedToken))


async def outcome(awaitable):
    """Return what is awaited, the name of a user, or the error."""
    try:
        result = await awaitable
    except Exception as e:
        return e
    return result.get_name() if hasattr(result, "get_name") else result


def on_the_loop() -> bool:
    """Tell whether this thread runs an event loop now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Database:
    """What reaches the database: its statements, and how many connections are out at once."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.on_loop: list[str] = []
        self.out = self.most = 0

    def queries(self) -> list[str]:
        return [s for s in self.statements if s.startswith("SELECT") and "revoked_token" in s]

    def deletes(self) -> list[str]:
        return [s for s in self.statements if s.startswith("DELETE")]

    def note(self, connection, cursor, statement, parameters, context, executemany):
        self.statements.append(statement)
        if on_the_loop():
            self.on_loop.append(statement)

    def checkout(self, *_):
        self.out += 1
        self.most = max(self.most, self.out)
        if on_the_loop():
            self.on_loop.append("checkout")

    def checkin(self, *_):
        self.out -= 1


@pytest.fixture
def database():
    database = Database()
    engine = settings.engine
    engine.dispose()
    listeners = [
        (engine, "before_cursor_execute", database.note),
        (engine.pool, "checkout", database.checkout),
        (engine.pool, "checkin", database.checkin),
    ]
    for listener in listeners:
        event.listen(*listener)
    yield database
    for listener in listeners:
        event.remove(*listener)


class Hold:
    """A place in the database at which the next thread that comes waits until it is let go."""

    def __init__(self, timeout: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.timeout = timeout
        self.reached = asyncio.Event()
        self.go = threading.Event()
        self.let_go: bool | None = None
        self.asked = threading.local()

    def wait(self) -> None:
        self.asked.now = False
        if self.let_go is None:
            self.let_go = False
            self.loop.call_soon_threadsafe(self.reached.set)
            self.let_go = self.go.wait(self.timeout)


@contextmanager
def held(word: str = "SELECT", *, answered: bool = False, timeout: float = SHORT):
    """
    Hold the next statement on the table of revoked tokens that begins with a word.

    :param answered: after the database has answered it, before the answer is used.
    """
    hold = Hold(timeout)

    def note(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith(word) and "revoked_token" in statement:
            hold.asked.now = True
            if not answered:
                hold.wait()

    def act(session):
        if answered and getattr(hold.asked, "now", False):
            hold.wait()

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
@pytest.mark.parametrize("count", [1, 3])
async def test_no_check_uses_the_database_on_the_loop(manager, new_token, database, count, revoked):
    given = [new_token() for _ in range(count)]
    if revoked:
        for token in given:
            await asyncio.to_thread(add_row, jti_of(token))
    outcomes = await asyncio.gather(*[outcome(manager.get_user_from_token(token)) for token in given])
    assert [str(one) for one in outcomes] == ["Token has been revoked" if revoked else "user"] * count
    assert database.on_loop == []


@pytest.mark.asyncio
async def test_loop_goes_on_while_a_query_waits(manager, new_token):
    with held() as hold:
        check = asyncio.create_task(outcome(manager.get_user_from_token(new_token())))
        await hold.reached.wait()
        hold.go.set()
        assert await check == "user"
    assert hold.let_go, "the event loop stood still until the query gave up"


@pytest.mark.asyncio
async def test_requests_that_wait_at_once_make_one_query_on_one_connection(manager, new_token, database):
    with held() as hold:
        first = asyncio.create_task(outcome(manager.get_user_from_token(new_token())))
        await hold.reached.wait()
        others = [asyncio.create_task(outcome(manager.get_user_from_token(new_token()))) for _ in range(20)]
        await asyncio.sleep(0)
        hold.go.set()
        assert await asyncio.gather(first, *others) == ["user"] * 21
    join_runners()
    assert len(database.queries()) == 2
    assert (database.most, database.out) == (1, 0)


@pytest.mark.asyncio
async def test_revocation_is_seen_by_the_next_request_though_an_older_query_is_under_way(manager, new_token):
    token = new_token()
    with held(answered=True) as hold:
        first = asyncio.create_task(outcome(manager.get_user_from_token(token)))
        await hold.reached.wait()
        add_row(jti_of(token))
        second = asyncio.create_task(outcome(manager.get_user_from_token(token)))
        await asyncio.sleep(0)
        hold.go.set()
        assert await first == "user"
        assert str(await second) == "Token has been revoked"
    assert hold.let_go, "the event loop stood still until the query gave up"


@pytest.mark.asyncio
async def test_logout_is_seen_by_the_next_request(manager, new_token):
    token = new_token()
    assert await outcome(manager.get_user_from_token(token)) == "user"
    await asyncio.to_thread(manager.revoke_token, token)
    with pytest.raises(InvalidTokenError, match="revoked"):
        await manager.get_user_from_token(token)


@pytest.mark.asyncio
async def test_broken_scoped_session_of_the_loop_does_not_matter(manager, new_token):
    session = settings.Session()
    session.add(RevokedToken(jti="broken", exp=None))
    with pytest.raises(IntegrityError):
        session.flush()
    assert await outcome(manager.get_user_from_token(new_token())) == "user"


@pytest.mark.asyncio
async def test_connection_dropped_while_the_loop_held_it_does_not_matter(manager, new_token):
    connection = settings.Session().connection().connection.dbapi_connection
    connection.close()
    try:
        assert await outcome(manager.get_user_from_token(new_token())) == "user"
    finally:
        settings.Session.registry.clear()


@pytest.mark.asyncio
async def test_connection_dropped_in_the_pool_does_not_matter(manager, new_token, monkeypatch):
    settings.engine.dispose()
    # Some releases test the connections of a pool on every database but SQLite.
    monkeypatch.setattr(settings.engine.pool, "_pre_ping", True)
    with settings.engine.connect() as connection:
        dropped = connection.connection.dbapi_connection
        connection.execute(text("SELECT 1"))
    dropped.close()
    try:
        assert await outcome(manager.get_user_from_token(new_token())) == "user"
        join_runners()
    finally:
        settings.engine.dispose()


@contextmanager
def no_table():
    with settings.engine.begin() as connection:
        connection.execute(text("ALTER TABLE revoked_token RENAME TO away"))
    try:
        yield
    finally:
        with settings.engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO revoked_token"))


@pytest.mark.asyncio
async def test_error_of_the_database_refuses_the_request_and_not_the_next(manager, new_token):
    token = new_token()
    with no_table():
        assert isinstance(await outcome(manager.get_user_from_token(token)), DBAPIError)
        join_runners()
    assert await outcome(manager.get_user_from_token(token)) == "user"


@pytest.mark.asyncio
@pytest.mark.parametrize("revoked", [True, False])
async def test_check_that_is_a_mock_is_asked_in_place_of_the_database(manager, new_token, database, revoked):
    token = new_token()
    check = mock.patch("airflow.models.revoked_token.RevokedToken.is_revoked", return_value=revoked)
    with check as is_revoked:
        result = await outcome(manager.get_user_from_token(token))
    assert str(result) == ("Token has been revoked" if revoked else "user")
    assert [call.args for call in is_revoked.call_args_list] == [(jti_of(token),)]
    assert database.statements == []


@pytest.mark.asyncio
async def test_nothing_is_held_while_no_request_waits(manager, new_token, database):
    await manager.get_user_from_token(new_token())
    join_runners()
    assert database.out == 0


def make_cleanup_due() -> None:
    RevokedToken._last_cleanup_time = float("-inf")


@pytest.mark.asyncio
async def test_cleanup_is_bounded_and_goes_on_with_the_next_request(manager, new_token):
    add_expired(1100)
    add_row("live")
    make_cleanup_due()
    left = []
    for _ in range(4):
        await manager.get_user_from_token(new_token())
        join_runners()
        left.append(rows())
    assert left == [601, 101, 1, 1]


@pytest.mark.asyncio
async def test_cleanup_keeps_its_schedule_once_nothing_is_left(manager, new_token, database):
    add_expired(3)
    make_cleanup_due()
    for _ in range(3):
        await manager.get_user_from_token(new_token())
        join_runners()
    assert len(database.deletes()) == 1


@pytest.mark.asyncio
async def test_no_request_waits_for_the_cleanup(manager, new_token):
    add_expired(3)
    make_cleanup_due()
    with held("DELETE") as hold:
        assert await outcome(manager.get_user_from_token(new_token())) == "user"
        await hold.reached.wait()
        hold.go.set()
        join_runners()
    assert hold.let_go, "the request waited for the cleanup"
    assert rows() == 0


@pytest.mark.asyncio
async def test_one_cleanup_at_a_time(manager, new_token, database):
    add_expired(3)
    make_cleanup_due()
    with held("DELETE") as hold:
        first = asyncio.create_task(outcome(manager.get_user_from_token(new_token())))
        await hold.reached.wait()
        others = [asyncio.create_task(outcome(manager.get_user_from_token(new_token()))) for _ in range(5)]
        await asyncio.sleep(0)
        hold.go.set()
        assert await asyncio.gather(first, *others) == ["user"] * 6
    join_runners()
    assert len(database.deletes()) == 1


@contextmanager
def failing(word: str):
    """Fail the statements that begin with a word."""

    def fail(connection, cursor, statement, parameters, context, executemany):
        if statement.startswith(word):
            raise OSError("no more")

    event.listen(settings.engine, "before_cursor_execute", fail)
    try:
        yield
    finally:
        event.remove(settings.engine, "before_cursor_execute", fail)


@pytest.mark.asyncio
async def test_cleanup_that_fails_fails_no_request(manager, new_token):
    add_expired(3)
    make_cleanup_due()
    with failing("DELETE"):
        assert await outcome(manager.get_user_from_token(new_token())) == "user"
        join_runners()
    assert rows() == 3
    assert await outcome(asyncio.wait_for(manager.get_user_from_token(new_token()), TIMEOUT)) == "user"


@pytest.mark.parametrize("handed", [True, False])
def test_synchronous_check_cleans_up_and_answers(handed):
    add_expired(3)
    add_row("token")
    for jti in ("token", "other"):
        make_cleanup_due()
        with create_session(scoped=False) as session:
            given = {"session": session} if handed else {}
            assert RevokedToken.is_revoked(jti, **given) is (jti == "token")
        assert rows() == 1


def test_cleanup_that_fails_ends_in_its_savepoint(database):
    add_expired(3)
    make_cleanup_due()
    with failing("DELETE"), create_session(scoped=False) as session:
        assert RevokedToken.is_revoked("token", session=session) is False
    words = [" ".join(statement.split()[:2]) for statement in database.statements]
    assert "ROLLBACK TO" in words, "where an error ends the transaction, the check fails with the cleanup"
    assert rows() == 3


class Answering:
    """A lookup whose queries the test answers, one by one; the tokens named in ``revoked`` are revoked."""

    def __init__(self, max_tokens: int = 500) -> None:
        self.asked: list[list[str]] = []
        self.revoked: set[str] = set()
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.lookup = tokens.RevokedTokenLookup()
        self.lookup.max_tokens = max_tokens
        self.lookup._find_revoked = self.find_revoked

    def find_revoked(self, jtis):
        self.asked.append(list(jtis))
        found = set(self.revoked)
        self.began.release()
        assert self.go.acquire(timeout=TIMEOUT)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return found

    def request(self, *jtis: str) -> list[asyncio.Task]:
        return [asyncio.create_task(outcome(self.lookup.is_revoked(jti))) for jti in jtis]

    async def begun(self) -> None:
        """Wait until one more query has begun."""
        assert await asyncio.to_thread(self.began.acquire, timeout=TIMEOUT)

    def answer(self, error: BaseException | None = None) -> None:
        """Answer the query that is under way."""
        self.error = error
        self.go.release()


async def within(tasks):
    """Return the outcomes of tasks that must not wait for ever."""
    _, waiting = await asyncio.wait(tasks, timeout=TIMEOUT)
    assert not waiting, f"{len(waiting)} of {len(tasks)} requests wait for ever"
    return [task.result() for task in tasks]


@pytest.mark.asyncio
async def test_error_reaches_the_requests_of_its_query_and_no_others():
    database = Answering()
    first = database.request("first")
    await database.begun()
    second = database.request("second", "third", "second")
    await asyncio.sleep(0)
    database.answer()
    assert await within(first) == [False]
    await database.begun()
    third = database.request("third")
    await asyncio.sleep(0)
    database.answer(OSError("gone"))
    errors = await within(second)
    await database.begun()
    database.answer()
    assert await within(third) == [False]
    assert database.asked == [["first"], ["second", "third"], ["third"]]
    assert [str(error) for error in errors] == ["gone"] * 3
    assert {type(error) for error in errors} == {OSError}
    join_runners()


@pytest.mark.asyncio
async def test_each_request_raises_an_error_of_its_own():
    database = Answering()
    first = database.request("first")
    await database.begun()
    others = database.request(*[f"token-{number}" for number in range(10)])
    await asyncio.sleep(0)
    database.answer()
    await within(first)
    await database.begun()
    database.answer(DBAPIError("SELECT 1", {}, OSError("gone")))
    errors = await within(others)
    assert len({id(error) for error in errors}) == 10
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in errors}) == 1
    assert {str(error.orig) for error in errors} == {"gone"}
    join_runners()


class Uncopied(Exception):
    def __reduce__(self):
        raise TypeError("not this one")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SystemExit(1), RuntimeError),
        (KeyboardInterrupt(), RuntimeError),
        (asyncio.CancelledError(), RuntimeError),
        (StopIteration(), RuntimeError),
        (Uncopied(), Uncopied),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_no_error_leaves_a_request_waiting(error, told):
    database = Answering()
    tasks = database.request("token")
    await database.begun()
    later = database.request("later")
    await asyncio.sleep(0)
    database.answer(error)
    (raised,) = await within(tasks)
    assert type(raised) is told
    await database.begun()
    database.answer()
    assert await within(later) == [False]
    join_runners()


@pytest.mark.asyncio
async def test_cancelled_request_neither_cancels_nor_starves_the_others():
    database = Answering()
    first = database.request("first")
    await database.begun()
    tasks = database.request("token", "token", "alone", "other")
    await asyncio.sleep(0)

    async def cancel(*cancelled: asyncio.Task) -> None:
        for task in cancelled:
            task.cancel()
        await asyncio.wait(cancelled, timeout=TIMEOUT)

    await cancel(tasks[0], tasks[2])
    database.answer()
    assert await within(first) == [False]
    await database.begun()
    await cancel(tasks[3])
    database.answer()
    assert await within([tasks[1]]) == [False]
    assert [task.cancelled() for task in tasks] == [True, False, True, True]
    assert database.asked == [["first"], ["token", "other"]]
    join_runners()


@pytest.mark.asyncio
async def test_query_is_bounded_and_asks_for_those_who_waited_longest():
    database = Answering(max_tokens=2)
    first = database.request("first")
    await database.begun()
    others = database.request("b", "a", "b", "d", "c", "a", "e")
    await asyncio.sleep(0)
    for _ in range(3):
        database.answer()
        await database.begun()
    database.answer()
    assert await within([*first, *others]) == [False] * 8
    assert database.asked == [["first"], ["b", "a"], ["d", "c"], ["e"]]
    join_runners()


@pytest.mark.asyncio
async def test_500_tokens_are_the_most_of_a_query(manager, database):
    lookup = tokens.RevokedTokenLookup()
    with held(timeout=TIMEOUT) as hold:
        first = asyncio.create_task(lookup.is_revoked("first"))
        await hold.reached.wait()
        add_row("token-510")
        others = [asyncio.create_task(lookup.is_revoked(f"token-{number}")) for number in range(520)]
        await asyncio.sleep(0)
        hold.go.set()
        assert await within([first, *others]) == [False] * 511 + [True] + [False] * 9
    assert len(database.queries()) == 3
    join_runners()


def test_requests_of_two_event_loops_share_a_query():
    database = Answering()
    database.revoked = {"second"}
    answers: dict[str, bool] = {}
    submitted = threading.Barrier(3)

    def serve(jti: str) -> None:
        async def ask() -> bool:
            task = asyncio.create_task(database.lookup.is_revoked(jti))
            await asyncio.sleep(0)
            submitted.wait(TIMEOUT)
            return await task

        answers[jti] = asyncio.run(ask())

    async def hold() -> bool:
        task = asyncio.create_task(database.lookup.is_revoked("first"))
        await database.begun()
        for thread in threads:
            thread.start()
        await asyncio.to_thread(submitted.wait, TIMEOUT)
        database.answer()
        await database.begun()
        database.answer()
        return await task

    threads = [threading.Thread(target=serve, args=(jti,), daemon=True) for jti in ("second", "third")]
    assert asyncio.run(hold()) is False
    for thread in threads:
        thread.join(TIMEOUT)
    assert not any(thread.is_alive() for thread in threads)
    assert answers == {"second": True, "third": False}
    assert [sorted(batch) for batch in database.asked] == [["first"], ["second", "third"]]
    join_runners()


@pytest.mark.asyncio
async def test_thread_that_does_not_start_fails_its_request_and_not_the_next(manager, new_token):
    with mock.patch.object(threading.Thread, "start", autospec=True, side_effect=RuntimeError("no thread")):
        error = await outcome(asyncio.wait_for(manager.get_user_from_token(new_token()), TIMEOUT))
    assert str(error) == "no thread"
    assert await outcome(asyncio.wait_for(manager.get_user_from_token(new_token()), TIMEOUT)) == "user"


class Watched(dict):
    """Notes what is done to it while a lock is free."""

    def __init__(self, lock) -> None:
        self.lock = lock
        self.unlocked: list[str] = []

    def note(self, what: str) -> None:
        if not self.lock.locked():
            self.unlocked.append(what)

    def setdefault(self, *args):
        self.note("setdefault")
        return super().setdefault(*args)

    def pop(self, *args):
        self.note("pop")
        return super().pop(*args)

    def __bool__(self) -> bool:
        self.note("bool")
        return len(self) > 0


@pytest.mark.asyncio
async def test_requests_that_wait_are_only_used_under_the_lock():
    database = Answering()
    watched = database.lookup._waiting = Watched(database.lookup._lock)
    first = database.request("first")
    await database.begun()
    second = database.request("second")
    await asyncio.sleep(0)
    database.answer()
    await database.begun()
    database.answer()
    assert await within([*first, *second]) == [False, False]
    join_runners()
    assert watched.unlocked == []


@pytest.mark.asyncio
async def test_thread_does_not_know_the_request_that_started_it():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen = []
    lookup = tokens.RevokedTokenLookup()
    lookup._find_revoked = lambda jtis: seen.append(variable.get()) or ()
    variable.set("of a request")
    assert await lookup.is_revoked("token") is False
    assert seen == ["none"]
    join_runners()


@pytest.mark.parametrize("locked", [True, False])
def test_forked_child_answers_while_another_thread_of_the_parent_asks(locked):
    lookup = tokens.revoked_token_lookup
    began, go = threading.Event(), threading.Event()

    def hold(connection, cursor, statement, parameters, context, executemany):
        if not began.is_set():
            began.set()
            go.wait(TIMEOUT)

    def ask(jti: str) -> bool:
        return asyncio.run(asyncio.wait_for(lookup.is_revoked(jti), 5))

    asker = threading.Thread(target=ask, args=("token",), daemon=True)
    event.listen(settings.engine, "before_cursor_execute", hold)
    reader, writer = os.pipe()
    try:
        asker.start()
        assert began.wait(TIMEOUT)
        if locked:
            assert lookup._lock.acquire(timeout=TIMEOUT)
        if (child := os.fork()) == 0:
            try:
                os.write(writer, str(ask("token")).encode())
            finally:
                os._exit(0)
        if locked:
            lookup._lock.release()
        try:
            told = os.read(reader, 100) if io_select.select([reader], [], [], 10)[0] else b"nothing"
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    finally:
        go.set()
        asker.join(TIMEOUT)
        event.remove(settings.engine, "before_cursor_execute", hold)
        os.close(reader)
        os.close(writer)
    assert told == b"False"
    assert not asker.is_alive()
    join_runners()
