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
"""The look-up of a token's user, which core and FAB make together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from airflow import settings
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.providers.fab.auth_manager.models import User
from airflow.providers.fab.www.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.db_test, pytest.mark.backend("sqlite")]

NAME = "user-look-up"


@pytest.fixture
def user() -> Iterator[User]:
    with settings.NonScopedSession(expire_on_commit=False) as session:
        session.add(user := User(first_name="a", last_name="b", username=NAME, email=NAME, active=True))
        session.commit()
        yield user
        session.delete(user)
        session.commit()


def on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_user_of_a_token_is_not_read_on_the_event_loop(user):
    auth_manager = FabAuthManager()
    auth_manager.appbuilder = create_app(enable_plugins=False).appbuilder
    token = auth_manager.generate_jwt(user)
    settings.Session.remove()
    reads: list[bool] = []

    def note(conn, cursor, statement, parameters, context, executemany) -> None:
        if "FROM ab_user" in statement:
            reads.append(on_loop())

    event.listen(settings.engine, "before_cursor_execute", note)
    try:
        found = asyncio.run(auth_manager.get_user_from_token(token))
    finally:
        event.remove(settings.engine, "before_cursor_execute", note)

    assert found.username == NAME
    assert set(reads) == {False}
