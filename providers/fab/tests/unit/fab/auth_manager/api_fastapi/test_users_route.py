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
"""The routes that answer with a user, on rows as FAB writes them, whose dates have no time zone."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select

from airflow import settings
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.core_api.security import get_user
from airflow.providers.fab.auth_manager.api_fastapi.datamodels.users import UserResponse
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import User

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.db_test

LOGIN = datetime.datetime(2026, 1, 2, 3, 4, 5)
BODY = {
    "username": "new",
    "email": "new@example.com",
    "first_name": "N",
    "last_name": "U",
    "password": "secret",
}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Return a client that may do everything, with one user in the database."""
    purge_cached_app()
    monkeypatch.setattr(FabAuthManager, "is_authorized_custom_view", lambda *_, **__: True)
    with conf_vars({("fab", "update_fab_perms"): "False"}):
        create_auth_manager()
        app = FabAuthManager().get_fastapi_app()
        assert app is not None
        app.dependency_overrides[get_user] = lambda: SimpleNamespace(id=1, username="tester")
        with settings.NonScopedSession() as session:
            session.add(
                User(username="dated", email="d@example.com", first_name="D", last_name="U", last_login=LOGIN)
            )
            session.commit()
        yield TestClient(app, raise_server_exceptions=False)
        with settings.NonScopedSession() as session:
            names = ["dated", "new", "renamed"]
            for user in session.scalars(select(User).where(User.username.in_(names))).unique():
                user.roles = []
            session.flush()
            session.execute(delete(User).where(User.username.in_(names)))
            session.commit()
    settings.Session.remove()
    purge_cached_app()


def test_users_are_listed_with_their_dates(client):
    response = client.get("/fab/v1/users")

    assert response.status_code == 200
    (user,) = [user for user in response.json()["users"] if user["username"] == "dated"]
    assert datetime.datetime.fromisoformat(user["last_login"]) == LOGIN
    assert datetime.datetime.fromisoformat(user["created_on"]).tzinfo is None
    assert datetime.datetime.fromisoformat(user["changed_on"]).tzinfo is None


def test_user_is_shown_with_his_dates(client):
    response = client.get("/fab/v1/users/dated")

    assert response.status_code == 200
    assert datetime.datetime.fromisoformat(response.json()["last_login"]) == LOGIN


def test_user_is_added_and_answered(client):
    response = client.post("/fab/v1/users", json={**BODY, "roles": [{"name": "Admin"}]})

    assert response.status_code == 200
    assert response.json()["username"] == "new"
    assert response.json()["last_login"] is None


def test_user_is_changed_and_answered(client):
    response = client.patch("/fab/v1/users/dated", json={"username": "renamed"})

    assert response.status_code == 200
    assert response.json()["username"] == "renamed"


def test_unknown_user_is_not_found(client):
    assert client.get("/fab/v1/users/nobody").status_code == 404


def test_date_with_a_time_zone_is_sent_in_utc():
    zone = datetime.timezone(datetime.timedelta(hours=9))
    user = {"username": "u", "email": "e", "first_name": "f", "last_name": "l"}

    answer = UserResponse.model_validate({**user, "last_login": LOGIN.replace(tzinfo=zone)})

    assert answer.last_login.utcoffset() == datetime.timedelta(0)
    assert answer.last_login == LOGIN.replace(tzinfo=zone)
