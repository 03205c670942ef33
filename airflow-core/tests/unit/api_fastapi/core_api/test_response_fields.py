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
import importlib
import inspect
import pkgutil
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache

import httpx
import pytest
from pydantic import BaseModel, TypeAdapter
from sqlalchemy import delete, event, select, update

from airflow import settings
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api import datamodels
from airflow.api_fastapi.core_api.security import get_user
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.base import Base
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.log import Log
from airflow.models.pool import Pool
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.variable import Variable
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

TIMEOUT = 20
BUNDLE = "response-fields"
DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
# The field of each collection that a response is made of. Some are not in every release.
COLLECTIONS = {
    "AssetAliasCollectionResponse": "asset_aliases",
    "AssetEventCollectionResponse": "asset_events",
    "BackfillCollectionResponse": "backfills",
    "ClearTaskInstanceCollectionResponse": "task_instances",
    "ConnectionCollectionResponse": "connections",
    "DagBundleCollectionResponse": "dag_bundles",
    "DagBundleFileCollectionResponse": "dag_bundle_files",
    "DAGCollectionResponse": "dags",
    "DAGRunCollectionResponse": "dag_runs",
    "DAGVersionCollectionResponse": "dag_versions",
    "DAGWarningCollectionResponse": "dag_warnings",
    "DeadlineAlertCollectionResponse": "deadline_alerts",
    "DeadlineCollectionResponse": "deadlines",
    "EventLogCollectionResponse": "event_logs",
    "HITLDetailCollection": "hitl_details",
    "ImportErrorCollectionResponse": "import_errors",
    "JobCollectionResponse": "jobs",
    "PoolCollectionResponse": "pools",
    "TaskInstanceCollectionResponse": "task_instances",
    "VariableCollectionResponse": "variables",
    "XComCollectionResponse": "xcom_entries",
}


def response_models() -> dict[str, type[BaseModel]]:
    """Return every model of the core API's datamodels by its name."""
    models = {}
    for module in pkgutil.walk_packages(datamodels.__path__, f"{datamodels.__name__}."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(thing) and issubclass(thing, BaseModel) and thing.__module__ == module.name:
                models[name] = thing
    return models


MODELS = response_models()
collections = pytest.mark.parametrize(
    ("model", "field"),
    [pytest.param(MODELS[name], field, id=name) for name, field in COLLECTIONS.items() if name in MODELS],
)


@pytest.fixture
def rows():
    """Have two rows of each kind, and take them away again."""

    def clean():
        with create_session(scoped=False) as session:
            for table in reversed(Base.metadata.sorted_tables):
                if table.name in ("dag", "dag_run", "dag_bundle", "connection", "variable", "log"):
                    session.execute(delete(table))
            session.execute(delete(Pool).where(Pool.pool != Pool.DEFAULT_POOL_NAME))

    clean()
    dags = []
    for dag_id in ("dag_0", "dag_1"):
        with DAG(dag_id, schedule=None, start_date=DAY, tags=["b", "a"]) as dag:
            BaseOperator(task_id="task_0") >> BaseOperator(task_id="task_1")
        dag.fileloc, dag.relative_fileloc = f"/dags/{dag_id}.py", f"{dag_id}.py"
        dags.append(LazyDeserializedDAG.from_dag(dag))
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name=BUNDLE))
        for n in range(2):
            session.add(Connection(conn_id=f"conn_{n}", conn_type="http", host="host"))
            session.add(Pool(pool=f"pool_{n}", slots=3, description="", include_deferred=False))
            session.add(Log(event=f"event_{n}", owner="owner", dag_id=f"dag_{n}"))
            session.add(Variable(key=f"key_{n}", val="value"))
    with create_session(scoped=False) as session:
        update_dag_parsing_results_in_db(BUNDLE, None, dags, {}, 1.0, set(), session)
        session.execute(update(DagModel).values(is_stale=False))
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


async def answers(app, *requests) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await asyncio.gather(*(client.request(method, path, **kw) for method, path, kw in requests))


def ask(app, method: str, path: str, **kw) -> httpx.Response:
    [response] = asyncio.run(answers(app, (method, path, kw)))
    return response


def is_event_loop_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@contextmanager
def seen_on_the_event_loop():
    """Collect the statements that threads with a running event loop send, and the rows that they load."""
    seen: list[str] = []

    def statement(conn, cursor, statement, parameters, context, executemany):
        if is_event_loop_here():
            seen.append(statement)

    def load(row, context):
        if is_event_loop_here():
            seen.append(type(row).__name__)

    event.listen(settings.engine, "before_cursor_execute", statement)
    event.listen(Base, "load", load, propagate=True)
    try:
        yield seen
    finally:
        event.remove(settings.engine, "before_cursor_execute", statement)
        event.remove(Base, "load", load)


@collections
def test_rows_are_read_when_the_response_is_made(model, field):
    read = []

    def rows():
        read.append("all")
        yield from ()

    model(**{field: rows(), "total_entries": 0})

    assert read == ["all"]


def test_no_response_reads_its_rows_later():
    def is_lazy(schema) -> bool:
        if isinstance(schema, dict):
            # What pydantic makes of an Iterable, a Generator or an Iterator.
            return schema.get("type") == "generator" or any(map(is_lazy, schema.values()))
        return isinstance(schema, list | tuple) and any(map(is_lazy, schema))

    assert [name for name, model in MODELS.items() if is_lazy(TypeAdapter(model).core_schema)] == []


