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
"""The session in which the user of a token is read, and what it leaves in the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
from cachetools import TTLCache
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import scoped_session, sessionmaker
from sqlalchemy.pool import QueuePool

from airflow import settings
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import Action, Permission, Resource, Role, User
from airflow.providers.fab.www.app import create_app

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite")]

NAME = "user-session"


@cache
def app_builder():
    return create_app(enable_plugins=False).appbuilder


@contextmanager
def changes():
    with settings.NonScopedSession() as session:
        yield session
        session.commit()


@pytest.fixture
def token() -> Iterator[dict[str, str]]:
    with changes() as session:
        permission = Permission(action=Action(name=NAME), resource=Resource(name=NAME))
        role = Role(name=NAME, permissions=[permission])
        user = User(first_name="a", last_name="b", username=NAME, email=NAME, active=True, roles=[role])
        session.add_all([permission, role, user])
        session.flush()
        token = {"sub": str(user.id)}
    yield token
    with changes() as session:
        for query in (
            select(User).where(User.username == NAME),
            select(Role).where(Role.name == NAME),
            select(Permission).join(Action).where(Action.name == NAME),
            select(Action).where(Action.name == NAME),
            select(Resource).where(Resource.name == NAME),
        ):
            for row in session.scalars(query).unique():
                session.delete(row)
            session.flush()


@pytest.fixture
def engine(token, monkeypatch: pytest.MonkeyPatch):
    """Put Airflow and FAB on an engine and a scoped session of the test's own, with nothing checked out."""
    engine = create_engine(
        settings.SQL_ALCHEMY_CONN,
        poolclass=QueuePool,
        pool_pre_ping=True,
        connect_args={"check_same_thread": False},
    )
    factory = sessionmaker(engine, autoflush=False, expire_on_commit=False)
    appbuilder = app_builder()
    monkeypatch.setattr(settings, "engine", engine)
    monkeypatch.setattr(settings, "NonScopedSession", factory)
    monkeypatch.setattr(settings, "Session", scoped_session(factory))
    monkeypatch.setattr(appbuilder, "session", settings.Session)
    yield engine
    settings.Session.registry.clear()
    engine.dispose()


@pytest.fixture
def auth_manager(engine) -> FabAuthManager:
    """Return an auth manager that keeps no user."""
    auth_manager = FabAuthManager()
    auth_manager.appbuilder = app_builder()
    auth_manager.cache = TTLCache(maxsize=100, ttl=0)
    return auth_manager


@pytest.fixture
def connections(engine) -> list:
    """Return the list of the database connections made, for the database to close."""
    connections: list = []
    event.listen(engine, "connect", lambda dbapi_connection, record: connections.append(dbapi_connection))
    return connections


def outcome(function, *args):
    try:
        return function(*args)
    except Exception as error:
        return type(error).__name__


def name_of(result) -> str:
    return result.username if isinstance(result, User) else result


def poison_session_of_thread() -> None:
    """Leave the scoped session as a dropped connection does: every use of it raises."""
    settings.Session.execute(text("BEGIN"))
    settings.Session.connection().connection.dbapi_connection.close()
    outcome(settings.Session.execute, text("SELECT 1"))


def read_all(user: User):
    """Read what FAB reads of the user of a request."""
    columns = [getattr(user, column.key) for column in User.__table__.columns]
    roles = [
        (role.name, [(perm.action.name, perm.resource.name) for perm in role.permissions])
        for role in user.roles
    ]
    return columns[0], user.get_id(), user.get_name(), user.is_active, user.perms, roles


def test_nothing_is_left_of_the_look_up(auth_manager, engine, token):
    user = auth_manager.deserialize_user(token)

    assert name_of(user) == NAME
    assert (engine.pool.checkedout(), settings.Session.registry.has()) == (0, False)


def test_requests_go_on_after_the_database_closed_all_connections(auth_manager, connections, token):
    with changes() as session:
        signed = auth_manager.generate_jwt(session.get(User, int(token["sub"])))

    def authenticate():
        return asyncio.run(auth_manager.get_user_from_token(signed))

    seen = [name_of(outcome(authenticate))]
    for connection in connections:
        connection.close()
    seen += [name_of(outcome(authenticate)) for _ in range(10)]

    assert seen == [NAME] * 11


def test_broken_session_of_the_thread_is_neither_used_nor_removed(auth_manager, token):
    poison_session_of_thread()
    broken = settings.Session()

    assert name_of(outcome(auth_manager.deserialize_user, token)) == NAME
    assert settings.Session() is broken


@pytest.mark.parametrize("end", ["rollback", "remove", "both"])
def test_user_can_be_read_whatever_becomes_of_the_session_of_the_thread(auth_manager, token, end):
    user = auth_manager.deserialize_user(token)
    if end != "remove":
        settings.Session.rollback()
    if end != "rollback":
        settings.Session.remove()

    expected = (int(token["sub"]), token["sub"], NAME, True, {(NAME, NAME)}, [(NAME, [(NAME, NAME)])])
    seen = outcome(read_all, user)
    with settings.NonScopedSession() as session:
        in_session = user in session or user in settings.Session
    assert (seen, in_session) == (expected, False)


def test_changes_of_the_caller_are_left_alone(auth_manager, token):
    settings.Session.add(Role(name="not committed"))
    auth_manager.deserialize_user(token)

    assert [role.name for role in settings.Session.new] == ["not committed"]
    settings.Session.remove()
    with changes() as session:
        assert session.scalars(select(Role).where(Role.name == "not committed")).first() is None


def test_look_up_costs_two_queries_and_one_checkout(auth_manager, engine, token):
    statements, checkouts = [], []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    event.listen(engine, "checkout", lambda *args: checkouts.append(args[0]))

    read_all(auth_manager.deserialize_user(token))

    assert (len(statements), len(checkouts)) == (2, 1)


def test_session_of_the_caller_survives_a_failed_look_up(auth_manager, engine, token):
    settings.Session.add(Role(name="not committed"))
    session = settings.Session()

    def fail(*args):
        raise OperationalError("the query fails", None, Exception())

    event.listen(engine, "before_cursor_execute", fail)
    failed = outcome(auth_manager.deserialize_user, token)
    event.remove(engine, "before_cursor_execute", fail)

    assert failed == "OperationalError"
    assert settings.Session() is session
    assert [role.name for role in session.new] == ["not committed"]


def test_unknown_user_is_refused_and_leaves_no_connection(auth_manager, engine):
    with pytest.raises(ValueError, match="User with id 999999 not found"):
        auth_manager.deserialize_user({"sub": "999999"})
    settings.Session.remove()

    assert engine.pool.checkedout() == 0


def test_session_that_is_not_scoped_is_used_as_it_is(auth_manager, engine, token):
    class ExtendedAuthManager(FabAuthManager):
        session = settings.NonScopedSession()

    extended = ExtendedAuthManager()
    extended.cache = TTLCache(maxsize=100, ttl=0)
    user = extended.deserialize_user(token)

    assert name_of(user) == NAME
    assert user in extended.session
    extended.session.close()
