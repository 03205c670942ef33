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

Nothing here needs a core that awaits ``adeserialize_user``: tests of it call it themselves. Those that go
through ``get_user_from_token`` hold for a core that awaits it and for one that calls ``deserialize_user``.
"""

from __future__ import annotations

import asyncio
import os
import select as io_select
import signal
import threading
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from cachetools import TTLCache
from jwt import InvalidTokenError
from packaging.version import Version
from sqlalchemy import event, select, update
from sqlalchemy.exc import OperationalError

from airflow import settings
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import Action, Permission, Resource, Role, User
from airflow.providers.fab.www.app import create_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite")]

# What must happen has happened after so many seconds, even on a busy machine.
DEADLINE = 10
# What must not happen is given so many seconds.
GRACE = 1

REFUSES_INACTIVE = Version(version("apache-airflow-providers-fab")) >= Version("3.9.0")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Background(threading.Thread):
    """A call in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(daemon=True)
        self._call = (function, args)
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        function, args = self._call
        self.outcome = outcome(function, *args)

    def ended(self, timeout: float = DEADLINE) -> bool:
        self.join(timeout)
        return not self.is_alive()


class Database:
    """Watches the statements that read users; makes them wait, or fail."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()
        self.error: Exception | None = None
        self.reads = 0
        self.reads_on_loop = 0

    def __call__(self, conn, cursor, statement, parameters, context, executemany) -> None:
        if not statement.startswith("SELECT") or "FROM ab_user \n" not in statement:
            return
        self.reads += 1
        self.reads_on_loop += on_loop()
        self.asked.release()
        assert self.go_on.wait(DEADLINE)
        if self.error is not None:
            raise self.error


def on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a call returns, or the exception that it raises."""
    try:
        return function(*args)
    except Exception as error:
        return error


def name_of(result: Any) -> Any:
    """Return the name of a user; an exception as it is."""
    return result.username if isinstance(result, User) else result


@cache
def app_builder():
    return create_app(enable_plugins=False).appbuilder


@contextmanager
def changes():
    with settings.NonScopedSession() as session:
        yield session
        session.commit()


@pytest.fixture
def users() -> Iterator[list[dict[str, str]]]:
    """Make users with a role that has a permission, and return the claims of their tokens."""
    names = [f"user-cache-{number}" for number in range(4)]
    with changes() as session:
        permission = Permission(action=Action(name="can_try"), resource=Resource(name="User cache"))
        role = Role(name="User cache", permissions=[permission])
        made = [
            User(first_name="a", last_name="b", username=name, email=name, active=True, roles=[role])
            for name in names
        ]
        session.add_all([permission, role, *made])
        session.flush()
        claims = [{"sub": str(user.id)} for user in made]
    yield claims
    with changes() as session:
        for user in session.scalars(select(User).where(User.username.in_(names))):
            session.delete(user)
        session.flush()
        for model, name in (
            (Role, "User cache"),
            (Permission, None),
            (Action, "can_try"),
            (Resource, "User cache"),
        ):
            if model is Permission:
                found = session.scalars(select(Permission).join(Action).where(Action.name == "can_try"))
            else:
                found = session.scalars(select(model).where(model.name == name))
            for row in found.unique():
                session.delete(row)
            session.flush()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def auth_manager(clock: Clock) -> Iterator[FabAuthManager]:
    """Return an auth manager with a cache of its own, and a clock that stands still."""
    yield make_auth_manager(FabAuthManager, clock)
    settings.Session.remove()


def make_auth_manager(cls: type[FabAuthManager], clock: Clock, *, ttl: int = 30) -> FabAuthManager:
    auth_manager = cls()
    auth_manager.appbuilder = app_builder()
    auth_manager.cache = TTLCache(maxsize=100, ttl=ttl, timer=clock)
    return auth_manager


@pytest.fixture
def database(users: list[dict[str, str]]) -> Iterator[Database]:
    database = Database()
    event.listen(settings.engine, "before_cursor_execute", database)
    yield database
    database.go_on.set()
    event.remove(settings.engine, "before_cursor_execute", database)


async def in_time(awaitable):
    try:
        return await asyncio.wait_for(awaitable, DEADLINE)
    except asyncio.TimeoutError:
        pytest.fail("nothing came in time")