@pytest.mark.parametrize(
    "path",
    [
        "connections",
        "dags",
        "dags/dag_0/dagVersions",
        "eventLogs",
        "variables",
    ],
)
def test_nothing_is_read_on_the_event_loop(app, path):
    ask(app, "GET", f"/api/v2/{path}")  # what only the first request does is not meant

    with seen_on_the_event_loop() as seen:
        response = ask(app, "GET", f"/api/v2/{path}")

    assert response.status_code == 200
    assert seen == []


def test_pools_and_patched_dags_are_read_off_the_event_loop(app):
    with seen_on_the_event_loop() as seen:
        pools = ask(app, "GET", "/api/v2/pools")
        dags = ask(app, "PATCH", "/api/v2/dags?dag_id_pattern=~", json={"is_paused": False})

    assert (pools.status_code, dags.status_code) == (200, 200)
    assert [dag["is_paused"] for dag in dags.json()["dags"]] == [False, False]
    assert {"Pool", "DagTag"}.isdisjoint(seen)
    assert [what for what in seen if "sum(task_instance.pool_slots)" in what or "FROM dag_tag" in what] == []


def test_server_answers_while_the_tags_of_dags_wait(app):
    tags_wanted, version_answered = threading.Event(), threading.Event()
    held: list[str] = []

    def hold(conn, cursor, statement, parameters, context, executemany):
        if "dag_tag" in statement and not tags_wanted.is_set():
            tags_wanted.set()
            if is_event_loop_here():
                held.append("the event loop")
            elif not version_answered.wait(TIMEOUT):
                held.append("a thread, to no end")

    async def meanwhile() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            dags = asyncio.ensure_future(client.get("/api/v2/dags"))
            assert await asyncio.to_thread(tags_wanted.wait, TIMEOUT)
            version = await client.get("/api/v2/version")
            version_answered.set()
            return await dags, version

    event.listen(settings.engine, "before_cursor_execute", hold)
    try:
        dags, version = asyncio.run(meanwhile())
    finally:
        event.remove(settings.engine, "before_cursor_execute", hold)

    assert held == []
    assert version.status_code == 200
    assert [dag["dag_id"] for dag in dags.json()["dags"]] == ["dag_0", "dag_1"]


@collections
def test_schema_is_that_of_an_array(model, field):
    schema = model.model_json_schema(mode="serialization")["properties"][field]

    assert schema["type"] == "array"
    assert set(schema) == {"items", "title", "type"}


def test_description_of_the_api_has_arrays(app):
    schemas = app.openapi()["components"]["schemas"]

    for name, field in COLLECTIONS.items():
        if name in schemas:
            assert schemas[name]["properties"][field]["type"] == "array"
            assert field in schemas[name]["required"]


@pytest.mark.parametrize(
    ("path", "collection", "key", "expected"),
    [
        ("connections", "connections", "connection_id", ["conn_0", "conn_1"]),
        ("dags", "dags", "dag_id", ["dag_0", "dag_1"]),
        ("dags/dag_0/dagVersions", "dag_versions", "version_number", [1]),
        ("eventLogs", "event_logs", "event", ["event_0", "event_1"]),
        ("pools", "pools", "name", ["default_pool", "pool_0", "pool_1"]),
        ("variables", "variables", "key", ["key_0", "key_1"]),
    ],
)
def test_answers(app, path, collection, key, expected):
    response = ask(app, "GET", f"/api/v2/{path}")

    body = response.json()
    assert response.status_code == 200
    assert list(body)[:2] == [collection, "total_entries"]
    assert [row[key] for row in body[collection]] == expected
    assert body["total_entries"] == len(expected)


def test_tags_are_sorted(app):
    body = ask(app, "GET", "/api/v2/dags").json()

    assert [[tag["name"] for tag in dag["tags"]] for dag in body["dags"]] == [["a", "b"], ["a", "b"]]


def test_page_without_rows(app):
    body = ask(app, "GET", "/api/v2/dags?offset=5").json()

    assert body == {"dags": [], "total_entries": 2}


def test_clearing_a_dag_run_does_not_read_its_task_instances_for_the_answer(app):
    with create_session(scoped=False) as session:
        dag = session.scalar(select(SerializedDagModel).where(SerializedDagModel.dag_id == "dag_0")).dag
        version = session.scalar(select(DagVersion).where(DagVersion.dag_id == "dag_0"))
        run = dag.create_dagrun(
            run_id="run",
            logical_date=DAY,
            data_interval=(DAY, DAY),
            run_after=DAY,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.SUCCESS,
            session=session,
        )
        run.verify_integrity(dag_version_id=version.id, session=session)
        for task_instance in run.task_instances:
            task_instance.state = "success"
    statements: list[str] = []

    def listener(conn, cursor, statement, parameters, context, executemany):
        statements.append(statement)

    event.listen(settings.engine, "before_cursor_execute", listener)
    try:
        response = ask(app, "POST", "/api/v2/dags/dag_0/dagRuns/run/clear", json={"dry_run": False})
    finally:
        event.remove(settings.engine, "before_cursor_execute", listener)

    assert response.status_code == 200
    assert (response.json()["dag_run_id"], response.json()["state"]) == ("run", "queued")
    # From 3.4 clearing reads the notes too, before it writes.
    last_write = max(n for n, statement in enumerate(statements) if statement.startswith("UPDATE"))
    assert [what for what in statements[last_write:] if "FROM task_instance_note" in what] == []
