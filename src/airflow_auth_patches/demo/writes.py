"""The main writes of the public API, in flows that leave nothing behind that others stumble over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_auth_patches.demo.flows import Step
from airflow_auth_patches.demo.openapi import Operation
from airflow_auth_patches.demo.preparation import SWEEP

API = "/api/v2"
RUN_PATH = "/dags/{dag_id}/dagRuns/{dag_run_id}"
TASK_PATH = f"{RUN_PATH}/taskInstances/{{task_id}}"
WELL = (200, 201, 202, 204)


@dataclass(frozen=True)
class Write:
    """
    A write, by its route.

    :param method: the method.
    :param route: the template of its path, below ``/api/v2``.
    :param json: the body.
    :param values: what its parameters are; what an earlier answer told is left in braces.
    :param query: its query.
    :param keep: as a step's.
    """

    method: str
    route: str
    json: Any = None
    values: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    keep: Mapping[str, str] = field(default_factory=dict)

    def step(self) -> Step:
        """Give it as a step of a flow."""
        path = self.route
        for name, value in self.values.items():
            path = path.replace(f"{{{name}}}", value)
        return Step(
            self.method, f"{API}{self.route}", f"{API}{path}{self.query}", WELL, self.json, keep=self.keep
        )


def pools(n: int) -> list[Write]:
    """Make, change and remove pools, one by one and in bulk."""
    name = f"made_{n}"
    one = {"pool_name": name}
    entity = {"name": name, "slots": 2}
    return [
        Write("POST", "/pools", entity),
        Write("PATCH", "/pools/{pool_name}", {"pool": name, "slots": 3, "include_deferred": True}, one),
        Write("PATCH", "/pools", _bulk("update", {**entity, "slots": 4, "include_deferred": False})),
        Write("DELETE", "/pools/{pool_name}", values=one),
    ]


def connections(n: int) -> list[Write]:
    """Make, change and remove connections, one by one and in bulk."""
    name = f"made_{n}"
    one = {"connection_id": name}
    entity = {"connection_id": name, "conn_type": "http"}
    return [
        Write("POST", "/connections", entity),
        Write("PATCH", "/connections/{connection_id}", {**entity, "host": "here"}, one),
        Write("PATCH", "/connections", _bulk("update", {**entity, "host": "there"})),
        Write("DELETE", "/connections/{connection_id}", values=one),
    ]


def variables(n: int) -> list[Write]:
    """Make, change and remove variables, one by one and in bulk."""
    name = f"made_{n}"
    one = {"variable_key": name}
    entity = {"key": name, "value": "1"}
    return [
        Write("POST", "/variables", entity),
        Write("PATCH", "/variables/{variable_key}", {**entity, "value": "2"}, one),
        Write("PATCH", "/variables", _bulk("update", {**entity, "value": "3"})),
        Write("DELETE", "/variables/{variable_key}", values=one),
    ]


def dags(n: int) -> list[Write]:
    """Pause a Dag and the like, and remove it."""
    one = {"dag_id": f"small_09{n}"}
    return [
        Write("PATCH", "/dags/{dag_id}", {"is_paused": False}, one),
        Write("PATCH", "/dags", {"is_paused": True}, query=f"?dag_id_pattern=small_08{n}"),
        Write("POST", "/dags/{dag_id}/favorite", values=one),
        Write("POST", "/dags/{dag_id}/unfavorite", values=one),
        # All these Dags are in one file, and one request to parse it may wait at a time.
        *(
            [
                Write("GET", "/dags/{dag_id}", values=one, keep={"file_token": "file_token"}),
                Write("PUT", "/parseDagFile/{file_token}"),
            ]
            if n == 1
            else []
        ),
        Write("DELETE", "/dags/{dag_id}", values=one),
    ]


def runs(n: int) -> list[Write]:
    """Trigger a Dag run, change, clear and list it and its task instances, and remove them."""
    name = f"made_{n}"
    run = {"dag_id": f"{SWEEP}_{n}", "dag_run_id": name}
    task = {**run, "task_id": "plain"}
    mapped = {**run, "task_id": "group.mapped", "map_index": "0"}
    xcom = {**task, "xcom_key": "made"}
    new = {"dag_run_id": name, "logical_date": None}
    note = {"note": "seen"}
    return [
        Write("POST", "/dags/{dag_id}/dagRuns", new, run),
        Write("PATCH", TASK_PATH, note, task),
        Write("PATCH", f"{TASK_PATH}/dry_run", {"new_state": "success"}, task),
        Write("PATCH", TASK_PATH, {"new_state": "success"}, task),
        Write("PATCH", f"{TASK_PATH}/{{map_index}}", {"new_state": "failed"}, mapped),
        Write(
            "PATCH",
            f"{RUN_PATH}/taskInstances",
            _bulk("update", {"task_id": "plain", "map_index": -1, "new_state": "success"}),
            run,
        ),
        Write("POST", f"{TASK_PATH}/xcomEntries", {"key": "made", "value": 1}, task),
        Write("PATCH", f"{TASK_PATH}/xcomEntries/{{xcom_key}}", {"value": 2}, xcom),
        Write("DELETE", f"{TASK_PATH}/xcomEntries/{{xcom_key}}", values=xcom),
        Write("PUT", f"{TASK_PATH}/state-store/{{key}}", {"value": 1}, {**task, "key": "made"}),
        Write("PATCH", f"{TASK_PATH}/state-store/{{key}}", {"value": 2}, {**task, "key": "made"}),
        Write("DELETE", f"{TASK_PATH}/state-store/{{key}}", values={**task, "key": "made"}),
        Write("DELETE", f"{TASK_PATH}/state-store", values=task),
        Write("POST", "/dags/{dag_id}/dagRuns/list", {"page_limit": 5}, {"dag_id": "~"}),
        Write(
            "POST", f"{RUN_PATH}/taskInstances/list", {"page_limit": 5}, {"dag_id": "~", "dag_run_id": "~"}
        ),
        Write(
            "POST",
            "/dags/{dag_id}/clearTaskInstances",
            {"dry_run": False, "dag_run_id": name, "only_failed": False},
            run,
        ),
        Write("PATCH", RUN_PATH, {"state": "success", **note}, run),
        Write("POST", f"{RUN_PATH}/clear", {"dry_run": False}, run),
        Write("PATCH", RUN_PATH, {"state": "failed"}, run),
        Write("DELETE", f"{TASK_PATH}", values=task, query="?map_index=-1"),
        Write("DELETE", RUN_PATH, values=run),
    ]


def answers(n: int) -> list[Write]:
    """Answer what a task instance asks a human."""
    one = {"dag_id": f"{SWEEP}_{n}", "dag_run_id": "sweep_run", "task_id": "plain", "map_index": "-1"}
    return [Write("PATCH", f"{TASK_PATH}/{{map_index}}/hitlDetails", {"chosen_options": ["yes"]}, one)]


def backfills(n: int) -> list[Write]:
    """Make a backfill, pause it, let it go on and cancel it."""
    body = {
        "dag_id": f"{SWEEP}_{n}",
        "from_date": "2025-03-01T00:00:00Z",
        "to_date": "2025-03-03T00:00:00Z",
    }
    return [
        Write("POST", "/backfills/dry_run", body),
        Write("POST", "/backfills", body, keep={"backfill_id": "id"}),
        Write("PUT", "/backfills/{backfill_id}/pause"),
        Write("PUT", "/backfills/{backfill_id}/unpause"),
        Write("PUT", "/backfills/{backfill_id}/cancel"),
    ]


def assets(n: int, asset_id: str) -> list[Write]:
    """Tell of an asset, and take back what waits for it; materialize it."""
    one = {"asset_id": asset_id}
    return [
        Write("POST", "/assets/events", {"asset_id": int(asset_id), "extra": {"n": n}}),
        Write("DELETE", "/assets/{asset_id}/queuedEvents", values=one),
        Write("POST", "/assets/events", {"asset_id": int(asset_id)}),
        Write("DELETE", "/dags/{dag_id}/assets/queuedEvents", values={"dag_id": f"{SWEEP}_started_{n}"}),
        Write("POST", "/assets/{asset_id}/materialize", {}, one),
        Write("PUT", "/assets/{asset_id}/state-store/{key}", {"value": n}, {**one, "key": f"made_{n}"}),
        Write("DELETE", "/assets/{asset_id}/state-store/{key}", values={**one, "key": f"made_{n}"}),
    ]


def _bulk(action: str, entity: Mapping[str, Any]) -> dict[str, Any]:
    return {"actions": [{"action": action, "entities": [entity], "action_on_non_existence": "fail"}]}


def flows(found: Sequence[Operation], asset_ids: Sequence[str]) -> list[list[Step]]:
    """
    Give the flows, each for every Dag of the route sweep but the first, which is only looked at.

    :param found: what the server can be asked; what it cannot be is left out.
    :param asset_ids: the asset of each Dag of the route sweep.
    """
    there = {str(each) for each in found}
    all_writes = [
        writes
        for n, asset_id in list(enumerate(asset_ids))[1:]
        for writes in (
            pools(n),
            connections(n),
            variables(n),
            dags(n),
            runs(n),
            answers(n),
            backfills(n),
            assets(n, asset_id),
        )
    ]
    return [
        [step for write in writes for step in (write.step(),) if str(step) in there] for writes in all_writes
    ]


def left_out(found: Sequence[Operation], done: Sequence[Sequence[Step]]) -> list[str]:
    """
    Name the writes of a server that the flows leave out.

    :param found: what the server can be asked.
    :param done: the flows.
    """
    sent = {str(step) for flow in done for step in flow}
    return [str(each) for each in found if each.method != "GET" and str(each) not in sent]
