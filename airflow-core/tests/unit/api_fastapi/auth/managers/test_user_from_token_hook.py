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

import asyncio
import threading
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

import httpx
import pytest
from jwt import InvalidTokenError

from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api import security

from tests_common.test_utils.config import conf_vars

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from fastapi import FastAPI

pytestmark = [pytest.mark.asyncio, pytest.mark.db_test]

TIMEOUT = 20

PATH = "/api/v2/pools"


class LooksUsersUp(SimpleAuthManager):
    """An auth manager that awaits the look-up of a user."""

    look_up: ClassVar[Callable[[dict[str, Any]], Awaitable[SimpleAuthManagerUser]]]

    async def adeserialize_user(self, token: dict[str, Any]) -> SimpleAuthManagerUser:
        return await type(self).look_up(token)


def app_with(auth_manager: type) -> FastAPI:
    with conf_vars({("core", "auth_manager"): f"{auth_manager.__module__}.{auth_manager.__qualname__}"}):
        return create_app(apps="core")


@pytest.fixture
def _purged() -> Iterator[None]:
    purge_cached_app()
    yield
    purge_cached_app()


@pytest.fixture
def app(_purged) -> FastAPI:
    """Return an app with an auth manager that knows nothing of the hook."""
    return app_with(SimpleAuthManager)


@pytest.fixture
def app_that_looks_up(_purged) -> FastAPI:
    """Return an app with an auth manager that overrides the hook."""
    return app_with(LooksUsersUp)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://testserver")


def token_of(app: FastAPI, name: str = "someone", role: str | None = "admin") -> str:
    return app.state.auth_manager.generate_jwt(SimpleAuthManagerUser(username=name, role=role))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def cookie(token: str) -> dict[str, str]:
    return {"Cookie": f"{COOKIE_NAME_JWT_TOKEN}={token}"}


async def first_of(request: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    """Wait for the first of the two, and no longer than the time-out; wait for the other no more."""
    await asyncio.wait({request, other}, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
    other.cancel()


# Core 3.1.0 takes no cookie.
bearer_and_cookie = pytest.mark.parametrize(
    "headers", [bearer, cookie] if hasattr(security, "COOKIE_NAME_JWT_TOKEN") else [bearer]
)


@bearer_and_cookie
async def test_user_of_the_hook_is_the_user_of_the_request(app_that_looks_up, monkeypatch, headers):
    """The user of the token may do nothing, and the one of the hook all."""

    async def look_up(token: dict[str, Any]) -> SimpleAuthManagerUser:
        await asyncio.sleep(0)
        return SimpleAuthManagerUser(username=token["sub"], role="admin")

    monkeypatch.setattr(LooksUsersUp, "look_up", look_up, raising=False)
    async with client_of(app_that_looks_up) as client:
        response = await client.get(PATH, headers=headers(token_of(app_that_looks_up, role=None)))

    assert response.status_code == 200


@bearer_and_cookie
async def test_slow_look_up_does_not_hold_the_loop(app_that_looks_up, monkeypatch, headers):
    loop = asyncio.get_running_loop()
    began, answer = asyncio.Event(), threading.Event()

    def query(token: dict[str, Any]) -> SimpleAuthManagerUser:
        loop.call_soon_threadsafe(began.set)
        assert answer.wait(TIMEOUT)
        return SimpleAuthManagerUser(username=token["sub"], role="admin")

    monkeypatch.setattr(LooksUsersUp, "look_up", lambda token: asyncio.to_thread(query, token), raising=False)
    async with client_of(app_that_looks_up) as client:
        waiting = asyncio.ensure_future(client.get(PATH, headers=headers(token_of(app_that_looks_up))))
        try:
            await first_of(waiting, asyncio.ensure_future(began.wait()))
            assert began.is_set(), "the request was answered, or waits, without a look-up"

            assert (await client.get("/api/v2/version")).status_code == 200
            assert not waiting.done()
        finally:
            answer.set()
            response = await waiting

    assert response.status_code == 200


async def test_look_ups_of_many_requests_go_on_at_once(app_that_looks_up, monkeypatch):
    names = [f"user-{number}" for number in range(5)]
    came: list[str] = []
    all_came = asyncio.Event()

    async def look_up(token: dict[str, Any]) -> SimpleAuthManagerUser:
        came.append(token["sub"])
        if len(came) == len(names):
            all_came.set()
        await asyncio.wait_for(all_came.wait(), TIMEOUT)
        return SimpleAuthManagerUser(username=token["sub"], role="admin")

    monkeypatch.setattr(LooksUsersUp, "look_up", look_up, raising=False)
    get_user = app_that_looks_up.state.auth_manager.get_user_from_token
    users = await asyncio.gather(*(get_user(token_of(app_that_looks_up, name)) for name in names))

    assert sorted(came) == names
    assert [user.get_name() for user in users] == names


error_and_status = pytest.mark.parametrize(
    ("error", "status"), [(ValueError, 403), (KeyError, 403), (RuntimeError, 500)]
)


@error_and_status
async def test_error_of_the_hook(app_that_looks_up, monkeypatch, error, status):
    async def look_up(token: dict[str, Any]) -> SimpleAuthManagerUser:
        await asyncio.sleep(0)
        raise error("no such user")

    monkeypatch.setattr(LooksUsersUp, "look_up", look_up, raising=False)
    async with client_of(app_that_looks_up) as client:
        response = await client.get(PATH, headers=bearer(token_of(app_that_looks_up)))

    assert response.status_code == status


async def test_cancelled_request_cancels_its_look_up(app_that_looks_up, monkeypatch):
    began, cancelled = asyncio.Event(), []

    async def look_up(token: dict[str, Any]) -> SimpleAuthManagerUser:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(token["sub"])
            raise
        raise AssertionError("never")

    monkeypatch.setattr(LooksUsersUp, "look_up", look_up, raising=False)
    asked = asyncio.ensure_future(
        app_that_looks_up.state.auth_manager.get_user_from_token(token_of(app_that_looks_up))
    )
    await first_of(asked, asyncio.ensure_future(began.wait()))
    asked.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asked
    assert cancelled == ["someone"]


async def test_hook_calls_deserialize_user_by_default(app):
    user = await app.state.auth_manager.adeserialize_user({"sub": "someone", "role": "viewer"})

    assert (user.username, user.role) == ("someone", "viewer")


@bearer_and_cookie
async def test_deserialize_user_is_called_on_the_loop(app, headers):
    threads = []
    deserialize_user = SimpleAuthManager.deserialize_user

    def observed(self, token: dict[str, Any]) -> SimpleAuthManagerUser:
        threads.append(threading.get_ident())
        return deserialize_user(self, token)

    async with client_of(app) as client:
        with mock.patch.object(SimpleAuthManager, "deserialize_user", autospec=True, side_effect=observed):
            response = await client.get(PATH, headers=headers(token_of(app)))

    assert response.status_code == 200
    assert set(threads) == {threading.get_ident()}


@error_and_status
async def test_error_of_deserialize_user(app, error, status):
    async with client_of(app) as client:
        with mock.patch.object(SimpleAuthManager, "deserialize_user", autospec=True, side_effect=error("no")):
            response = await client.get(PATH, headers=bearer(token_of(app)))

    assert response.status_code == status


async def test_invalid_token_is_not_deserialized(app):
    with mock.patch.object(SimpleAuthManager, "deserialize_user", autospec=True) as deserialize_user:
        with pytest.raises(InvalidTokenError):
            await app.state.auth_manager.get_user_from_token("not a token")

    deserialize_user.assert_not_called()
