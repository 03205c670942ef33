"""
Puts into a database what only a scheduler, a worker or a Dag processor would, for the route sweep of the API.

This file is a program of its own, run by ``sweep.SeedData`` in the Airflow environment, on a
server's database.
Arguments: the run id that every Dag given after it has a run of.
"""

from __future__ import annotations

import importlib
import sys
from datetime import datetime, timezone
from typing import Any

TASK = "plain"
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def of(module: str, name: str) -> Any:
    """Return a class of Airflow."""
    return getattr(importlib.import_module(f"airflow.{module}"), name)


def create(session: Any, run_id: str, dag_ids: list[str]) -> None:
    """
    Let a task instance of each Dag have run, and ask a human; add a job, a warning and an import error.

    :param session: a session of the ORM.
    :param run_id: a run of each Dag.
    :param dag_ids: the Dags.
    """
    instance = of("models.taskinstance", "TaskInstance")
    job = of("jobs.job", "Job")
    worker = job(
        job_type="TriggererJob", dag_id=dag_ids[0], state="running", hostname="here", latest_heartbeat=NOW
    )
    trigger = of("models.trigger", "Trigger")(classpath="there.is.None", kwargs={})
    session.add_all([worker, trigger])
    session.flush()
    trigger.triggerer_id = worker.id
    for dag_id in dag_ids:
        ti = session.query(instance).filter_by(dag_id=dag_id, run_id=run_id, task_id=TASK).one()
        ti.task = None
        ti.try_number = 1
        ti.state = "failed"
        ti.start_date = ti.end_date = NOW
        of("models.taskinstancehistory", "TaskInstanceHistory").record_ti(ti, session=session)
        ti.try_number = 2
        ti.state = "success"
        ti.trigger_id = trigger.id
        session.flush()
        ask = {"options": ["yes", "no"], "subject": "Go on?", "body": "", "params": {}}
        session.add(of("models.hitl", "HITLDetail")(ti_id=ti.id, **ask))
        fields = of("models.renderedtifields", "RenderedTaskInstanceFields")
        session.add(fields(ti, render_templates=False, rendered_fields={"op_args": []}))
    kind = of("models.dagwarning", "DagWarningType")
    warning = of("models.dagwarning", "DagWarning")
    session.add(warning(dag_ids[0], kind.NONEXISTENT_POOL, "There is no such pool."))
    error = of("models.errors", "ParseImportError")
    session.add(
        error(bundle_name="dags-folder", filename="broken.py", stacktrace="no such name", timestamp=NOW)
    )


def main(run_id: str, dag_ids: list[str]) -> None:
    """
    Furnish the database that Airflow's configuration names.

    :param run_id: a run of each Dag.
    :param dag_ids: the Dags.
    """
    with of("utils.session", "create_session")() as session:
        create(session, run_id, dag_ids)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