async def asked(database: Database, times: int = 1) -> None:
    """Wait, on the loop, until the database has been asked."""
    for _ in range(times):
        assert await asyncio.to_thread(database.asked.acquire, timeout=DEADLINE)


async def let_tasks_run() -> None:
    """Let every task of the loop come to where it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def outcomes(tasks) -> list[Any]:
    return [name_of(result) for result in await in_time(asyncio.gather(*tasks, return_exceptions=True))]


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


def test_two_threads_may_throw_out_the_same_expired_entries(auth_manager, clock, users):
    first, second = Entry(), Entry()
    for entry in (first, second, first):
        # Both have one hash, so the cache compares them when it looks for the second, which expires first.
        auth_manager.cache[entry] = "somebody"
    clock.now = 100
    others = []

    def look_another_user_up():
        others.append(Background(auth_manager.deserialize_user, users[1]))
        others[0].ended(GRACE)

    first.acts = [look_another_user_up]
    result = outcome(auth_manager.deserialize_user, users[0])

    assert others[0].ended()
    assert [name_of(result), name_of(others[0].outcome)] == ["user-cache-0", "user-cache-1"]


def test_entry_may_be_thrown_out_while_it_is_found(auth_manager, clock, users):
    user = auth_manager.deserialize_user(users[0])
    entry, others = Entry(user.id), []
    auth_manager.cache = TTLCache(maxsize=1, ttl=30, timer=clock)
    auth_manager.cache[entry] = user

    def look_another_user_up():
        others.append(Background(auth_manager.deserialize_user, users[1]))
        others[0].ended(GRACE)

    entry.acts = [lambda: None, look_another_user_up]
    result = outcome(auth_manager.deserialize_user, users[0])

    assert others[0].ended()
    assert [name_of(result), name_of(others[0].outcome)] == ["user-cache-0", "user-cache-1"]


def test_threads_that_miss_the_same_user_ask_once(auth_manager, users, database):
    database.go_on.clear()
    threads = [Background(auth_manager.deserialize_user, users[0]) for _ in range(8)]
    assert database.asked.acquire(timeout=DEADLINE)
    for _ in threads[1:]:
        if not database.asked.acquire(timeout=GRACE):
            break
    database.go_on.set()

    assert all([thread.ended() for thread in threads])
    assert database.reads == 1
    assert {name_of(thread.outcome) for thread in threads} == {"user-cache-0"}


def test_threads_that_miss_other_users_do_not_wait(auth_manager, users, database):
    database.go_on.clear()
    threads = [Background(auth_manager.deserialize_user, claims) for claims in users]
    asked_at_once = [database.asked.acquire(timeout=DEADLINE) for _ in threads]
    database.go_on.set()

    assert all([thread.ended() for thread in threads])
    assert asked_at_once == [True] * 4
    assert [name_of(thread.outcome) for thread in threads] == [f"user-cache-{number}" for number in range(4)]


def test_hit_waits_for_no_look_up(auth_manager, users, database):
    auth_manager.deserialize_user(users[0])
    assert database.asked.acquire(timeout=DEADLINE)
    database.go_on.clear()
    miss = Background(auth_manager.deserialize_user, users[1])
    assert database.asked.acquire(timeout=DEADLINE)
    hit = Background(auth_manager.deserialize_user, users[0])
    hit_ended = hit.ended()
    database.go_on.set()

    assert miss.ended()
    assert hit_ended
    assert name_of(hit.outcome) == "user-cache-0"


def test_user_is_cached_until_the_ttl_is_over(auth_manager, clock, users, database):
    seen = []
    for now in (0, 29, 31):
        clock.now = now
        seen.append((name_of(auth_manager.deserialize_user(users[0])), database.reads))

    assert seen == [("user-cache-0", 1), ("user-cache-0", 1), ("user-cache-0", 2)]


@pytest.mark.parametrize("limits", [{"maxsize": 100, "ttl": 0}, {"maxsize": 0, "ttl": 30}], ids=str)
def test_cache_that_keeps_nothing_reads_each_time(auth_manager, clock, users, database, limits):
    auth_manager.cache = TTLCache(timer=clock, **limits)

    assert [name_of(auth_manager.deserialize_user(users[0])) for _ in range(3)] == ["user-cache-0"] * 3
    assert database.reads == 3


def test_cache_may_be_cleared(auth_manager, users, database):
    auth_manager.deserialize_user(users[0])
    auth_manager.cache.pop(int(users[0]["sub"]), None)
    auth_manager.deserialize_user(users[0])
    auth_manager.cache.clear()
    auth_manager.deserialize_user(users[0])

    assert database.reads == 3


def test_deleted_user_is_refused_after_the_ttl(auth_manager, clock, users):
    assert name_of(auth_manager.deserialize_user(users[0])) == "user-cache-0"
    settings.Session.remove()
    with changes() as session:
        session.delete(session.get(User, int(users[0]["sub"])))
    clock.now = 31

    for _ in range(2):
        with pytest.raises(ValueError, match=f"User with id {users[0]['sub']} not found"):
            auth_manager.deserialize_user(users[0])
        settings.Session.remove()


def test_inactive_user_is_treated_as_the_release_does(auth_manager, clock, users):
    assert name_of(auth_manager.deserialize_user(users[0])) == "user-cache-0"
    settings.Session.remove()
    with changes() as session:
        session.execute(update(User).where(User.id == int(users[0]["sub"])).values(active=False))
    clock.now = 31
    first, second = (outcome(auth_manager.deserialize_user, users[0]) for _ in range(2))
    settings.Session.remove()
    with changes() as session:
        session.execute(update(User).where(User.id == int(users[0]["sub"])).values(active=True))

    if REFUSES_INACTIVE:
        assert [type(first), type(second)] == [ValueError, ValueError]
        assert "is not active" in str(first)
    else:
        assert [name_of(first), name_of(second)] == ["user-cache-0", "user-cache-0"]
    assert name_of(auth_manager.deserialize_user(users[0])) == "user-cache-0"


@pytest.mark.parametrize("claims", [{"sub": "nobody"}, {}], ids=["no-number", "no-subject"])
def test_token_without_a_user_is_refused(auth_manager, database, claims):
    async def authenticate():
        token = auth_manager._get_token_signer().generate(claims)
        return await auth_manager.get_user_from_token(token)

    with pytest.raises(InvalidTokenError):
        asyncio.run(authenticate())
    assert database.reads == 0


def test_token_is_answered_with_its_user(auth_manager, users, database):
    with changes() as session:
        token = auth_manager.generate_jwt(session.get(User, int(users[0]["sub"])))
    reads = database.reads

    async def authenticate():
        return [await in_time(auth_manager.get_user_from_token(token)) for _ in range(3)]

    assert [name_of(user) for user in asyncio.run(authenticate())] == ["user-cache-0"] * 3
    assert database.reads == reads + 1


def test_override_of_a_subclass_is_what_core_calls(clock, users):
    threads = []

    class ExtendedAuthManager(FabAuthManager):
        def deserialize_user(self, token):
            threads.append(threading.get_ident())
            user = super().deserialize_user(token)
            return user, token["jti"]

    auth_manager = make_auth_manager(ExtendedAuthManager, clock)
    token = auth_manager._get_token_signer().generate({**users[0]})

    async def authenticate():
        return [await in_time(auth_manager.get_user_from_token(token)) for _ in range(2)]

    results = asyncio.run(authenticate())
    settings.Session.remove()

    assert [name_of(user) for user, _ in results] == ["user-cache-0", "user-cache-0"]
    assert len({jti for _, jti in results}) == 1
    assert threads == [threading.get_ident()] * 2


def test_no_read_on_the_loop_where_core_awaits(auth_manager, users, database):
    with changes() as session:
        tokens = [auth_manager.generate_jwt(session.get(User, int(claims["sub"]))) for claims in users]
    reads = database.reads

    async def authenticate():
        return await outcomes([auth_manager.get_user_from_token(token) for token in tokens * 5])

    assert asyncio.run(authenticate()) == [f"user-cache-{number}" for number in range(4)] * 5
    assert database.reads == reads + 4
    assert database.reads_on_loop == (0 if hasattr(BaseAuthManager, "adeserialize_user") else 4)


def test_look_up_does_not_block_the_loop(auth_manager, users, database):
    async def authenticate():
        database.go_on.clear()
        tasks = [asyncio.create_task(auth_manager.adeserialize_user(claims)) for claims in users[:2] * 10]
        await asked(database, 2)
        await let_tasks_run()
        done = [task.done() for task in tasks]
        database.go_on.set()
        return done, await outcomes(tasks)

    done, names = asyncio.run(authenticate())

    assert done == [False] * 20
    assert names == ["user-cache-0", "user-cache-1"] * 10
    assert (database.reads, database.reads_on_loop) == (2, 0)


def test_hit_needs_no_thread(auth_manager, users, database):
    async def authenticate():
        await in_time(auth_manager.adeserialize_user(users[0]))
        hit = auth_manager.adeserialize_user(users[0])
        with pytest.raises(StopIteration) as answer:
            hit.send(None)
        return answer.value.value

    assert name_of(asyncio.run(authenticate())) == "user-cache-0"
    assert database.reads == 1


def test_look_up_needs_no_thread_of_the_loop(auth_manager, users, database):
    """Those may all be taken by what waits for a connection that this request holds."""

    async def authenticate():
        release = threading.Event()
        loop = asyncio.get_running_loop()
        taken = [loop.run_in_executor(None, release.wait, DEADLINE) for _ in range(64)]
        try:
            return await in_time(auth_manager.adeserialize_user(users[0]))
        finally:
            release.set()
            await asyncio.gather(*taken)

    assert name_of(asyncio.run(authenticate())) == "user-cache-0"


def test_threads_and_loops_share_a_look_up(auth_manager, users, database):
    async def authenticate():
        return await in_time(auth_manager.adeserialize_user(users[0]))

    database.go_on.clear()
    threads = [Background(asyncio.run, authenticate()) for _ in range(3)]
    assert database.asked.acquire(timeout=DEADLINE)
    threads += [Background(auth_manager.deserialize_user, users[0]) for _ in range(3)]
    asked_again = database.asked.acquire(timeout=GRACE)
    database.go_on.set()

    assert all([thread.ended() for thread in threads])
    assert not asked_again
    assert [name_of(thread.outcome) for thread in threads] == ["user-cache-0"] * 6
    assert database.reads == 1


@pytest.mark.parametrize("how", ["deserialize_user", "adeserialize_user"])
def test_answer_that_is_not_cached_is_not_older_than_its_request(clock, users, how):
    auth_manager = make_auth_manager(FabAuthManager, clock, ttl=0)
    has_read, go_on = threading.Event(), threading.Event()

    def hold(*args):
        if not has_read.is_set():
            has_read.set()
            assert go_on.wait(DEADLINE)

    def ask() -> Background:
        if how == "deserialize_user":
            return Background(auth_manager.deserialize_user, users[0])
        return Background(asyncio.run, authenticate())

    async def authenticate():
        return await in_time(auth_manager.adeserialize_user(users[0]))

    with changes() as session:
        session.execute(update(User).where(User.id == int(users[0]["sub"])).values(last_name="before"))
    event.listen(settings.engine, "checkin", hold)
    try:
        first = ask()
        assert has_read.wait(DEADLINE)
        with changes() as session:
            session.execute(update(User).where(User.id == int(users[0]["sub"])).values(last_name="after"))
        later = [ask() for _ in range(3)]
        later[0].ended(GRACE)
        go_on.set()
        assert all([thread.ended() for thread in (first, *later)])
    finally:
        go_on.set()
        event.remove(settings.engine, "checkin", hold)

    assert [thread.outcome.last_name for thread in (first, *later)] == ["before", "after", "after", "after"]


def test_cached_answer_serves_all_who_waited(auth_manager, users, database):
    async def authenticate():
        database.go_on.clear()
        first = asyncio.create_task(auth_manager.adeserialize_user(users[0]))
        await asked(database)
        later = [asyncio.create_task(auth_manager.adeserialize_user(users[0])) for _ in range(5)]
        await let_tasks_run()
        database.go_on.set()
        return await in_time(asyncio.gather(first, *later))

    results = asyncio.run(authenticate())

    assert {id(user) for user in results} == {id(results[0])}
    assert database.reads == 1


def test_error_reaches_those_who_waited_and_nobody_else(auth_manager, users, database):
    async def authenticate():
        database.go_on.clear()
        failing = [asyncio.create_task(auth_manager.adeserialize_user(users[0])) for _ in range(5)]
        await asked(database)
        await let_tasks_run()
        database.error = OperationalError("the query fails", None, Exception())
        database.go_on.set()
        failed = await outcomes(failing)
        database.error = None
        return failed, await outcomes([auth_manager.adeserialize_user(users[0])])

    failed, following = asyncio.run(authenticate())

    assert [type(error) for error in failed] == [OperationalError] * 5
    assert following == ["user-cache-0"]


def test_refusal_is_not_cached(auth_manager, users):
    with changes() as session:
        user = session.get(User, int(users[0]["sub"]))
        session.delete(user)

    async def refused():
        with pytest.raises(ValueError, match="not found"):
            await in_time(auth_manager.adeserialize_user(users[0]))

    asyncio.run(refused())
    with changes() as session:
        session.add(
            User(
                id=int(users[0]["sub"]), first_name="a", last_name="b", username="user-cache-0", email="again"
            )
        )

    assert name_of(asyncio.run(auth_manager.adeserialize_user(users[0]))) == "user-cache-0"


def test_cancelled_request_leaves_the_answer_to_the_others(auth_manager, users, database):
    async def authenticate():
        database.go_on.clear()
        tasks = [asyncio.create_task(auth_manager.adeserialize_user(users[0])) for _ in range(5)]
        await asked(database)
        await let_tasks_run()
        for task in (tasks[0], tasks[3]):
            task.cancel()
        await let_tasks_run()
        tasks.append(asyncio.create_task(auth_manager.adeserialize_user(users[0])))
        await let_tasks_run()
        database.go_on.set()
        return await outcomes(tasks)

    results = asyncio.run(authenticate())

    assert [type(results[0]), type(results[3])] == [asyncio.CancelledError] * 2
    assert [results[1], results[2], results[4], results[5]] == ["user-cache-0"] * 4
    assert database.reads == 1


def test_look_up_that_cannot_begin_is_an_error_and_not_a_wait(auth_manager, users, monkeypatch):
    async def authenticate():
        return await outcomes([auth_manager.adeserialize_user(users[0])])

    def fail(*args, **kwargs):
        raise RuntimeError("no more threads")

    with monkeypatch.context() as patch:
        patch.setattr(auth_manager._user_lookups._threads, "submit", fail)
        failed = [asyncio.run(authenticate())[0] for _ in range(2)]

    assert [str(error) for error in failed] == ["no more threads"] * 2
    assert asyncio.run(authenticate()) == ["user-cache-0"]


@pytest.mark.parametrize("replaced", ["subclass", "instance", "class"])
def test_what_took_the_place_of_deserialize_user_is_called_on_the_loop(clock, users, monkeypatch, replaced):
    threads = []

    def deserialize_user(self_or_token, token=None):
        threads.append(threading.get_ident())
        return "somebody"

    auth_manager_cls = FabAuthManager
    if replaced == "subclass":
        auth_manager_cls = type("Extended", (FabAuthManager,), {"deserialize_user": deserialize_user})
    auth_manager = make_auth_manager(auth_manager_cls, clock)
    if replaced == "instance":
        monkeypatch.setattr(auth_manager, "deserialize_user", deserialize_user)
    elif replaced == "class":
        monkeypatch.setattr(FabAuthManager, "deserialize_user", deserialize_user)

    assert asyncio.run(auth_manager.adeserialize_user(users[0])) == "somebody"
    assert threads == [threading.get_ident()]


def test_subclass_that_does_not_override_it_is_looked_up_in_a_thread(clock, users, database):
    class ExtendedAuthManager(FabAuthManager):
        pass

    auth_manager = make_auth_manager(ExtendedAuthManager, clock)

    assert name_of(asyncio.run(auth_manager.adeserialize_user(users[0]))) == "user-cache-0"
    assert (database.reads, database.reads_on_loop) == (1, 0)


def test_session_of_the_caller_is_left_alone(auth_manager, users):
    settings.Session.add(Role(name="not committed"))
    auth_manager.deserialize_user(users[0])
    pending = [role.name for role in settings.Session.new]
    settings.Session.remove()
    with changes() as session:
        committed = session.scalars(select(Role).where(Role.name == "not committed")).unique().all()
        for role in committed:
            session.delete(role)

    assert (pending, committed) == (["not committed"], [])


def read_all(user: User) -> Any:
    """Read what FAB reads of the user of a request."""
    roles = [
        (role.id, role.name, [(perm.id, perm.action.name, perm.resource.name) for perm in role.permissions])
        for role in user.roles
    ]
    columns = [getattr(user, column.key) for column in User.__table__.columns]
    return (
        user.get_id(),
        user.get_name(),
        user.get_full_name(),
        user.is_active,
        user.perms,
        roles,
        columns,
    )


def test_user_can_be_read_in_all_threads_when_nothing_is_left_of_its_session(auth_manager, users):
    user = asyncio.run(auth_manager.adeserialize_user(users[0]))
    settings.Session.remove()
    barrier = threading.Barrier(8)

    def read():
        barrier.wait(DEADLINE)
        return read_all(user)

    threads = [Background(read) for _ in range(8)]
    expected = read_all(user)

    assert all([thread.ended() for thread in threads])
    assert expected[4] == {("can_try", "User cache")}
    assert [thread.outcome for thread in threads] == [expected] * 8


def test_look_up_leaves_no_connection_taken(auth_manager, users):
    taken = []

    def take(*args):
        taken.append(1)

    def give_back(*args):
        taken.pop()

    with ExitStack() as stack:
        for name, listener in (("checkout", take), ("checkin", give_back)):
            event.listen(settings.engine, name, listener)
            stack.callback(event.remove, settings.engine, name, listener)

        async def authenticate():
            return await outcomes([auth_manager.adeserialize_user(claims) for claims in users])

        assert asyncio.run(authenticate()) == [f"user-cache-{number}" for number in range(4)]
        assert taken == []


def in_child(function: Callable[[], bool]) -> str:
    """Return what a call says in a child process: true, false, an error, or nothing in time."""
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


@pytest.mark.parametrize("how", ["deserialize_user", "adeserialize_user"])
def test_child_process_does_not_wait_for_look_ups_of_its_parent(auth_manager, users, database, how):
    async def authenticate(claims):
        return await in_time(auth_manager.adeserialize_user(claims))

    def answer() -> bool:
        database.go_on = threading.Event()
        database.go_on.set()
        call = (
            auth_manager.deserialize_user
            if how == "deserialize_user"
            else lambda c: asyncio.run(authenticate(c))
        )
        return [name_of(call(claims)) for claims in users[:2]] == ["user-cache-0", "user-cache-1"]

    database.go_on.clear()
    under_way = [Background(asyncio.run, authenticate(claims)) for claims in users]
    for _ in under_way:
        assert database.asked.acquire(timeout=DEADLINE)
    said = in_child(answer)
    database.go_on.set()

    assert all([thread.ended() for thread in under_way])
    assert said == "True"
    assert [name_of(thread.outcome) for thread in under_way] == [
        f"user-cache-{number}" for number in range(4)
    ]


def test_fork_waits_for_a_thread_that_changes_the_cache(auth_manager, clock, users):
    """Or the child would find the cache half changed, and the lock taken."""
    first, second = Entry(), Entry()
    for entry in (first, second, first):
        auth_manager.cache[entry] = "somebody"
    clock.now = 100
    changing, let_it_end = threading.Event(), threading.Event()

    def hold():
        changing.set()
        let_it_end.wait(GRACE)

    # The third time the entry is out of one half of the cache and still in the other.
    first.acts = [lambda: None, lambda: None, hold]
    thread = Background(auth_manager.deserialize_user, users[0])
    assert changing.wait(DEADLINE)
    said = in_child(lambda: [name_of(auth_manager.deserialize_user(claims)) for claims in users[:2]])
    let_it_end.set()

    assert thread.ended()
    assert [name_of(thread.outcome), said] == ["user-cache-0", "['user-cache-0', 'user-cache-1']"]
