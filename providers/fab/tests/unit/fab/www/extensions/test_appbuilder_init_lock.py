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
"""Build app builders and read the security manager in several threads; hooks force the order of events."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, current_app
from werkzeug.utils import cached_property as werkzeug_cached_property

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

# Seconds for what must happen, and for what must not.
DEADLINE = 10
GRACE = 2


class OnPurposeError(Exception):
    pass


class WatchedSecurityManager(FabAirflowSecurityManagerOverride):
    """A security manager that knows its Flask app and lets the app act while it is constructed."""

    def __init__(self, appbuilder):
        self.flask_app = current_app._get_current_object()
        self.flask_app.config["WHILE_BUILDING"]()
        super().__init__(appbuilder)


class WatchedAuthManager(FabAuthManager):
    """A FAB auth manager that lets the Flask app act after the views are registered."""

    def register_views(self) -> None:
        super().register_views()
        current_app.config["AFTER_VIEWS"]()


class HelperAuthManager(FabAuthManager):
    """An auth manager whose property sets another attribute."""

    @cached_property
    def security_manager(self):
        self.helper = WatchedSecurityManager(self.appbuilder)
        return self.helper


class ExtendingAuthManager(FabAuthManager):
    """An auth manager whose property builds on the one that it overrides."""

    @cached_property
    def security_manager(self):
        self.helper = super().security_manager
        return self.helper


class WerkzeugAuthManager(FabAuthManager):
    """An auth manager whose property is cached by another class than ``functools.cached_property``."""

    @werkzeug_cached_property
    def security_manager(self):
        return WatchedSecurityManager(self.appbuilder)


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

    def ended(self) -> bool:
        self.join(DEADLINE)
        return not self.is_alive()


def make_app(while_building: Callable = lambda: None, after_views: Callable = lambda: None) -> Flask:
    app = Flask("test_appbuilder_init_lock")
    app.config["SECURITY_MANAGER_CLASS"] = WatchedSecurityManager
    app.config["WHILE_BUILDING"] = while_building
    app.config["AFTER_VIEWS"] = after_views
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
    """Read from the auth manager what other threads use of it, in the context of an app."""
    with app.app_context():
        return auth_manager.security_manager, auth_manager.appbuilder


def fail():
    raise OnPurposeError


def serves_login(app: Flask) -> bool:
    return "AuthDBView.login" in app.view_functions


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


def test_init_app_runs_one_at_a_time(share):
    inside: list[int] = []
    overlap, waited = threading.Event(), threading.Event()

    class CountingAuthManager(FabAuthManager):
        def init_flask_resources(self):
            inside.append(threading.get_ident())
            if len(inside) > 1:
                overlap.set()
            elif not waited.is_set():
                waited.set()
                overlap.wait(GRACE)
            super().init_flask_resources()

        def register_views(self):
            try:
                super().register_views()
            finally:
                inside.remove(threading.get_ident())

    shared = share(CountingAuthManager())
    apps = [make_app() for _ in range(10)]
    start = threading.Barrier(len(apps))

    def build_with_others(app):
        start.wait(DEADLINE)
        return build(app)

    threads = [Background(build_with_others, app) for app in apps]

    assert all([thread.ended() for thread in threads])
    assert not overlap.is_set()
    assert [thread.error for thread in threads] == [None] * len(apps)
    assert [thread.result.sm.flask_app for thread in threads] == apps
    assert all(serves_login(app) for app in apps)
    assert shared.security_manager is shared.appbuilder.sm


def test_app_builder_finishes_with_the_auth_manager_it_began_with(monkeypatch):
    created: list[WatchedAuthManager] = []
    first_created, second_created = threading.Event(), threading.Event()

    def create_auth_manager():
        auth_manager = WatchedAuthManager()
        created.append(auth_manager)
        if len(created) == 1:
            first_created.set()
            second_created.wait(GRACE)
        else:
            second_created.set()
        return auth_manager

    monkeypatch.setattr(module, "create_auth_manager", create_auth_manager)
    monkeypatch.setattr(module, "get_auth_manager", lambda: created[-1])
    finish_second = threading.Event()
    apps = [make_app(), make_app(while_building=lambda: finish_second.wait(GRACE))]

    first = Background(build, apps[0])
    assert first_created.wait(DEADLINE)
    second = Background(build, apps[1])
    assert first.ended()
    finish_second.set()
    assert second.ended()

    assert [first.error, second.error] == [None, None]
    assert [auth_manager.appbuilder for auth_manager in created] == [first.result, second.result]
    assert [auth_manager.security_manager.flask_app for auth_manager in created] == apps
    assert [serves_login(app) for app in apps] == [True, True]


@pytest.mark.parametrize(
    "auth_manager_cls", [WatchedAuthManager, HelperAuthManager, ExtendingAuthManager, WerkzeugAuthManager]
)
def test_security_manager_is_bound_to_the_current_app(share, auth_manager_cls):
    auth_manager = share(auth_manager_cls())
    for _ in range(3):
        app = make_app()
        appbuilder = outcome(app)

        assert not isinstance(appbuilder, Exception), appbuilder
        assert auth_manager.appbuilder is appbuilder
        assert auth_manager.security_manager is appbuilder.sm
        assert getattr(auth_manager, "helper", appbuilder.sm) is appbuilder.sm
        assert appbuilder.sm.appbuilder is appbuilder
        assert appbuilder.sm.flask_app is app
        assert "AUTH_USER_REGISTRATION" in app.config


def test_reader_sees_the_old_one_until_the_new_one_replaces_it(auth_manager):
    old = build(make_app())
    built_by_readers, seen = [], {}

    def look(moment):
        readers_app = make_app(while_building=lambda: built_by_readers.append(moment))
        reader = Background(read, auth_manager, readers_app)
        seen[moment] = reader.ended() and reader.result[0]

    new = outcome(make_app(while_building=lambda: look("while building"), after_views=lambda: look("after")))

    assert not isinstance(new, Exception)
    assert built_by_readers == []
    assert seen == {"while building": old.sm, "after": new.sm}


def test_request_in_one_app_may_use_the_security_manager_of_another(auth_manager):
    app, other_app = make_app(), make_app()
    appbuilder = build(app)
    with app.app_context():
        role = appbuilder.sm.find_role("Admin")
        user = appbuilder.sm.add_user("init-lock", "a", "b", "a@example.com", role, password="secret")
        try:
            other = outcome(other_app)

            assert not isinstance(other, Exception)
            assert auth_manager.security_manager is other.sm
            assert auth_manager.create_token({}, {"username": "init-lock", "password": "secret"}) == user
            assert auth_manager.create_token({}, {"username": "init-lock", "password": "wrong"}) is None
            assert auth_manager.create_token({}, {"username": "unknown", "password": "secret"}) is None
        finally:
            appbuilder.session.delete(user)
            appbuilder.session.commit()


@pytest.mark.parametrize("where", ["while_building", "after_views"])
def test_app_builder_may_be_built_inside_another(auth_manager, where):
    build(make_app())
    inner_app = make_app()
    outer_app = make_app(**{where: lambda: build(inner_app)})

    outer = outcome(outer_app)

    assert not isinstance(outer, Exception), outer
    assert outer.sm.flask_app is outer_app
    assert inner_app.appbuilder.sm.flask_app is inner_app
    assert serves_login(outer_app)
    assert serves_login(inner_app)


@pytest.mark.parametrize("where", ["while_building", "after_views"])
def test_failed_init_app_leaves_a_working_auth_manager_and_a_free_lock(auth_manager, where):
    old = build(make_app())

    error = outcome(make_app(**{where: fail}))

    assert isinstance(error, OnPurposeError)
    reader = Background(read, auth_manager, make_app(while_building=fail))
    assert reader.ended()
    assert reader.error is None
    security_manager, appbuilder = reader.result
    assert (security_manager is old.sm) == (where == "while_building")
    assert appbuilder.session is old.session
    # Each build runs in another thread, so a lock that was kept would stop this one.
    new = outcome(make_app())
    assert auth_manager.security_manager is new.sm


def test_attribute_that_another_thread_sets_during_the_build_stays(auth_manager):
    build(make_app())
    auth_manager.set_by_another_thread = "before"

    def set_attribute():
        thread = Background(setattr, auth_manager, "set_by_another_thread", "meanwhile")
        assert thread.ended()

    outcome(make_app(while_building=set_attribute))

    assert auth_manager.set_by_another_thread == "meanwhile"


def test_auth_manager_with_its_own_property_or_attribute(share):
    class PropertyAuthManager(FabAuthManager):
        def init_flask_resources(self):
            self.current = WatchedSecurityManager(self.appbuilder)

        @property
        def security_manager(self):
            return self.current

    class AttributeAuthManager(SimpleAuthManager):
        def init_flask_resources(self):
            self.security_manager = WatchedSecurityManager(self.appbuilder)

    for auth_manager in (PropertyAuthManager(), AttributeAuthManager()):
        share(auth_manager)
        for _ in range(2):
            app = make_app()
            appbuilder = outcome(app)

            assert not isinstance(appbuilder, Exception), appbuilder
            assert auth_manager.security_manager is appbuilder.sm
            assert appbuilder.sm.flask_app is app


def test_auth_manager_without_security_manager(share):
    auth_manager = share(SimpleAuthManager())

    first, second = outcome(make_app()), outcome(make_app())

    assert type(first.sm) is type(second.sm) is AirflowSecurityManagerV2
    assert first.sm is not second.sm
    assert auth_manager.appbuilder is second
    assert "security_manager" not in vars(auth_manager)
