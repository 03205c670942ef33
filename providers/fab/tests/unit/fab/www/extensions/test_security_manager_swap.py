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
Readers of the auth manager's security manager while ``init_app`` binds it to another Flask app.

Hooks inside ``init_app`` force the order of events: where the security manager is constructed, and where the
auth manager's Flask resources are initialised.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, current_app

from airflow import settings
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
from airflow.providers.fab.www import utils
from airflow.providers.fab.www.extensions import init_appbuilder as module
from airflow.providers.fab.www.security_manager import AirflowSecurityManagerV2

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.db_test

# What must happen has happened after so many seconds, even on a busy machine.
DEADLINE = 10
# What must not happen is given so many seconds.
GRACE = 2


class OnPurposeError(Exception):
    pass


class WatchedSecurityManager(FabAirflowSecurityManagerOverride):
    """A security manager that knows its Flask app and lets the app act while it is constructed."""

    def __init__(self, appbuilder):
        self.flask_app = current_app._get_current_object()
        self.flask_app.config.get("WHILE_BUILDING", lambda: None)()
        super().__init__(appbuilder)


class WatchedAuthManager(FabAuthManager):
    """A FAB auth manager that lets the Flask app act before its resources are initialised."""

    def init_flask_resources(self) -> None:
        current_app.config.get("BEFORE_RESOURCES", lambda: None)()
        super().init_flask_resources()


class CachedPropertyWithLock(cached_property):
    """What ``cached_property`` is before Python 3.12: it computes under a lock of its own."""

    def __init__(self, func):
        super().__init__(func)
        self.own_lock = threading.RLock()

    def __get__(self, instance, owner=None):
        if instance is None or self.attrname in vars(instance):
            return super().__get__(instance, owner)
        with self.own_lock:
            return super().__get__(instance, owner)


class LockingAuthManager(WatchedAuthManager):
    security_manager = CachedPropertyWithLock(FabAuthManager.security_manager.func)


class Background(threading.Thread):
    """A started thread that keeps what its function returned or raised."""

    def __init__(self, function: Callable, *args):
        super().__init__(daemon=True)
        self.function, self.args = function, args
        self.result: Any = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.function(*self.args)
        except Exception as e:
            self.error = e
        finally:
            settings.Session.remove()

    def ended(self, timeout: float = DEADLINE) -> bool:
        self.join(timeout)
        return not self.is_alive()


def make_app(**hooks: Callable) -> Flask:
    app = Flask("test_security_manager_swap")
    app.config["SECURITY_MANAGER_CLASS"] = WatchedSecurityManager
    app.config.update({name.upper(): hook for name, hook in hooks.items()})
    return app


def build(app: Flask):
    """Build an app builder for the app, which runs ``init_app``."""
    with app.app_context():
        return module.init_appbuilder(app, enable_plugins=False)


def outcome(app: Flask):
    """Build an app builder in a thread of its own: what it is, or what was raised."""
    thread = Background(build, app)
    assert thread.ended()
    return thread.error or thread.result


def read(auth_manager, app: Flask):
    """Read the security manager in the context of an app."""
    with app.app_context():
        return auth_manager.security_manager


def fail():
    raise OnPurposeError


@pytest.fixture(autouse=True)
def _no_permission_sync() -> Iterator[None]:
    with conf_vars({("fab", "update_fab_perms"): "False"}):
        yield
    settings.Session.remove()


@pytest.fixture
def share(monkeypatch):
    """Make one auth manager the one that every app builder gets."""

    def share_auth_manager(auth_manager):
        monkeypatch.setattr(module, "create_auth_manager", lambda: auth_manager)
        monkeypatch.setattr(module, "get_auth_manager", lambda: auth_manager)
        monkeypatch.setattr(utils, "get_auth_manager", lambda: auth_manager)
        return auth_manager

    return share_auth_manager


@pytest.fixture
def auth_manager(share):
    return share(WatchedAuthManager())


def test_reader_does_not_bind_the_app_builder_to_its_own_app(auth_manager):
    build(make_app())
    readers_app = make_app()
    seen = []

    def read_in_another_thread():
        reader = Background(read, auth_manager, readers_app)
        assert reader.ended()
        seen.append(reader.error or reader.result.flask_app)

    app = make_app(before_resources=read_in_another_thread)
    appbuilder = outcome(app)

    assert not isinstance(appbuilder, KeyError), appbuilder
    assert seen == [app]
    assert appbuilder.sm is auth_manager.security_manager
    assert appbuilder.sm.flask_app is app
    assert "AUTH_USER_REGISTRATION" in app.config
    assert "AuthDBView.login" in app.view_functions


