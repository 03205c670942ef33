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
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import delete, event

from airflow import settings
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.datamodels.dag_versions import DagVersionResponse
from airflow.api_fastapi.core_api.datamodels.dags import DAGDetailsResponse
from airflow.api_fastapi.core_api.security import get_user
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

TIMEOUT = 20
BUNDLE = "latest-dag-version"
DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"


@pytest.fixture
def rows():
    """Have a Dag with one version."""

    def clean():
        with create_session(scoped=False) as session:
            session.execute(delete(DagModel))
            session.execute(delete(DagBundleModel))

    clean()
    with DAG("dag", schedule=None, start_date=DAY, dag_display_name="The Dag") as dag:
        BaseOperator(task_id="task")
    dag.fileloc, dag.relative_fileloc = "/dags/dag.py", "dag.py"
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name=BUNDLE))
    with create_session(scoped=False) as session:
        lazy_dag = LazyDeserializedDAG.from_dag(dag)
        update_dag_parsing_results_in_db(BUNDLE, None, [lazy_dag], {}, 1.0, set(), session)
    yield
    clean()


@pytest.fixture(scope="module")
def make_app():
    purge_cached_app()
    yield cache(create_app)
    purge_cached_app()


@pytest.fixture
def app(make_app, rows):
    with conf_vars({("core", "auth_manager"): SIMPLE_AUTH_MANAGER}):
        app = make_app()
        # Without a token, so that all that is seen of the database is the answer's.
        app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="admin", role="admin")
        yield app


def ask(app, path: str) -> httpx.Response:
    async def answer():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get(f"/api/v2/{path}")

    return asyncio.run(answer())


def is_event_loop_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def listening(**listeners):
    """Listen to the engine: ``statement`` before each one, ``checkout`` and ``checkin`` of a connection."""
    names = {"statement": "before_cursor_execute"}
    listeners = {names.get(name, name): listener for name, listener in listeners.items()}
    for name, listener in listeners.items():
        event.listen(settings.engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(settings.engine, name, listener)


def test_request_needs_one_connection(app):
    out = most = 0

    def checkout(*args):
        nonlocal out, most
        out += 1
        most = max(most, out)

    def checkin(*args):
        nonlocal out
        out -= 1

    with listening(checkout=checkout, checkin=checkin):
        response = ask(app, "dags/dag/details")

    assert response.status_code == 200
    assert (most, out) == (1, 0)


def test_nothing_is_asked_on_the_event_loop(app):
    seen: list[str] = []

    def statement(conn, cursor, statement, parameters, context, executemany):
        if is_event_loop_here():
            seen.append(statement)

    def checkout(*args):
        if is_event_loop_here():
            seen.append("a connection")

    with listening(statement=statement, checkout=checkout):
        response = ask(app, "dags/dag/details")

    assert response.status_code == 200
    assert seen == []


def test_server_answers_while_the_latest_version_waits(app):
    version_wanted, server_answered = threading.Event(), threading.Event()
    held: list[str] = []

    def statement(conn, cursor, statement, parameters, context, executemany):
        if "ORDER BY dag_version" in statement and "dag_bundle" in statement and not version_wanted.is_set():
            version_wanted.set()
            if is_event_loop_here():
                held.append("the event loop")
            elif not server_answered.wait(TIMEOUT):
                held.append("a thread, to no end")

    async def meanwhile() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            details = asyncio.ensure_future(client.get("/api/v2/dags/dag/details"))
            assert await asyncio.to_thread(version_wanted.wait, TIMEOUT)
            version = await client.get("/api/v2/version")
            server_answered.set()
            return await details, version

    with listening(statement=statement):
        details, version = asyncio.run(meanwhile())

    assert held == []
    assert (details.status_code, version.status_code) == (200, 200)


def test_answer_has_the_latest_version(app):
    with create_session(scoped=False) as session:
        session.add(DagVersion(dag_id="dag", version_number=2, bundle_name=BUNDLE, bundle_version="abc"))

    latest = ask(app, "dags/dag/details").json()["latest_dag_version"]

    assert (
        latest.items()
        >= {
            "version_number": 2,
            "dag_id": "dag",
            "bundle_name": BUNDLE,
            "bundle_version": "abc",
            "dag_display_name": "The Dag",
            "bundle_url": None,
        }.items()
    )
    assert latest == ask(app, "dags/dag/dagVersions/2").json()


def test_answer_ends_with_the_latest_version(app):
    assert list(ask(app, "dags/dag/details").json())[-2:] == ["concurrency", "latest_dag_version"]


def test_dag_is_asked_for_its_version_once(app):
    asked: list[str] = []

    def statement(conn, cursor, statement, parameters, context, executemany):
        if "ORDER BY dag_version" in statement and "dag_bundle" in statement:
            asked.append(statement)

    with listening(statement=statement):
        ask(app, "dags/dag/details")

    assert len(asked) == 1


def test_dag_without_a_version(rows):
    response = DAGDetailsResponse.model_construct(dag_id="none")

    try:
        with create_session(scoped=False) as session:
            response.load_latest_dag_version(session=session)
    except ValidationError as error:
        pytest.fail(str(error))

    assert response.latest_dag_version is None


def test_description_of_the_api(app):
    schema = app.openapi()["components"]["schemas"]["DAGDetailsResponse"]

    assert schema["properties"]["latest_dag_version"] == {
        "anyOf": [{"$ref": f"#/components/schemas/{DagVersionResponse.__name__}"}, {"type": "null"}],
        "description": "Return the latest DagVersion.",
        "readOnly": True,
    }
    assert "latest_dag_version" in schema["required"]
