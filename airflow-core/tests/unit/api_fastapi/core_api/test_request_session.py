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
from functools import cache

import httpx
import pytest
from sqlalchemy import delete, event, select

from airflow import settings
from airflow._shared.timezones import timezone
from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api import security
from airflow.api_fastapi.core_api.routes.public import backfills, dag_sources
from airflow.api_fastapi.core_api.security import get_user
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.backfill import Backfill, BackfillDagRun
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.errors import ParseImportError
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

BUNDLE = "request-session"
DAY = timezone.datetime(2026, 1, 1)
SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
BACKFILL = {
    "dag_id": "daily",
    "from_date": "2026-01-01T00:00:00Z",
    "to_date": "2026-01-02T00:00:00Z",
}
IMPORT_ERROR = "/api/v2/importErrors/{import_error}"
REQUESTS = [
    pytest.param("GET", IMPORT_ERROR, None, id="import-error"),
    pytest.param("GET", "/ui/grid/structure/daily", None, id="grid-structure"),
    pytest.param("GET", "/ui/grid/runs/daily", None, id="grid-runs"),
]
# Some releases ask nothing of another session here.
if hasattr(dag_sources, "get_auth_manager"):
    REQUESTS.append(pytest.param("GET", "/api/v2/dagSources/daily", None, id="dag-source"))
if hasattr(backfills, "resolve_run_on_latest_version"):
    REQUESTS.append(pytest.param("POST", "/api/v2/backfills", BACKFILL, id="backfill"))
if hasattr(security, "readable_dag_bundles_filter_factory"):
    REQUESTS.append(pytest.param("GET", "/api/v2/dagBundles", None, id="dag-bundles"))


@pytest.fixture
def rows():
    """Have a Dag with a run, and an import error of its file."""

    def clean():
        with create_session(scoped=False) as session:
            for model in (BackfillDagRun, DagRun, Backfill, DagModel, ParseImportError, DagBundleModel):
                session.execute(delete(model))

    clean()
    with DAG("daily", schedule="@daily", start_date=DAY, catchup=False) as dag:
        BaseOperator(task_id="task")
    dag.fileloc = dag.relative_fileloc = __file__  # core 3.1.6 knows an import error's Dags by the first
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name=BUNDLE))
    with create_session(scoped=False) as session:
        lazy_dag = LazyDeserializedDAG.from_dag(dag)
        update_dag_parsing_results_in_db(BUNDLE, None, [lazy_dag], {}, 1.0, set(), session)
    with create_session(scoped=False) as session:
        session.scalar(select(SerializedDagModel)).dag.create_dagrun(
            run_id="run",
            logical_date=DAY,
            data_interval=(DAY, DAY),
            run_after=DAY,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.SUCCESS,
            session=session,
        )
        error = ParseImportError(timestamp=DAY, filename=__file__, bundle_name=BUNDLE, stacktrace="why")
        session.add(error)
        session.flush()
        error_id = error.id
    yield error_id
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


def ask(app, method: str, path: str, json=None) -> httpx.Response:
    async def answer():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path, json=json, headers={"accept": "application/json"})

    return asyncio.run(answer())


@pytest.fixture
def few_dags(app, monkeypatch):
    """Let the user read a Dag that is named, and not all Dags."""
    is_authorized_dag = get_auth_manager().is_authorized_dag

    def if_named(*, details=None, **kw):
        return details is not None and is_authorized_dag(details=details, **kw)

    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", if_named)


@contextmanager
def most_connections():
    """Yield a list that ends with the most connections of the pool that were out at a time."""
    out, most = 0, [0]

    def checkout(*args):
        nonlocal out
        out += 1
        most.append(max(out, most[-1]))

    def checkin(*args):
        nonlocal out
        out -= 1

    event.listen(settings.engine, "checkout", checkout)
    event.listen(settings.engine, "checkin", checkin)
    try:
        yield most
        most.append(most[-1] + out)  # what is still out counts twice
    finally:
        event.remove(settings.engine, "checkout", checkout)
        event.remove(settings.engine, "checkin", checkin)


@pytest.mark.parametrize(("method", "path", "json"), REQUESTS)
def test_request_needs_one_connection(app, rows, method, path, json):
    with most_connections() as most:
        response = ask(app, method, path.format(import_error=rows), json)

    assert response.status_code == 200
    assert most[-1] == 1


def test_import_error_needs_one_connection_for_who_reads_few_dags(app, rows, few_dags):
    with most_connections() as most:
        response = ask(app, "GET", IMPORT_ERROR.format(import_error=rows))

    assert (response.status_code, response.json()["stack_trace"]) == (200, "why")
    assert most[-1] == 1


def test_import_error_is_refused_to_who_reads_none_of_its_dags(app, rows, monkeypatch):
    monkeypatch.setattr(get_auth_manager(), "is_authorized_dag", lambda **kw: False)

    assert ask(app, "GET", IMPORT_ERROR.format(import_error=rows)).status_code == 403


def test_answer_of_an_import_error(app, rows):
    body = ask(app, "GET", f"/api/v2/importErrors/{rows}").json()

    assert (body["filename"], body["stack_trace"]) == (__file__, "why")


def test_import_error_that_is_not_there(app, rows):
    assert ask(app, "GET", f"/api/v2/importErrors/{rows + 1}").status_code == 404


def test_answer_of_the_grid_structure(app):
    assert [node["id"] for node in ask(app, "GET", "/ui/grid/structure/daily").json()] == ["task"]


def test_answer_of_a_dag_source(app):
    assert "test_answer_of_a_dag_source" in ask(app, "GET", "/api/v2/dagSources/daily").json()["content"]


def test_answer_of_a_backfill(app):
    body = ask(app, "POST", "/api/v2/backfills", BACKFILL).json()

    assert (body["dag_id"], body["dag_display_name"], body["is_paused"]) == ("daily", "daily", False)
    assert ask(app, "GET", f"/api/v2/backfills/{body['id']}").json()["id"] == body["id"]


def test_second_backfill_conflicts(app):
    ask(app, "POST", "/api/v2/backfills", BACKFILL)

    assert ask(app, "POST", "/api/v2/backfills", BACKFILL).status_code == 409
