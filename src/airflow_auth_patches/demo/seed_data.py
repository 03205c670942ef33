"""
Insert the seed data that only a scheduler, a worker or a Dag processor creates, for the route sweep.

``sweep.SeedData`` runs this file as a separate program in the Airflow environment, on a server's database.
Arguments: a run id, and the Dags that have a run with this id.
"""

from __future__ import annotations

import importlib
import sys
from datetime import datetime, timezone
from typing import Any

TASK = "plain"
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def of(module: str, name: str) -> Any:
    """Return a class or function of Airflow."""
    return getattr(importlib.import_module(f"airflow.{module}"), name)


def create(session: Any, run_id: str, dag_ids: list[str]) -> None:
    """
    Insert a finished task instance for each Dag, a job, a warning and an import error.

    Each task instance has a human-in-the-loop request.

    :param session: an ORM session.
    :param run_id: the run id; each Dag has a run with it.
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
        if hasattr(instance, "working_set"):  # from 3.4, each try has a row of its own
            ti = ti.prepare_db_for_next_try(session)
        else:
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
    Insert the seed data into the database of Airflow's configuration.

    :param run_id: the run id; each Dag has a run with it.
    :param dag_ids: the Dags.
    """
    with of("utils.session", "create_session")() as session:
        create(session, run_id, dag_ids)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
