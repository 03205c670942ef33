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
"""Read the security manager while ``init_app`` binds it to another app; hooks force the order of events."""

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
        self.flask_app.config.get("WHILE_BUILDING", lambda: None)()
        super().__init__(appbuilder)


class WatchedAuthManager(FabAuthManager):
    """A FAB auth manager that lets the Flask app act before its resources are initialised."""

    def init_flask_resources(self) -> None:
        current_app.config.get("BEFORE_RESOURCES", lambda: None)()
        super().init_flask_resources()


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


@pytest.mark.parametrize(
    "auth_manager_cls", [WatchedAuthManager, HelperAuthManager, ExtendingAuthManager, WerkzeugAuthManager]
)
def test_each_app_builder_gets_one_of_its_own(share, auth_manager_cls):
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

    appbuilder = outcome(make_app())

    assert type(appbuilder.sm) is AirflowSecurityManagerV2
    assert auth_manager.appbuilder is appbuilder
    assert "security_manager" not in vars(auth_manager)
