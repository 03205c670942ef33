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

import json
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, func, select
from sqlalchemy.exc import OperationalError

from airflow import settings
from airflow._shared.timezones import timezone
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.models.revoked_token import RevokedToken
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from httpx import Response

pytestmark = pytest.mark.db_test

LOGOUT_URL = "https://identity.example/logout"
LOGIN = {"username": "logs-out", "password": "a password"}

SIMPLE = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


class LogsOutElsewhere(SimpleAuthManager):
    """An auth manager that has a logout URL."""

    def get_url_logout(self) -> str | None:
        return LOGOUT_URL


class DoesNotKnowWhere(SimpleAuthManager):
    """An auth manager that cannot tell its logout URL, as when it has to ask an identity provider for it."""

    def get_url_logout(self) -> str | None:
        raise ConnectionError("the identity provider does not answer")


class CannotRevoke(SimpleAuthManager):
    """An auth manager that revokes tokens in its own way, which fails."""

    def revoke_token(self, token: str) -> None:
        raise ConnectionError("the identity provider does not answer")


class CannotRevokeAndLogsOutElsewhere(CannotRevoke, LogsOutElsewhere):
    """The same with a logout URL."""


class Browser:
    """A client of a real app, with a token in its cookie."""

    def __init__(self, auth_manager: str) -> None:
        with conf_vars({("core", "auth_manager"): auth_manager}):
            self.client = TestClient(
                create_app(apps="core"), follow_redirects=False, raise_server_exceptions=False
            )
        self.token = self.log_in()

    def log_in(self) -> str:
        """Return a new token."""
        response = self.client.post("/auth/token", json=LOGIN)
        assert response.status_code == 201, response.text
        return response.json()["access_token"]

    def log_out(self, token: str | None = None) -> Response:
        """Log out with a token in the cookie; an empty one is none."""
        token = self.token if token is None else token
        return self.client.get(
            "/api/v2/auth/logout", headers={"Cookie": f"{COOKIE_NAME_JWT_TOKEN}={token}"} if token else {}
        )

    def accepted(self, token: str | None = None) -> int:
        """Return the status of a request with a token as bearer."""
        bearer = {"Authorization": f"Bearer {token or self.token}"}
        return self.client.get("/ui/auth/me", headers=bearer).status_code


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@pytest.fixture
def open_browser(tmp_path) -> Iterator[Callable[[str], Browser]]:
    """Return a function that makes a client of an app with that auth manager, and a user who can log in."""
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({LOGIN["username"]: LOGIN["password"]}))
    options = {
        ("core", "simple_auth_manager_users"): f"{LOGIN['username']}:admin",
        ("core", "simple_auth_manager_passwords_file"): str(passwords),
    }

    def open_browser(auth_manager: str) -> Browser:
        if auth_manager == FAB:
            _add_fab_user()
        return Browser(auth_manager)

    purge_cached_app()
    with conf_vars(options):
        yield open_browser
    purge_cached_app()


def _add_fab_user() -> None:
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with conf_vars({("core", "auth_manager"): FAB}), get_application_builder() as appbuilder:
        if appbuilder.sm.find_user(LOGIN["username"]) is None:
            role = appbuilder.sm.add_role("logs-out")
            name, email = LOGIN["username"], "logs-out@example.com"
            assert appbuilder.sm.add_user(name, "Logs", "Out", email, role, LOGIN["password"])


@pytest.fixture
def refused_writes() -> Iterator[list[str]]:
    """Make the database refuse each write to the table of revoked tokens, and return those it refused."""
    refused = []

    def refuse(connection, cursor, statement, parameters, context, executemany) -> None:
        if statement.startswith("INSERT INTO revoked_token"):
            refused.append(statement)
            raise OperationalError(statement, parameters, Exception("the database is down"))

    event.listen(settings.engine, "before_cursor_execute", refuse)
    yield refused
    event.remove(settings.engine, "before_cursor_execute", refuse)