def test_reader_gets_the_old_one_while_the_new_one_is_built(auth_manager):
    old = build(make_app())
    built_by_readers, seen, readers = [], [], []

    def read_in_another_thread():
        readers.append(
            Background(read, auth_manager, make_app(while_building=lambda: built_by_readers.append(1)))
        )
        seen.append(readers[0].ended(GRACE) and readers[0].result)

    appbuilder = outcome(make_app(while_building=read_in_another_thread))

    assert readers[0].ended()
    assert seen == [old.sm]
    assert built_by_readers == []
    assert auth_manager.security_manager is appbuilder.sm


def test_old_one_stays_when_the_new_one_cannot_be_built(auth_manager):
    old = build(make_app())

    assert isinstance(outcome(make_app(while_building=fail)), OnPurposeError)

    assert read(auth_manager, make_app()) is old.sm
    new = outcome(make_app())
    assert auth_manager.security_manager is new.sm


def test_init_app_does_not_wait_for_a_reader_that_makes_its_own(share):
    auth_manager = share(LockingAuthManager())
    # This leaves an app builder, but no security manager: a reader constructs its own.
    assert isinstance(outcome(make_app(while_building=fail)), OnPurposeError)
    reader_builds, let_reader_go = threading.Event(), threading.Event()

    def hold():
        reader_builds.set()
        let_reader_go.wait(DEADLINE)

    reader = Background(read, auth_manager, make_app(while_building=hold))
    app = make_app()
    try:
        assert reader_builds.wait(DEADLINE)
        builder = Background(build, app)
        did_not_wait_for_reader = builder.ended(GRACE)
    finally:
        let_reader_go.set()

    assert reader.ended()
    assert builder.ended()
    assert did_not_wait_for_reader
    assert [reader.error, builder.error] == [None, None]
    assert builder.result.sm.flask_app is app


def test_each_app_builder_gets_one_of_its_own(auth_manager):
    for _ in range(3):
        app = make_app()
        appbuilder = outcome(app)

        assert not isinstance(appbuilder, Exception), appbuilder
        assert auth_manager.appbuilder is appbuilder
        assert auth_manager.security_manager is appbuilder.sm
        assert appbuilder.sm.appbuilder is appbuilder
        assert appbuilder.sm.flask_app is app


def test_attributes_set_while_the_security_manager_is_built_stay(share):
    class ExtendedAuthManager(FabAuthManager):
        @cached_property
        def security_manager(self):
            security_manager = WatchedSecurityManager(self.appbuilder)
            self.set_by_the_property = security_manager
            return security_manager

    auth_manager = share(ExtendedAuthManager())
    auth_manager.set_by_another_thread = "before"

    def set_attribute():
        thread = Background(setattr, auth_manager, "set_by_another_thread", "meanwhile")
        assert thread.ended()

    appbuilder = outcome(make_app(while_building=set_attribute))

    assert getattr(auth_manager, "set_by_the_property", None) is appbuilder.sm
    assert auth_manager.set_by_another_thread == "meanwhile"


def test_property_of_a_subclass_may_build_on_the_one_it_overrides(share):
    class ExtendedAuthManager(FabAuthManager):
        @cached_property
        def security_manager(self):
            security_manager = super().security_manager
            security_manager.extended_by = self.appbuilder
            return security_manager

    auth_manager = share(ExtendedAuthManager())
    for _ in range(2):
        app = make_app()
        appbuilder = outcome(app)

        assert not isinstance(appbuilder, Exception), appbuilder
        assert auth_manager.security_manager is appbuilder.sm
        assert appbuilder.sm.flask_app is app
        assert appbuilder.sm.extended_by is appbuilder


def test_auth_manager_with_a_property_that_is_not_cached(share):
    class PropertyAuthManager(FabAuthManager):
        def init_flask_resources(self):
            self.current = WatchedSecurityManager(self.appbuilder)

        @property
        def security_manager(self):
            return self.current

    auth_manager = share(PropertyAuthManager())
    for _ in range(2):
        app = make_app()
        appbuilder = outcome(app)

        assert not isinstance(appbuilder, Exception), appbuilder
        assert appbuilder.sm.flask_app is app
        assert auth_manager.security_manager is appbuilder.sm


def test_auth_manager_without_security_manager(share):
    auth_manager = share(SimpleAuthManager())

    appbuilder = outcome(make_app())

    assert type(appbuilder.sm) is AirflowSecurityManagerV2
    assert auth_manager.appbuilder is appbuilder
    assert "security_manager" not in vars(auth_manager)
