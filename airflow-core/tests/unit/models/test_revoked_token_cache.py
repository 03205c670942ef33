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

import gc
import os
import select as io_select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from unittest import mock

import pytest
import time_machine
from jwt import InvalidTokenError
from sqlalchemy import delete, event, insert, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

import airflow.models.revoked_token as revoked_token
from airflow import settings
from airflow._shared.observability.metrics import stats
from airflow._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow._shared.observability.metrics.metrics_registry import MetricsRegistry
from airflow.api_fastapi.app import create_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException
from airflow.models.revoked_token import RevokedToken
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

SIZE = ("api_auth", "revoked_token_cache_size")
TTL = ("api_auth", "revoked_token_cache_ttl_seconds")
OFF = [
    pytest.param({SIZE: "0"}, id="size-0"),
    pytest.param({SIZE: "-1"}, id="size-negative"),
    pytest.param({TTL: "0"}, id="ttl-0"),
    pytest.param({TTL: "-1"}, id="ttl-negative"),
]
TIMEOUT = 20


def forget_cache() -> None:
    """Let the next check make a new cache, from the configuration as it then is."""
    # A release that has no cache has nothing to forget.
    if get_cache := getattr(revoked_token, "get_revoked_token_cache", None):
        get_cache.cache_clear()


@pytest.fixture(autouse=True)
def clean_slate():
    def clean():
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


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    RevokedToken._last_cleanup_time = clock.now
    return clock


def in_an_hour() -> datetime:
    return datetime.now(tz=timezone.utc) + timedelta(hours=1)


def yesterday() -> datetime:
    return datetime.now(tz=timezone.utc) - timedelta(days=1)


def add_row(jti: str, exp: datetime | None = None) -> None:
    """Add a row as another process would: this one is not told."""
    with settings.engine.begin() as connection:
        connection.execute(insert(RevokedToken.__table__).values(jti=jti, exp=exp or in_an_hour()))


def has_row(jti: str) -> bool:
    with create_session(scoped=False) as session:
        return session.get(RevokedToken, jti) is not None


@contextmanager
def statements():
    """Collect the statements that reach the database."""
    seen = []

    def note(connection, cursor, statement, parameters, context, executemany):
        seen.append(statement)

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)


def check(jti: str) -> tuple[bool, int]:
    """Return what ``is_revoked`` answers and how many statements it took."""
    with statements() as seen:
        revoked = RevokedToken.is_revoked(jti)
    return revoked, len(seen)


def outcome(function, *args, **kwargs):
    """Return what the function returns or raises."""
    try:
        return function(*args, **kwargs)
    except Exception as e:
        return e


@contextmanager
def once_answered(action, checks=1):
    """Run ``action`` in each of the next checks, between its answer from the database and the use of it."""
    asked = threading.local()
    left = [action] * checks

    def note(connection, cursor, statement, parameters, context, executemany):
        asked.now = "EXISTS" in statement.upper()

    def act(session):
        if getattr(asked, "now", False) and left:
            left.pop()()

    event.listen(settings.engine, "after_cursor_execute", note)
    event.listen(Session, "before_commit", act)
    try:
        yield
    finally:
        event.remove(Session, "before_commit", act)
        event.remove(settings.engine, "after_cursor_execute", note)
    assert not left


def run_threads(*functions) -> list:
    """Run each function in a thread of its own, all at once; return their outcomes."""
    barrier = threading.Barrier(len(functions))
    outcomes: list = [None] * len(functions)

    def run(index, function):
        barrier.wait(TIMEOUT)
        outcomes[index] = outcome(function)
        settings.Session.remove()

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert not [thread for thread in threads if thread.is_alive()]
    return outcomes


@pytest.mark.parametrize("revoked", [True, False])
def test_second_check_asks_no_database(revoked):
    if revoked:
        add_row("token")
    assert check("token") == (revoked, 1)
    assert check("token") == (revoked, 0)
    assert check("token") == (revoked, 0)


@pytest.mark.asyncio
async def test_requests_with_one_token_ask_the_database_once():
    manager = SimpleAuthManager()
    token = manager.generate_jwt(SimpleAuthManagerUser(username="user", role="admin"))
    with statements() as seen:
        for _ in range(5):
            assert (await manager.get_user_from_token(token)).get_name() == "user"
    assert len(seen) == 1