def revoked() -> int:
    """Return how many tokens are revoked."""
    with create_session(scoped=False) as session:
        return session.scalar(select(func.count()).select_from(RevokedToken))


with_logout_url = [
    pytest.param(name_of(LogsOutElsewhere), id="own"),
    # FAB's can be imported only where Flask App Builder can be installed.
    *([pytest.param(FAB, id="FAB")] if find_spec("flask_appbuilder") else []),
]
without_logout_url = [pytest.param(SIMPLE, id="Simple")]
any_auth_manager = pytest.mark.parametrize("auth_manager", [*with_logout_url, *without_logout_url])


@pytest.mark.parametrize("auth_manager", with_logout_url)
def test_token_is_refused_after_logout_with_a_logout_url(open_browser, auth_manager):
    browser = open_browser(auth_manager)
    assert browser.accepted() == 200

    assert browser.log_out().status_code == 307

    assert browser.accepted() == 403


def test_token_is_refused_when_the_logout_url_cannot_be_told(open_browser):
    browser = open_browser(name_of(DoesNotKnowWhere))
    assert browser.accepted() == 200

    assert browser.log_out().status_code == 500

    assert browser.accepted() == 403


def test_token_is_refused_after_logout_without_a_logout_url(open_browser):
    browser = open_browser(SIMPLE)
    assert browser.accepted() == 200

    response = browser.log_out()

    assert response.status_code == 307
    assert response.headers["location"].endswith("/auth/login")
    assert f"{COOKIE_NAME_JWT_TOKEN}=" in response.headers["set-cookie"]
    assert browser.accepted() == 403


@pytest.mark.parametrize("auth_manager", with_logout_url)
def test_logout_leads_to_the_logout_url(open_browser, auth_manager):
    response = open_browser(auth_manager).log_out()

    assert response.status_code == 307
    assert response.headers["location"].endswith("/auth/logout" if auth_manager == FAB else LOGOUT_URL)


@any_auth_manager
def test_other_tokens_of_the_user_stay_valid(open_browser, auth_manager):
    browser = open_browser(auth_manager)
    other = browser.log_in()

    browser.log_out()

    assert browser.accepted(other) == 200


@any_auth_manager
def test_logout_without_a_token(open_browser, auth_manager):
    browser = open_browser(auth_manager)
    before = revoked()

    assert browser.log_out(token="").status_code == 307

    assert revoked() == before
    assert browser.accepted() == 200


@any_auth_manager
def test_logout_with_a_token_that_is_not_valid(open_browser, auth_manager, time_machine):
    browser = open_browser(auth_manager)
    before = revoked()
    head, _, signature = browser.token.rpartition(".")

    assert browser.log_out("none").status_code == 307
    assert browser.log_out(f"{head}.{signature[::-1]}").status_code == 307
    time_machine.move_to(timezone.utcnow() + timedelta(days=100))
    assert browser.log_out().status_code == 307

    assert revoked() == before


@pytest.mark.parametrize("auth_manager", with_logout_url)
def test_database_that_is_down_does_not_keep_from_the_logout_url(open_browser, auth_manager, refused_writes):
    assert open_browser(auth_manager).log_out().status_code == 307
    assert len(refused_writes) == 1


@pytest.mark.parametrize("auth_manager", without_logout_url)
def test_database_that_is_down_does_not_keep_from_the_login(open_browser, auth_manager, refused_writes):
    assert open_browser(auth_manager).log_out().status_code == 307
    assert len(refused_writes) == 1


def test_revocation_that_fails_is_no_logout_with_a_logout_url(open_browser):
    assert open_browser(name_of(CannotRevokeAndLogsOutElsewhere)).log_out().status_code == 500


def test_revocation_that_fails_is_no_logout_without_a_logout_url(open_browser):
    assert open_browser(name_of(CannotRevoke)).log_out().status_code == 500
