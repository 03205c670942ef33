"""
Mark the task instances of a run as running, as the task execution API does when a worker starts them.

``tasks.start`` runs this file as a separate program in the Airflow environment, on a server's database.
Arguments: the run id, the host name and the process id of the worker.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone

from sqlalchemy import MetaData, create_engine


def main(run_id: str, hostname: str, pid: int) -> None:
    """
    Mark the task instances as running.

    :param run_id: the run id, in any Dag.
    :param hostname: the host name of the worker.
    :param pid: the process id of the worker.
    """
    engine = create_engine(os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    meta = MetaData()
    meta.reflect(engine, only=["task_instance"])
    table = meta.tables["task_instance"]
    values = {
        "state": "running",
        "hostname": hostname,
        "pid": pid,
        "try_number": 1,
        "start_date": datetime.now(timezone.utc),
    }
    with engine.begin() as connection:
        connection.execute(table.update().where(table.c.run_id == run_id).values(values))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
