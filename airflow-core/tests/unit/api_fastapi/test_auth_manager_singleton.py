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

import itertools
import json
import multiprocessing
import sys
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import airflow.api_fastapi.app as app_module
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"

THREADS = 16
TIMEOUT = 20


class RecordingAuthManager(SimpleAuthManager):
    """Keep each instance whose construction began, and let a test act in the constructor."""

    begun: ClassVar[list[RecordingAuthManager]] = []
    in_constructor: ClassVar[Callable[[], None] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.initialised = 0
        type(self).begun.append(self)
        if (act := type(self).in_constructor) is not None:
            act()

    def init(self) -> None:
        self.initialised += 1

    def get_fastapi_app(self) -> None:
        return None


class DerivedAuthManager(RecordingAuthManager):
    """An instance of this class is an instance of the class above, too."""


class UnrelatedAuthManager(SimpleAuthManager):
    """Neither this class nor ``RecordingAuthManager`` is derived from the other."""


class Gathering:
    """Keep those who wait until each thread of the test came to one of two places."""

    def __init__(self, threads: int = THREADS) -> None:
        self.threads = threads
        self.came: set[int] = set()
        self.changed = threading.Condition()

    def come(self) -> None:
        with self.changed:
            self.came.add(threading.get_ident())
            self.changed.notify_all()

    def complete(self) -> bool:
        return len(self.came) >= self.threads

    def come_and_wait(self) -> None:
        self.come()
        with self.changed:
            self.changed.wait_for(self.complete, TIMEOUT / 2)


class ReportingLock:
    """A reentrant lock that reports each thread that is about to take it."""

    def __init__(self, report: Callable[[], None]) -> None:
        self.report = report
        self.lock = threading.RLock()

    def __enter__(self) -> None:
        self.report()
        self.lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self.lock.release()


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def configured(auth_manager: str) -> AbstractContextManager[None]:
    return conf_vars({("core", "auth_manager"): auth_manager})


RECORDING, DERIVED, UNRELATED = map(name_of, (RecordingAuthManager, DerivedAuthManager, UnrelatedAuthManager))

two_classes = pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(RECORDING, UNRELATED, id="own"),
        # FAB's can be imported only where Flask App Builder can be installed.
        *([pytest.param(SIMPLE, FAB, id="Simple-and-FAB")] if find_spec("flask_appbuilder") else []),
    ],
)


@pytest.fixture(autouse=True)
def _module_as_it_was(monkeypatch):
    """Begin with no app and no auth manager, and leave none."""
    app_module.purge_cached_app()
    monkeypatch.setattr(RecordingAuthManager, "begun", [])
    monkeypatch.setattr(RecordingAuthManager, "in_constructor", None)
    yield
    app_module.purge_cached_app()


@pytest.fixture
def gathering(monkeypatch) -> Gathering:
    """
    Make all threads pass the check for an existing instance before the first constructor ends.

    A thread in the constructor is kept there until each of the others is in the constructor, too, or at the
    lock behind that check.
    """
    gathering = Gathering()
    # From 3.2 on the lock is that of a class.
    if state := getattr(app_module, "_AuthManagerState", None):
        monkeypatch.setattr(state, "_lock", ReportingLock(gathering.come))
    else:
        monkeypatch.setattr(app_module, "_auth_manager_lock", ReportingLock(gathering.come), raising=False)
    monkeypatch.setattr(RecordingAuthManager, "in_constructor", gathering.come_and_wait)
    return gathering


