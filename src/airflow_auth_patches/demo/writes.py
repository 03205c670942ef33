"""The main writes of the public API, as flows that do not affect each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.openapi import Operation
from airflow_auth_patches.demo.preparation import SWEEP

API = "/api/v2"
RUN_PATH = "/dags/{dag_id}/dagRuns/{dag_run_id}"
TASK_PATH = f"{RUN_PATH}/taskInstances/{{task_id}}"
SUCCESS = (200, 201, 202, 204)


@dataclass(frozen=True)
class Write:
    """
    A write request.

    :param method: the method.
    :param route: the template of the path, below ``/api/v2``.
    :param json: the body.
    :param values: the values of the path parameters; values of earlier responses stay in braces.
    :param query: the query.
    :param keep: see `Request.keep`.
    """

    method: str
    route: str
    json: Any = None
    values: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    keep: Mapping[str, str] = field(default_factory=dict)

    def step(self) -> Request:
        """Return the write as a step of a flow."""
        path = self.route
        for name, value in self.values.items():
            path = path.replace(f"{{{name}}}", value)
        address = f"{API}{path}{self.query}"
        route = f"{API}{self.route}"
        return Request(self.method, address, SUCCESS, json=self.json, route=route, keep=self.keep)


def pools(n: int) -> list[Write]:
    """Create, change and remove pools, singly and in bulk."""
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
    """Create, change and remove connections, singly and in bulk."""
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
    """Create, change and remove variables, singly and in bulk."""
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
    """Pause, mark as favorite, reparse and remove Dags."""
    one = {"dag_id": f"small_09{n}"}
    return [
        Write("PATCH", "/dags/{dag_id}", {"is_paused": False}, one),
        Write("PATCH", "/dags", {"is_paused": True}, query=f"?dag_id_pattern=small_08{n}"),
        Write("POST", "/dags/{dag_id}/favorite", values=one),
        Write("POST", "/dags/{dag_id}/unfavorite", values=one),
        # All these Dags are in one file, and only one parse request for a file can be pending.
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
    """Trigger a Dag run; change, clear, list and remove it and its task instances."""
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
    """Answer the human-in-the-loop request of a task instance."""
    one = {"dag_id": f"{SWEEP}_{n}", "dag_run_id": "sweep_run", "task_id": "plain", "map_index": "-1"}
    return [Write("PATCH", f"{TASK_PATH}/{{map_index}}/hitlDetails", {"chosen_options": ["yes"]}, one)]


def backfills(n: int) -> list[Write]:
    """Create, pause, unpause and cancel a backfill."""
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
    """Create asset events, delete queued events, and materialize an asset."""
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


def flows(found: Sequence[Operation], asset_ids: Sequence[str]) -> list[list[Request]]:
    """
    Return the flows for every Dag of the route sweep except the first, which is only read.

    :param found: the operations of the server; steps that it does not support are omitted.
    :param asset_ids: the asset of each Dag of the route sweep.
    """
    supported = {str(each) for each in found}
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
        [step for write in writes for step in (write.step(),) if str(step) in supported]
        for writes in all_writes
    ]


def left_out(found: Sequence[Operation], done: Sequence[Sequence[Request]]) -> list[str]:
    """
    Return the write operations of a server that the flows do not cover.

    :param found: the operations of the server.
    :param done: the flows.
    """
    sent = {str(step) for flow in done for step in flow}
    return [str(each) for each in found if each.method != "GET" and str(each) not in sent]