def test_hit_takes_no_session(monkeypatch):
    RevokedToken.is_revoked("token")
    taken = []
    for name in ("Session", "NonScopedSession"):
        factory = getattr(settings, name)
        monkeypatch.setattr(settings, name, lambda f=factory: taken.append(f) or f())
    assert RevokedToken.is_revoked("token") is False
    assert taken == []


def test_hit_reads_no_configuration():
    RevokedToken.is_revoked("token")
    with mock.patch.object(conf, "get", autospec=True, side_effect=conf.get) as get:
        assert RevokedToken.is_revoked("token") is False
    assert get.call_args_list == []


def break_scoped_session() -> None:
    """Leave this thread's session as a failed flush does: every use raises until it is rolled back."""
    session = settings.Session()
    session.add(RevokedToken(jti="broken", exp=None))
    with pytest.raises(IntegrityError):
        session.flush()


def test_hit_does_not_care_for_a_broken_scoped_session():
    RevokedToken.is_revoked("token")
    break_scoped_session()
    assert outcome(RevokedToken.is_revoked, "token") is False


def test_clean_up_on_a_hit_does_not_care_for_a_broken_scoped_session(clock):
    RevokedToken.is_revoked("token")
    add_row("expired", yesterday())
    RevokedToken._last_cleanup_time = 0.0
    break_scoped_session()
    assert outcome(RevokedToken.is_revoked, "token") is False
    assert not has_row("expired")


@pytest.mark.parametrize("known", [True, False])
def test_revoke_enters_the_token(known):
    if known:
        RevokedToken.is_revoked("token")
    RevokedToken.revoke("token", in_an_hour())
    assert check("token") == (True, 0)


@pytest.mark.parametrize("proxy", [False, True], ids=["session", "scoped_session"])
def test_handed_session_enters_the_token_when_it_commits(proxy):
    session = settings.Session if proxy else settings.NonScopedSession()
    assert RevokedToken.is_revoked("token") is False
    assert outcome(RevokedToken.revoke, "token", in_an_hour(), session=session) is None
    session.flush()
    assert run_threads(lambda: RevokedToken.is_revoked("token")) == [False]
    session.commit()
    session.close()
    assert check("token") == (True, 0)


def test_released_savepoints_enter_the_token_when_the_transaction_commits():
    with create_session(scoped=False) as session:
        RevokedToken.revoke("outer", in_an_hour(), session=session)
        with session.begin_nested(), session.begin_nested():
            RevokedToken.revoke("token", in_an_hour(), session=session)
        assert check("token") == (False, 1)
    assert check("token") == (True, 0)
    assert check("outer") == (True, 0)


@pytest.mark.parametrize("savepoint", [False, True], ids=["transaction", "released-savepoint"])
@pytest.mark.parametrize("end", ["rollback", "close", "begin-fails"])
def test_revocation_that_is_not_committed_is_not_entered(end, savepoint):
    with settings.NonScopedSession() as session:
        try:
            with session.begin():
                RevokedToken.revoke("other", in_an_hour(), session=session)
                session.flush()
                if savepoint:
                    with session.begin_nested():
                        RevokedToken.revoke("token", in_an_hour(), session=session)
                else:
                    RevokedToken.revoke("token", in_an_hour(), session=session)
                if end == "begin-fails":
                    raise ValueError
                getattr(session, end)()
        except ValueError:
            pass
        # The session goes on, and this time commits.
        RevokedToken.revoke("later", in_an_hour(), session=session)
        session.commit()
    assert RevokedToken.is_revoked("token") is False
    assert RevokedToken.is_revoked("other") is False
    assert RevokedToken.is_revoked("later") is True


def test_savepoint_rolled_back_is_not_entered_though_the_transaction_commits():
    with create_session(scoped=False) as session:
        RevokedToken.revoke("outer", in_an_hour(), session=session)
        session.flush()
        savepoint = session.begin_nested()
        RevokedToken.revoke("token", in_an_hour(), session=session)
        session.flush()
        savepoint.rollback()
    assert RevokedToken.is_revoked("token") is False
    assert RevokedToken.is_revoked("outer") is True