def call_in_threads(function: Callable[[], Any], threads: int = THREADS) -> list[Any]:
    """Call the function in that many threads at once; return what they returned or raised."""
    start = threading.Barrier(threads)
    outcomes: list[Any] = []

    def call() -> None:
        start.wait(TIMEOUT)
        try:
            outcomes.append(function())
        except Exception as error:
            outcomes.append(error)

    workers = [threading.Thread(target=call, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + TIMEOUT
    for worker in workers:
        worker.join(max(0, deadline - time.monotonic()))
    assert not [worker for worker in workers if worker.is_alive()], "a thread hangs"
    assert len(outcomes) == threads
    return outcomes


def outcomes_with_a_purge(function: Callable[[], Any], prepare: Callable[[], Any]) -> Iterator[Any]:
    """
    Call the function again and again, with a purge before its first instruction, its second, and so on.

    Another thread can run between any two instructions, so these are all the moments when it can purge.
    """
    for moment in itertools.count():
        instructions = 0

        def trace(frame: FrameType, event: str, _: Any, moment: int = moment) -> Any:
            nonlocal instructions
            if frame.f_code is not function.__code__:
                return None
            # Said again at each event: Python 3.13 does not hear it at the call.
            frame.f_trace_opcodes = True
            if event == "opcode":
                if instructions == moment:
                    app_module.purge_cached_app()
                instructions += 1
            return trace

        prepare()
        before = sys.gettrace()
        # Python 3.12 does not hear it after ``settrace``.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(trace)
        try:
            outcome = function()
        except RuntimeError as error:
            outcome = error
        finally:
            sys.settrace(before)
        if instructions <= moment:
            return
        yield outcome


def test_one_instance_under_concurrency(gathering):
    with configured(RECORDING):
        found = call_in_threads(app_module.create_auth_manager)

    assert gathering.complete()
    assert len(RecordingAuthManager.begun) == 1
    assert {id(auth_manager) for auth_manager in found} == {id(RecordingAuthManager.begun[0])}
    assert app_module.get_auth_manager() is RecordingAuthManager.begun[0]


def test_class_change_makes_one_instance_under_concurrency(gathering):
    with configured(SIMPLE):
        app_module.create_auth_manager()
    with configured(RECORDING):
        found = call_in_threads(app_module.create_auth_manager)

    assert gathering.complete()
    assert len(RecordingAuthManager.begun) == 1
    assert {id(auth_manager) for auth_manager in found} == {id(RecordingAuthManager.begun[0])}
    assert app_module.get_auth_manager() is RecordingAuthManager.begun[0]


def test_failed_constructor_fails_one_thread_only(gathering, monkeypatch):
    constructions = itertools.count()

    def fail_first() -> None:
        gathering.come_and_wait()
        if next(constructions) == 0:
            raise ValueError("first")

    monkeypatch.setattr(RecordingAuthManager, "in_constructor", fail_first)
    with configured(RECORDING):
        found = call_in_threads(app_module.create_auth_manager)

    assert [str(outcome) for outcome in found if isinstance(outcome, Exception)] == ["first"]
    assert len({id(outcome) for outcome in found if not isinstance(outcome, Exception)}) == 1


@two_classes
def test_same_instance_until_the_class_changes(one, other):
    with configured(one):
        first = app_module.create_auth_manager()
        assert app_module.create_auth_manager() is first
    with configured(other):
        second = app_module.create_auth_manager()
        assert app_module.create_auth_manager() is second
        assert app_module.get_auth_manager() is second


@two_classes
def test_class_change_replaces_the_instance(one, other):
    for configured_class in (one, other, one):
        with configured(configured_class):
            created = app_module.create_auth_manager()

        assert name_of(type(created)) == configured_class
        assert app_module.get_auth_manager() is created


def test_instance_of_a_derived_class_is_kept():
    with configured(DERIVED):
        derived = app_module.create_auth_manager()
    with configured(RECORDING):
        assert app_module.create_auth_manager() is derived


def test_instance_of_the_base_class_is_replaced():
    with configured(RECORDING):
        app_module.create_auth_manager()
    with configured(DERIVED):
        assert type(app_module.create_auth_manager()) is DerivedAuthManager


def test_init_auth_manager_initialises_the_one_instance():
    with configured(RECORDING):
        created = app_module.create_auth_manager()
        app = FastAPI()

        assert app_module.init_auth_manager(app) is created
        assert app.state.auth_manager is created
        assert app_module.get_auth_manager() is created
        assert created.initialised == 1


def test_instance_assigned_to_the_module_is_kept():
    with configured(RECORDING):
        assigned = RecordingAuthManager()
        app_module.auth_manager = assigned

        assert app_module.get_auth_manager() is assigned
        assert app_module.create_auth_manager() is assigned


def test_module_attribute_is_the_instance():
    with configured(RECORDING):
        created = app_module.create_auth_manager()
        assert app_module.auth_manager is created
        assert app_module.get_auth_manager() is created

    anything = object()
    app_module.auth_manager = anything
    assert app_module.get_auth_manager() is anything


@pytest.fixture
def simple_auth_manager_configured(tmp_path):
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({"admin": "secret"}))
    with (
        configured(SIMPLE),
        conf_vars(
            {
                ("core", "simple_auth_manager_users"): "admin:admin",
                ("core", "simple_auth_manager_passwords_file"): str(passwords),
            }
        ),
    ):
        yield


@pytest.mark.db_test
@pytest.mark.usefixtures("simple_auth_manager_configured")
def test_apps_share_the_auth_manager():
    first = app_module.create_app(apps="core")
    second = app_module.create_app(apps="core")

    assert first.state.auth_manager is second.state.auth_manager
    assert app_module.get_auth_manager() is first.state.auth_manager


@pytest.mark.db_test
@pytest.mark.usefixtures("simple_auth_manager_configured")
def test_app_answers_with_its_auth_manager():
    client = TestClient(app_module.create_app(apps="core"))
    token = client.post("/auth/token", json={"username": "admin", "password": "secret"})
    assert token.status_code == 201
    bearer = {"Authorization": f"Bearer {token.json()['access_token']}"}

    assert client.get("/api/v2/pools").status_code == 401
    assert client.get("/api/v2/pools", headers=bearer).status_code == 200


def test_purge_resets_the_auth_manager():
    with configured(RECORDING):
        before = app_module.create_auth_manager()
        app_module.purge_cached_app()

        assert app_module.auth_manager is None
        with pytest.raises(RuntimeError, match="has not been initialized"):
            app_module.get_auth_manager()
        assert app_module.create_auth_manager() is not before


@pytest.mark.parametrize("exists", [False, True], ids=["none-yet", "exists"])
def test_create_returns_an_instance_whenever_a_purge_comes(exists):
    with configured(RECORDING):

        def prepare() -> None:
            app_module.auth_manager = RecordingAuthManager() if exists else None

        found = list(outcomes_with_a_purge(app_module.create_auth_manager, prepare))

    assert None not in found
    assert {type(auth_manager) for auth_manager in found} == {RecordingAuthManager}
    assert len(found) > 5, "too few instructions were seen for this to mean anything"


def test_get_returns_an_instance_or_raises_whenever_a_purge_comes():
    instance = RecordingAuthManager()

    def prepare() -> None:
        app_module.auth_manager = instance

    found = list(outcomes_with_a_purge(app_module.get_auth_manager, prepare))

    assert None not in found
    assert {type(outcome) for outcome in found} == {RecordingAuthManager, RuntimeError}


def test_get_returns_an_instance_that_is_false():
    class FalseAuthManager(RecordingAuthManager):
        def __bool__(self) -> bool:
            return False

    app_module.auth_manager = FalseAuthManager()
    (found,) = call_in_threads(app_module.get_auth_manager, threads=1)

    assert found is app_module.auth_manager


def test_forked_child_creates_an_instance_while_a_thread_of_the_parent_does(monkeypatch):
    """The child has a copy of the lock that the thread holds, but not the thread."""
    constructing, forked = threading.Event(), threading.Event()

    def wait_in_the_parent() -> None:
        constructing.set()
        assert forked.wait(TIMEOUT)

    def create_in_the_child() -> None:
        RecordingAuthManager.in_constructor = None
        app_module.create_auth_manager()

    monkeypatch.setattr(RecordingAuthManager, "in_constructor", wait_in_the_parent)
    with configured(RECORDING):
        creator = threading.Thread(target=app_module.create_auth_manager, daemon=True)
        creator.start()
        assert constructing.wait(TIMEOUT)
        child = multiprocessing.get_context("fork").Process(target=create_in_the_child)
        child.start()
        child.join(TIMEOUT / 4)
        child.kill()
        child.join(TIMEOUT)
        forked.set()
        creator.join(TIMEOUT)

    assert child.exitcode == 0
    assert not creator.is_alive()


def test_get_raises_before_anything_was_created():
    with pytest.raises(RuntimeError, match="has not been initialized"):
        app_module.get_auth_manager()


def test_failed_constructor_leaves_nothing_behind(monkeypatch):
    def fail() -> None:
        raise ValueError("no")

    with configured(SIMPLE):
        simple = app_module.create_auth_manager()
    with configured(RECORDING):
        monkeypatch.setattr(RecordingAuthManager, "in_constructor", fail)
        with pytest.raises(ValueError, match="no"):
            app_module.create_auth_manager()
        assert app_module.get_auth_manager() is simple

        app_module.purge_cached_app()
        with pytest.raises(ValueError, match="no"):
            app_module.create_auth_manager()
        assert app_module.auth_manager is None

        monkeypatch.setattr(RecordingAuthManager, "in_constructor", None)
        (found,) = call_in_threads(app_module.create_auth_manager, threads=1)
        assert found is app_module.get_auth_manager()


def test_existing_instance_is_returned_while_the_lock_is_held():
    with configured(RECORDING):
        created = app_module.create_auth_manager()
        with app_module._auth_manager_lock:
            found = call_in_threads(app_module.create_auth_manager)

    assert {id(auth_manager) for auth_manager in found} == {id(created)}


# The last of the file: if it fails, the thread that hangs still holds the lock.
def test_constructor_may_ask_for_the_auth_manager(monkeypatch):
    def ask_once() -> None:
        if len(RecordingAuthManager.begun) == 1:
            asked.append(app_module.create_auth_manager())

    asked: list[Any] = []
    monkeypatch.setattr(RecordingAuthManager, "in_constructor", ask_once)
    with configured(RECORDING):
        (created,) = call_in_threads(app_module.create_auth_manager, threads=1)

    assert [type(auth_manager) for auth_manager in asked] == [RecordingAuthManager]
    assert app_module.get_auth_manager() is created
