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
"""Delete a role through ``DELETE /auth/fab/v1/roles/{name}``, with the real security manager and database."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select

from airflow import settings
from airflow.api_fastapi.app import create_auth_manager, purge_cached_app
from airflow.api_fastapi.core_api.security import get_user
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import Role

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.db_test

NAMES = ("Temporary", "Temporary too")


def existing_roles() -> list[str]:
    """Return which of the roles of this test the database has."""
    with settings.NonScopedSession() as session:
        return list(session.scalars(select(Role.name).where(Role.name.in_(NAMES)).order_by(Role.name)))


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """Return a client that may do everything, with two roles in the database."""
    purge_cached_app()
    monkeypatch.setattr(FabAuthManager, "is_authorized_custom_view", lambda *_, **__: True)
    with conf_vars({("fab", "update_fab_perms"): "False"}):
        create_auth_manager()
        app = FabAuthManager().get_fastapi_app()
        assert app is not None
        app.dependency_overrides[get_user] = lambda: SimpleNamespace(id=1, username="tester")
        with settings.NonScopedSession() as session:
            session.add_all([Role(name=name) for name in NAMES])
            session.commit()
        yield TestClient(app, raise_server_exceptions=False)
        with settings.NonScopedSession() as session:
            session.execute(delete(Role).where(Role.name.in_(NAMES)))
            session.commit()
    settings.Session.remove()
    purge_cached_app()


def test_deletes_the_named_role_only(client):
    response = client.delete("/fab/v1/roles/Temporary")

    assert response.status_code == 200
    assert existing_roles() == ["Temporary too"]


def test_deleted_role_is_not_found(client):
    assert client.delete("/fab/v1/roles/Temporary").status_code == 200

    assert client.delete("/fab/v1/roles/Temporary").status_code == 404
    assert client.get("/fab/v1/roles/Temporary").status_code == 404


def test_unknown_role_is_not_found(client):
    assert client.delete("/fab/v1/roles/Unknown").status_code == 404
    assert existing_roles() == ["Temporary", "Temporary too"]
