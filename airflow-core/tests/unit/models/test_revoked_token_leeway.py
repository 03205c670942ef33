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

from datetime import datetime, timedelta, timezone

import pytest
from jwt import InvalidTokenError
from sqlalchemy import delete
from starlette.concurrency import run_in_threadpool

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import revoked_token
from airflow.models.revoked_token import RevokedToken
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

LEEWAY = ("api_auth", "jwt_leeway")


def forget_cache() -> None:
    # Only an Airflow that caches revoked tokens has a cache.
    if get_cache := getattr(revoked_token, "get_revoked_token_cache", None):
        get_cache.cache_clear()


@pytest.fixture(autouse=True)
def clean_slate(monkeypatch):
    def clean():
        with create_session(scoped=False) as session:
            session.execute(delete(RevokedToken))
        forget_cache()

    clean()
    monkeypatch.setattr(RevokedToken, "_last_cleanup_time", float("-inf"))
    yield
    clean()


def clean_up() -> None:
    RevokedToken._last_cleanup_time = float("-inf")
    with create_session(scoped=False) as session:
        RevokedToken.is_revoked("other", session=session)


@pytest.mark.asyncio
async def test_token_in_its_leeway_stays_revoked_after_a_cleanup():
    manager = SimpleAuthManager()
    user = SimpleAuthManagerUser(username="user", role="admin")
    token = manager.generate_jwt(user, expiration_time_in_seconds=-3)
    assert (await manager.get_user_from_token(token)).get_name() == "user"
    await run_in_threadpool(manager.revoke_token, token)
    clean_up()
    forget_cache()
    try:
        outcome = (await manager.get_user_from_token(token)).get_name()
    except InvalidTokenError as e:
        outcome = str(e)
    assert outcome == "Token has been revoked"


def has_row_after_cleanup(leeway: str) -> bool:
    with create_session(scoped=False) as session:
        session.add(RevokedToken(jti="token", exp=datetime.now(tz=timezone.utc) - timedelta(seconds=20)))
    with conf_vars({LEEWAY: leeway}):
        clean_up()
    with create_session(scoped=False) as session:
        return session.get(RevokedToken, "token") is not None


def test_cleanup_keeps_a_token_during_its_leeway():
    assert has_row_after_cleanup("60") is True


@pytest.mark.parametrize("leeway", ["10", "0"])
def test_cleanup_deletes_a_token_after_its_leeway(leeway):
    assert has_row_after_cleanup(leeway) is False
