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
from functools import cache

import httpx
import pytest
from sqlalchemy import delete, event, select

from airflow import settings
from airflow._shared.timezones import timezone
from airflow.api_fastapi.app import create_app, purge_cached_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.tasklog import LogTemplate
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.log.file_task_handler import FileTaskHandler
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from tests_common.test_utils.config import conf_vars

pytestmark = pytest.mark.db_test

BUNDLE = "log-template"
DAY = timezone.datetime(2026, 1, 1)
SIMPLE_AUTH_MANAGER = "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
LOG = "/api/v2/dags/dag/dagRuns/run/taskInstances/task/logs/1"


@pytest.fixture
def rows():
    """Have a task instance whose Dag run has a log template of its own."""

    def clean():
        with create_session(scoped=False) as session:
            for model in (DagRun, DagModel, DagBundleModel):
                session.execute(delete(model))
            session.execute(delete(LogTemplate).where(LogTemplate.elasticsearch_id == BUNDLE))

    clean()
    with DAG("dag", schedule=None, start_date=DAY) as dag:
        BaseOperator(task_id="task")
    dag.fileloc, dag.relative_fileloc = "/dags/dag.py", "dag.py"
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name=BUNDLE))
        session.add(LogTemplate(filename="{{ ti.task_id }}-{{ try_number }}.log", elasticsearch_id=BUNDLE))
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
            state=DagRunState.SUCCESS,
            session=session,
        )
        run.verify_integrity(dag_version_id=session.scalar(select(DagVersion.id)), session=session)
        run.log_template_id = session.scalar(
            select(LogTemplate.id).where(LogTemplate.elasticsearch_id == BUNDLE)
        )
        for task_instance in run.task_instances:
            task_instance.state, task_instance.try_number = "success", 1
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


@pytest.fixture
def handler(tmp_path):
    handler = FileTaskHandler(base_log_folder=str(tmp_path))
    yield handler
    handler.close()


@pytest.fixture
def taken():
    """Collect for each connection that is taken how many are then out."""
    out, taken = 0, []

    def checkout(*args):
        nonlocal out
        out += 1
        taken.append(out)

    def checkin(*args):
        nonlocal out
        out -= 1

    event.listen(settings.engine, "checkout", checkout)
    event.listen(settings.engine, "checkin", checkin)
    yield taken
    event.remove(settings.engine, "checkout", checkout)
    event.remove(settings.engine, "checkin", checkin)


def ask(app, path: str, accept: str) -> httpx.Response:
    async def answer():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.get(path, headers={"accept": accept})

    return asyncio.run(answer())


def name_of(handler, task_instance) -> str | Exception:
    try:
        return handler._render_filename(task_instance, 3)
    except Exception as error:
        return error


def test_request_needs_one_connection(app, rows, taken):
    taken.clear()

    response = ask(app, LOG, "application/json")

    assert response.status_code == 200
    assert max(taken) == 1


def test_name_is_made_in_the_session_of_the_dag_run(handler, rows, taken):
    with create_session(scoped=False) as session:
        run = session.scalar(select(DagRun))
        [task_instance] = run.task_instances
        assert task_instance.dag_run is run
        before = len(taken)

        name = name_of(handler, task_instance)

        assert (name, len(taken)) == ("task-3.log", before)


def test_dag_run_without_a_session(handler, rows):
    with create_session(scoped=False) as session:
        run = session.scalar(select(DagRun))
        [task_instance] = run.task_instances
        assert task_instance.dag_run is run
        session.expunge_all()

    assert name_of(handler, task_instance) == "task-3.log"


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_answer(app, accept):
    response = ask(app, LOG, accept)

    assert response.status_code == 200
    assert response.headers["content-type"] == accept
    assert "event" in response.text