def test_transaction_whose_rollback_fails_is_not_entered():
    session = settings.NonScopedSession()
    RevokedToken.revoke("token", in_an_hour(), session=session)
    session.flush()
    connection = session.connection().connection.dbapi_connection
    connection.rollback()
    with mock.patch.object(
        settings.engine.dialect, "do_rollback", autospec=True, side_effect=OSError("gone")
    ):
        with pytest.raises(OSError, match="gone"):
            session.rollback()
    session.close()
    RevokedToken.revoke("later", in_an_hour(), session=session)
    session.commit()
    session.close()
    assert RevokedToken.is_revoked("token") is False
    assert RevokedToken.is_revoked("later") is True


def test_nothing_stays_of_revocations_that_are_not_committed():
    for number in range(20):
        session = settings.Session()
        RevokedToken.revoke(f"token-{number}", in_an_hour(), session=session)
        session.rollback()
    settings.Session.remove()
    gc.collect()
    assert len(revoked_token._uncommitted) == 0


def test_no_revocation_is_entered_when_the_merge_fails():
    assert RevokedToken.is_revoked("token") is False
    with settings.engine.begin() as connection:
        connection.execute(text("ALTER TABLE revoked_token RENAME TO away"))
    try:
        with pytest.raises(DBAPIError):
            RevokedToken.revoke("token", in_an_hour())
    finally:
        with settings.engine.begin() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO revoked_token"))
    assert RevokedToken.is_revoked("token") is False


def test_no_revocation_is_entered_when_the_commit_fails():
    with pytest.raises(IntegrityError):
        RevokedToken.revoke("token", None)
    assert RevokedToken.is_revoked("token") is False


def test_session_that_is_a_mock_is_good_enough():
    session = mock.MagicMock(spec=Session)
    RevokedToken.revoke("token", in_an_hour(), session=session)
    assert session.merge.call_count == 1
    session.scalar.return_value = True
    assert RevokedToken.is_revoked("token", session=session) is True
    assert RevokedToken.is_revoked("token") is False


def test_handed_session_is_asked_and_keeps_its_view_to_itself():
    assert RevokedToken.is_revoked("token") is False
    with create_session(scoped=False) as session:
        RevokedToken.revoke("token", in_an_hour(), session=session)
        RevokedToken.revoke("unseen", in_an_hour(), session=session)
        session.flush()
        for jti in ("token", "unseen"):
            assert RevokedToken.is_revoked(jti, session=session) is True
        session.rollback()
    for jti in ("token", "unseen"):
        assert RevokedToken.is_revoked(jti) is False


def test_answer_expires(clock):
    with conf_vars({TTL: "60"}):
        assert check("token") == (False, 1)
        clock.now += 59
        assert check("token") == (False, 0)
        add_row("token")
        clock.now += 2
        assert check("token") == (True, 1)


def test_least_recently_used_answer_goes_first():
    with conf_vars({SIZE: "2"}):
        for jti in ("first", "second", "first", "third"):
            RevokedToken.is_revoked(jti)
        assert check("first") == (False, 0)
        assert check("second") == (False, 1)


@pytest.mark.parametrize("option", OFF)
def test_off_asks_the_database_each_time(option):
    with conf_vars(option):
        assert [check("token") for _ in range(3)] == [(False, 1)] * 3
        assert outcome(RevokedToken.revoke, "token", in_an_hour()) is None
        assert [check("token") for _ in range(3)] == [(True, 1)] * 3


@pytest.mark.parametrize("option", OFF)
def test_off_makes_no_cache(option):
    with conf_vars(option):
        assert outcome(revoked_token.get_revoked_token_cache) is None
        assert outcome(RevokedToken.clear_cache) == 0


def test_defaults():
    cache = revoked_token.get_revoked_token_cache()
    assert (cache.maxsize, cache.ttl) == (10000, 60)


def test_clear_cache():
    RevokedToken.is_revoked("token")
    RevokedToken.is_revoked("other")
    assert RevokedToken.clear_cache() == 2
    assert RevokedToken.clear_cache() == 0
    assert check("token") == (False, 1)


def revoke_in_own_session(jti: str) -> None:
    with create_session(scoped=False) as session:
        RevokedToken.revoke(jti, in_an_hour(), session=session)


def test_check_under_way_does_not_overwrite_a_revocation():
    with once_answered(lambda: revoke_in_own_session("token")):
        RevokedToken.is_revoked("token")
    assert RevokedToken.is_revoked("token") is True


