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
import multiprocessing
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import airflow.api_fastapi.app as app_module
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

THREADS = 8
TIMEOUT = 20


class CountedAuthManager(SimpleAuthManager):
    """Count the instances, and let a test act in the constructor."""

    count: ClassVar[int] = 0
    in_constructor: ClassVar[Callable[[], Any] | None] = None

    def __init__(self) -> None:
        super().__init__()
        CountedAuthManager.count += 1
        if CountedAuthManager.in_constructor is not None:
            CountedAuthManager.in_constructor()


class OtherAuthManager(SimpleAuthManager):
    """Neither this class nor ``CountedAuthManager`` is derived from the other."""


def configured(cls: type) -> AbstractContextManager[None]:
    return conf_vars({("core", "auth_manager"): f"{cls.__module__}.{cls.__qualname__}"})


@pytest.fixture(autouse=True)
def _purged(monkeypatch):
    """Begin and end with no app and no auth manager."""
    monkeypatch.setattr(CountedAuthManager, "count", 0)
    monkeypatch.setattr(CountedAuthManager, "in_constructor", None)
    app_module.purge_cached_app()
    yield
    app_module.purge_cached_app()


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


@pytest.mark.parametrize(
    "present",
    [
        pytest.param(None, id="none-yet"),
        pytest.param(CountedAuthManager, id="exists"),
        pytest.param(OtherAuthManager, id="of-another-class"),
    ],
)
def test_create_returns_an_instance_whenever_a_purge_comes(present):
    def prepare() -> None:
        app_module.purge_cached_app()
        if present is not None:
            with configured(present):
                app_module.create_auth_manager()

    with configured(CountedAuthManager):
        outcomes = outcomes_with_a_purge(app_module.create_auth_manager, prepare)
        found = [type(auth_manager) for auth_manager in outcomes]

    assert set(found) == {CountedAuthManager}
    assert len(found) > 5, "too few instructions were seen for this to mean anything"


def test_get_returns_an_instance_or_raises_whenever_a_purge_comes():
    with configured(CountedAuthManager):
        found = outcomes_with_a_purge(app_module.get_auth_manager, app_module.create_auth_manager)
        assert {type(outcome) for outcome in found} == {CountedAuthManager, RuntimeError}


def test_one_instance_for_threads_that_ask_at_once(monkeypatch):
    """Each thread finds no instance before the first one is there, and all but one wait for the lock."""
    at_the_lock = threading.Semaphore(0)
    lock = threading.Lock()

    class Announced:
        def __enter__(self) -> None:
            at_the_lock.release()
            lock.acquire()

        def __exit__(self, *exception: object) -> None:
            lock.release()

    def wait_for_all() -> None:
        if CountedAuthManager.count == 1:
            assert all(at_the_lock.acquire(timeout=TIMEOUT / 2) for _ in range(THREADS))

    monkeypatch.setattr(app_module._AuthManagerState, "_lock", Announced())
    monkeypatch.setattr(CountedAuthManager, "in_constructor", wait_for_all)
    found: list[Any] = []
    with configured(CountedAuthManager):
        threads = [
            threading.Thread(target=lambda: found.append(app_module.create_auth_manager()), daemon=True)
            for _ in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + TIMEOUT
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))

    assert not [thread for thread in threads if thread.is_alive()], "a thread hangs"
    assert CountedAuthManager.count == 1
    assert found == [app_module.get_auth_manager()] * THREADS


def test_forked_child_finds_the_instance_while_a_thread_of_the_parent_holds_the_lock():
    """The child has a copy of the lock, but not the thread that would release it."""
    with configured(CountedAuthManager):
        app_module.create_auth_manager()
        with app_module._AuthManagerState._lock:
            child = multiprocessing.get_context("fork").Process(target=app_module.create_auth_manager)
            child.start()
        child.join(TIMEOUT)
        child.kill()
        child.join(TIMEOUT)

    assert child.exitcode == 0


def test_same_instance_until_a_purge():
    with configured(CountedAuthManager):
        first = app_module.create_auth_manager()
        assert app_module.create_auth_manager() is first
        assert app_module.get_auth_manager() is first

        app_module.purge_cached_app()

        with pytest.raises(RuntimeError, match="has not been initialized"):
            app_module.get_auth_manager()
        assert app_module.create_auth_manager() is not first


def test_class_change_replaces_the_instance():
    for cls in (CountedAuthManager, OtherAuthManager, CountedAuthManager):
        with configured(cls):
            created = app_module.create_auth_manager()

        assert type(created) is cls
        assert app_module.get_auth_manager() is created


def test_failed_constructor_leaves_what_was_there(monkeypatch):
    def fail() -> None:
        raise ValueError("no")

    with configured(OtherAuthManager):
        before = app_module.create_auth_manager()
    with configured(CountedAuthManager):
        monkeypatch.setattr(CountedAuthManager, "in_constructor", fail)
        with pytest.raises(ValueError, match="no"):
            app_module.create_auth_manager()
        assert app_module.get_auth_manager() is before

        monkeypatch.setattr(CountedAuthManager, "in_constructor", None)
        assert type(app_module.create_auth_manager()) is CountedAuthManager
