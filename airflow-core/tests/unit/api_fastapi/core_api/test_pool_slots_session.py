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
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cache, partial
from types import SimpleNamespace

import httpx
import pytest
from sqlalchemy import delete, event, select

from airflow import settings
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.datamodels.pools import PoolResponse
from airflow.api_fastapi.core_api.security import get_user
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

BUNDLE = "pool-slots"
DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)
SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
# One task instance in each, two slots each.
STATES = ["deferred", "queued", "running", "scheduled", "success"]
SLOTS = {
    "slots": 20,
    "occupied_slots": 4,
    "running_slots": 2,
    "queued_slots": 2,
    "scheduled_slots": 2,
    "open_slots": 16,
    "deferred_slots": 2,
}
EMPTY = {name: 0 for name in SLOTS} | {"slots": 7, "open_slots": 7}


@pytest.fixture
def rows():
    """Have a pool with task instances in it, and one without."""

    def clean():
        with create_session(scoped=False) as session:
            for model in (DagRun, DagModel, DagBundleModel):
                session.execute(delete(model))
            session.execute(delete(Pool).where(Pool.pool != Pool.DEFAULT_POOL_NAME))

    clean()
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name=BUNDLE))
        session.add(Pool(pool="full", slots=20, description="", include_deferred=False))
        session.add(Pool(pool="empty", slots=7, description="", include_deferred=True))
    with DAG("dag", schedule=None, start_date=DAY) as dag:
        for state in STATES:
            BaseOperator(task_id=state, pool="full", pool_slots=2)
    dag.fileloc, dag.relative_fileloc = "/dags/dag.py", "dag.py"
    with create_session(scoped=False) as session:
        lazy_dag = LazyDeserializedDAG.from_dag(dag)
        update_dag_parsing_results_in_db(BUNDLE, None, [lazy_dag], {}, 1.0, set(), session)
    with create_session(scoped=False) as session:
        run = session.scalar(select(SerializedDagModel)).dag.create_dagrun(
            run_id="run",
            logical_date=DAY,
            data_interval=(DAY, DAY),
            run_after=DAY,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
        run.verify_integrity(dag_version_id=session.scalar(select(DagVersion.id)), session=session)
        for task_instance in run.task_instances:
            task_instance.state = task_instance.task_id
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


def ask(app, method: str, path: str, **kw) -> httpx.Response:
    async def answer():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, f"/api/v2/{path}", **kw)

    return asyncio.run(answer())


@contextmanager
def counted_connections():
    """Collect how many connections are out each time that one is taken."""
    out = set()
    counts = []

    def taken(connection, record, proxy) -> None:
        out.add(record)
        counts.append(len(out))

    def given_back(connection, record) -> None:
        out.discard(record)

    listeners = [("checkout", taken), ("checkin", given_back)]
    for listener in listeners:
        event.listen(settings.engine, *listener)
    try:
        yield counts
        assert not out
    finally:
        for listener in listeners:
            event.remove(settings.engine, *listener)


def slots_of(pool) -> dict[str, int] | Exception:
    try:
        response = PoolResponse.model_validate(pool)
    except Exception as error:
        return error
    return {name: getattr(response, name) for name in SLOTS}


def numbers(body: dict) -> dict[str, int]:
    return {name: body[name] for name in SLOTS}


@pytest.mark.parametrize(
    ("method", "path", "kw"),
    [
        pytest.param("GET", "pools", {}, id="list"),
        pytest.param("GET", "pools/full", {}, id="get"),
        pytest.param(
            "PATCH",
            "pools/full?update_mask=slots",
            {"json": {"pool": "full", "slots": 5, "include_deferred": False}},
            id="patch",
        ),
        pytest.param("POST", "pools", {"json": {"name": "new", "slots": 2}}, id="post"),
    ],
)
def test_request_needs_one_connection(app, method, path, kw):
    with counted_connections() as counts:
        response = ask(app, method, path, **kw)

    assert response.is_success
    assert max(counts) == 1


def test_list_takes_no_connection_for_each_sum(app):
    ask(app, "GET", "pools")

    with counted_connections() as for_one_pool:
        ask(app, "GET", "pools?pool_name_pattern=empty")
    with counted_connections() as for_all:
        ask(app, "GET", "pools")

    assert len(for_all) == len(for_one_pool)


def test_answer_of_the_list(app):
    body = ask(app, "GET", "pools").json()

    pools = {pool["name"]: numbers(pool) for pool in body["pools"]}
    assert (pools["full"], pools["empty"]) == (SLOTS, EMPTY)


def test_changes_are_in_the_answer_and_in_the_database(app):
    change = {"pool": "full", "slots": 30, "description": "", "include_deferred": True}
    body = ask(app, "PATCH", "pools/full", json=change).json()

    assert numbers(body) == SLOTS | {"slots": 30, "occupied_slots": 6, "open_slots": 24}
    assert numbers(ask(app, "GET", "pools/full").json()) == numbers(body)


def test_response_counts_what_its_session_has_not_committed(rows):
    with create_session(scoped=False) as session:
        pool = session.scalar(select(Pool).where(Pool.pool == "full"))
        for task_instance in session.scalar(select(DagRun)).task_instances:
            task_instance.state = "success"
        session.flush()

        slots = slots_of(pool)
        session.rollback()

    assert slots == EMPTY | {"slots": 20, "open_slots": 20}


def test_pool_without_a_session_counts_in_one_of_its_own(rows):
    with create_session(scoped=False) as session:
        pool = session.scalar(select(Pool).where(Pool.pool == "full"))
        session.expunge(pool)

    assert slots_of(pool) == SLOTS


class AnyPool(SimpleNamespace):
    def count(self) -> int:
        return 1


@pytest.mark.parametrize(
    "function", [AnyPool().count, lambda: 1, partial(int, 1)], ids=["method", "function", "partial"]
)
def test_pool_need_not_be_a_row(function):
    counts = dict.fromkeys(set(SLOTS) - {"slots"}, function)
    pool = AnyPool(pool="any", slots=3, description=None, include_deferred=False, team_name=None, **counts)

    assert slots_of(pool) == dict.fromkeys(SLOTS, 1) | {"slots": 3}