def test_check_under_way_does_not_overwrite_a_revocation_that_was_evicted():
    def revoke():
        revoke_in_own_session("token")
        revoke_in_own_session("other")

    with conf_vars({SIZE: "1"}):
        with once_answered(revoke):
            RevokedToken.is_revoked("token")
        assert RevokedToken.is_revoked("token") is True


def test_check_under_way_is_told_of_a_revocation():
    with once_answered(lambda: revoke_in_own_session("token")):
        assert RevokedToken.is_revoked("token") is True
    assert check("token") == (True, 0)


def test_check_under_way_enters_nothing_after_a_clear():
    with once_answered(RevokedToken.clear_cache):
        assert RevokedToken.is_revoked("token") is False
    assert check("token") == (False, 1)


@pytest.mark.backend("sqlite")
def test_answer_is_not_from_a_transaction_that_the_thread_left_open():
    def journal(mode):
        settings.engine.dispose()
        with settings.engine.connect() as connection:
            connection.execute(text(f"PRAGMA journal_mode={mode}"))

    journal("wal")  # With it a transaction keeps its snapshot.
    try:
        session = settings.Session()
        session.execute(text("BEGIN"))
        assert session.get(RevokedToken, "token") is None
        add_row("token")
        assert session.get(RevokedToken, "token") is None
        assert RevokedToken.is_revoked("token") is True
        assert RevokedToken.is_revoked("token") is True
    finally:
        settings.Session.remove()
        journal("delete")


def test_slow_query_holds_up_no_other_check():
    RevokedToken.is_revoked("known")
    meanwhile = []

    def ask():
        meanwhile.extend(run_threads(lambda: RevokedToken.is_revoked("known")))

    with once_answered(ask):
        assert RevokedToken.is_revoked("token") is False
    assert meanwhile == [False]


def test_clean_up_keeps_its_schedule_when_all_are_hits(clock):
    with conf_vars({("api_auth", "jwt_expiration_time"): "100", TTL: "10000"}):
        RevokedToken.is_revoked("token")
        start = clock.now
        for round_ in (1, 2):
            add_row("expired", yesterday())
            clock.now = start + 200 * round_ - 1
            assert RevokedToken.is_revoked("token") is False
            assert has_row("expired")
            clock.now += 1
            assert RevokedToken.is_revoked("token") is False
            assert not has_row("expired")


def test_clean_up_that_fails_does_not_fail_a_hit(clock, monkeypatch):
    RevokedToken.is_revoked("token")
    RevokedToken._last_cleanup_time = 0.0
    monkeypatch.setattr(
        settings, "NonScopedSession", mock.Mock(spec=settings.NonScopedSession, side_effect=OSError)
    )
    assert outcome(RevokedToken.is_revoked, "token") is False


@pytest.mark.asyncio
async def test_expired_token_is_refused_though_its_answer_is_cached():
    manager = SimpleAuthManager()
    user = SimpleAuthManagerUser(username="user", role="admin")
    token = manager.generate_jwt(user, expiration_time_in_seconds=30)
    assert (await manager.get_user_from_token(token)).get_name() == "user"
    with time_machine.travel(datetime.now(tz=timezone.utc) + timedelta(seconds=45)), statements() as seen:
        with pytest.raises(InvalidTokenError, match="expired"):
            await manager.get_user_from_token(token)
    assert seen == []


@pytest.mark.asyncio
async def test_token_is_refused_after_logout():
    manager = SimpleAuthManager()
    token = manager.generate_jwt(SimpleAuthManagerUser(username="user", role="admin"))
    await manager.get_user_from_token(token)
    run_threads(lambda: manager.revoke_token(token))
    with pytest.raises(InvalidTokenError, match="revoked"):
        await manager.get_user_from_token(token)


def test_forked_child_has_an_empty_cache_and_a_free_lock():
    RevokedToken.is_revoked("token")
    locked, release = threading.Event(), threading.Event()

    def hold():
        with revoked_token.get_revoked_token_cache().lock:
            locked.set()
            release.wait(TIMEOUT)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert locked.wait(TIMEOUT)
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writer, str([check("token"), check("token")]).encode())
        finally:
            os._exit(0)
    try:
        told = os.read(reader, 1000) if io_select.select([reader], [], [], 5)[0] else b"nothing"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)
        release.set()
        holder.join(TIMEOUT)
    assert told.decode() == str([(False, 1), (False, 0)])
    assert not holder.is_alive()
    assert check("token") == (False, 0)


