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

from datetime import datetime, timezone

import pytest
from sqlalchemy import delete, event, select

from airflow import settings
from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType

pytestmark = pytest.mark.db_test

BUNDLE = "failed-run-session"
DAY = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.fixture
def run():
    """Have a Dag run with two task instances that have not begun, and return its Dag."""

    def clean():
        with create_session(scoped=False) as session:
            for model in (DagRun, DagModel, DagBundleModel):
                session.execute(delete(model))

    clean()
    with DAG("dag", schedule=None, start_date=DAY) as dag:
        BaseOperator(task_id="one")
        BaseOperator(task_id="two")
    dag.fileloc, dag.relative_fileloc = "/dags/dag.py", "dag.py"
    with create_session(scoped=False) as session:
        session.add(DagBundleModel(name=BUNDLE))
    with create_session(scoped=False) as session:
        lazy_dag = LazyDeserializedDAG.from_dag(dag)
        update_dag_parsing_results_in_db(BUNDLE, None, [lazy_dag], {}, 1.0, set(), session)
    with create_session(scoped=False) as session:
        serialized = session.scalar(select(SerializedDagModel)).dag
        serialized.create_dagrun(
            run_id="run",
            logical_date=DAY,
            data_interval=(DAY, DAY),
            run_after=DAY,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state="running",
            session=session,
        )
    yield serialized
    clean()


def states() -> tuple[str, list[str | None]]:
    """Return the states of the Dag run and of its task instances, as others see them."""
    with create_session(scoped=False) as session:
        run = session.scalar(select(DagRun.state))
        return run, list(session.scalars(select(TaskInstance.state).order_by(TaskInstance.task_id)))


def test_takes_no_connection_but_that_of_the_session(run):
    taken = 0

    def checkout(*args):
        nonlocal taken
        taken += 1

    with create_session(scoped=False) as session:
        session.connection()
        event.listen(settings.engine, "checkout", checkout)
        try:
            set_dag_run_state_to_failed(dag=run, run_id="run", commit=True, session=session)
        finally:
            event.remove(settings.engine, "checkout", checkout)

    assert taken == 0


def test_what_is_rolled_back_leaves_nothing_skipped(run):
    with create_session(scoped=False) as session:
        set_dag_run_state_to_failed(dag=run, run_id="run", commit=True, session=session)
        session.rollback()

    assert states() == ("running", [None, None])


def test_skips_what_had_not_begun(run):
    with create_session(scoped=False) as session:
        set_dag_run_state_to_failed(dag=run, run_id="run", commit=True, session=session)

    assert states() == ("failed", ["skipped", "skipped"])


def test_commits_nothing_when_only_asked_what_it_would_do(run):
    with create_session(scoped=False) as session:
        set_dag_run_state_to_failed(dag=run, run_id="run", commit=False, session=session)

    assert states() == ("running", [None, None])
