"""Create running tasks and their heartbeat requests to the task execution API."""

from __future__ import annotations

from pathlib import Path

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.pages import ask
from airflow_auth_patches.demo.server import Server

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
    for number in range(count):
        runs = f"{server.url}/api/v2/dags/small_{number:03}/dagRuns"
        ask("POST", runs, {"dag_run_id": RUN, "logical_date": None}, headers)
        found = ask("GET", f"{runs}/{RUN}/taskInstances", headers=headers)["task_instances"]
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