class MeetingClock:
    """A clock that notices when two threads read it at once: the first waits a moment for the second."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.armed = False
        self.readers = self.most = 0
        self.waited: set[int] = set()

    def __call__(self) -> float:
        with self.changed:
            if self.armed and threading.get_ident() not in self.waited:
                self.waited.add(threading.get_ident())
                self.readers += 1
                self.most = max(self.most, self.readers)
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.most > 1, timeout=0.5)
                self.readers -= 1
        return 0.0


@pytest.mark.parametrize("use", ["hit", "fill", "clear", "revoke"])
def test_one_thread_at_a_time_uses_the_cache(use, monkeypatch):
    clock = MeetingClock()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", clock)
        revoked_token.get_revoked_token_cache()
    RevokedToken.is_revoked("known")
    barrier = threading.Barrier(2)

    def meet(*_):
        barrier.wait(TIMEOUT)
        clock.armed = True

    if use == "hit":
        clock.armed = True
        run_threads(*[lambda: RevokedToken.is_revoked("known")] * 2)
    elif use == "clear":
        clock.armed = True
        run_threads(*[RevokedToken.clear_cache] * 2)
    elif use == "fill":
        with once_answered(meet, checks=2):
            run_threads(*[lambda n=n: RevokedToken.is_revoked(n) for n in "ab"])
    else:
        event.listen(Session, "after_commit", meet, insert=True)
        try:
            run_threads(*[lambda n=n: RevokedToken.revoke(n, in_an_hour()) for n in "ab"])
        finally:
            event.remove(Session, "after_commit", meet)
    assert len(clock.waited) == 2
    assert clock.most == 1


def test_many_threads():
    def work():
        return [RevokedToken.is_revoked(f"token-{number % 7}") for number in range(100)]

    with conf_vars({SIZE: "5"}):
        *answers, revocation = run_threads(*[work] * 11, lambda: revoke_in_own_session("token-3"))
        assert revocation is None
        for answer in answers:
            assert [type(revoked) for revoked in answer] == [bool] * 100
            assert not any(revoked for number, revoked in enumerate(answer) if number % 7 != 3)
            # Once revoked, for ever revoked.
            assert sorted(answer[3::7]) == answer[3::7]
        assert RevokedToken.is_revoked("token-3") is True


class Recorder(NoStatsLogger):
    """Notes the metrics that are emitted."""

    def __init__(self) -> None:
        self.emitted: list[tuple] = []

    def incr(self, stat, *args, **kwargs) -> None:
        self.emitted.append(("counter", stat))

    def gauge(self, stat, value, *args, **kwargs) -> None:
        self.emitted.append(("gauge", stat, value))


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


def test_metrics_are_emitted_and_registered(emitted):
    def look(jti):
        emitted.clear()
        RevokedToken.is_revoked(jti)
        return emitted.copy()

    prefix = "api_server.revoked_token"
    size = f"{prefix}.cache_size"
    assert look("token") == [("counter", f"{prefix}.cache_miss"), ("gauge", size, 1)]
    assert look("other") == [("counter", f"{prefix}.cache_miss"), ("gauge", size, 2)]
    assert look("token") == [("counter", f"{prefix}.cache_hit")]
    emitted.clear()
    RevokedToken.clear_cache()
    assert emitted == [("counter", f"{prefix}.cache_clear"), ("gauge", size, 0)]

    registry = MetricsRegistry()
    for name in ("cache_hit", "cache_miss", "cache_clear", "cache_size"):
        metric = registry.get(f"{prefix}.{name}")
        assert metric["type"] == ("gauge" if name == "cache_size" else "counter")


@pytest.mark.parametrize("option", [SIZE, TTL], ids=["size", "ttl"])
def test_api_server_does_not_start_with_a_value_that_is_no_number(option):
    with conf_vars({option: "many"}):
        error = outcome(create_app, apps="core")
    assert isinstance(error, AirflowConfigException)
    assert option[1] in str(error)


def test_no_other_component_cares_for_a_value_that_is_no_number():
    code = """if True:
        from airflow.api_fastapi.app import create_app
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models import import_all_models
        import_all_models()
        create_app(apps="execution")
    """
    wrong = {f"AIRFLOW__{section}__{key}".upper(): "many" for section, key in (SIZE, TTL)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | wrong,
        timeout=100,
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
