"""Create running tasks and their heartbeat requests to the task execution API."""

from __future__ import annotations

from pathlib import Path

import httpx

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.pages import SEE_LOG
from airflow_auth_patches.demo.server import Server
from airflow_auth_patches.util.errors import Exit, Problem

PROGRAM = Path(__file__).with_name("run_tasks.py")
RUN = "running"
HOST, PID = "worker", 1
AUDIENCE = "urn:airflow.apache.org:task"


def start(server: Server, count: int) -> list[Request]:
    """
    Create running tasks, and return the heartbeat request of each.

    :param server: a server on which no tasks were started yet.
    :param count: the number of tasks, each of a different Dag; at most the number of Dags in the seed data.
    :raises Problem: when the server does not create a Dag run.
    """
    token = server.token()
    headers = {"Authorization": f"Bearer {token}"}
    ids = []
    with httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False) as client:
        for number in range(count):
            runs = f"/api/v2/dags/small_{number:03}/dagRuns"
            made = client.post(runs, json={"dag_run_id": RUN, "logical_date": None})
            if made.status_code != 200:
                raise Problem(f"POST {runs} returned {made.status_code}: {made.text}", SEE_LOG, Exit.FAILED)
            found = client.get(f"{runs}/{RUN}/taskInstances").json()["task_instances"]
            ids.append(found[0]["id"])
    server.run(PROGRAM, RUN, HOST, str(PID))
    return [
        Request(
            "PUT",
            f"/execution/task-instances/{each}/heartbeat",
            expect=204,
            token=server.sign({"sub": each, "aud": AUDIENCE, "scope": "execution"}, token),
            json={"hostname": HOST, "pid": PID},
        )
        for each in ids
    ]
