"""The main writes of the public API, as flows that do not affect each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_auth_patches.demo.load import Request
from airflow_auth_patches.demo.openapi import Operation
from airflow_auth_patches.demo.preparation import SWEEP

API = "/api/v2"
RUN_PATH = "/dags/{dag_id}/dagRuns/{dag_run_id}"
TASK_PATH = f"{RUN_PATH}/taskInstances/{{task_id}}"
SUCCESS = (200, 201, 202, 204)


def write(
    method: str,
    route: str,
    json: Any = None,
    values: Mapping[str, str] | None = None,
    *,
    query: str = "",
    keep: Mapping[str, str] | None = None,
) -> Request:
    """
    Return a write request.

    :param method: the method.
    :param route: the template of the path, below ``/api/v2``.
    :param json: the body.
    :param values: the values of the path parameters; values of earlier responses stay in braces.
    :param query: the query.
    :param keep: see `Request.keep`.
    """
    path = route
    for name, value in (values or {}).items():
        path = path.replace(f"{{{name}}}", value)
    address = f"{API}{path}{query}"
    return Request(method, address, SUCCESS, json=json, route=f"{API}{route}", keep=keep or {})


def named(n: int) -> list[list[Request]]:
    """Create, change and remove pools, connections and variables, singly and in bulk."""
    name = f"made_{n}"
    pool = {"name": name, "slots": 2}
    more = {"pool": name, "slots": 3, "include_deferred": True}
    connection = {"connection_id": name, "conn_type": "http"}
    variable = {"key": name, "value": "1"}
    # The path, its parameter, and the bodies to create one, to change it, and to change it in bulk.
    kinds: list[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        ("/pools", "pool_name", pool, more, {**pool, "slots": 4, "include_deferred": False}),
        (
            *("/connections", "connection_id", connection),
            *({**connection, "host": "here"}, {**connection, "host": "there"}),
        ),
        ("/variables", "variable_key", variable, {**variable, "value": "2"}, {**variable, "value": "3"}),
    ]
    return [
        [
            write("POST", path, new),
            write("PATCH", f"{path}/{{{parameter}}}", changed, {parameter: name}),
            write("PATCH", path, _bulk("update", in_bulk)),
            write("DELETE", f"{path}/{{{parameter}}}", values={parameter: name}),
        ]
        for path, parameter, new, changed, in_bulk in kinds
    ]


def dags(n: int) -> list[Request]:
    """Pause, mark as favorite, reparse and remove Dags."""
    one = {"dag_id": f"small_09{n}"}
    return [
        write("PATCH", "/dags/{dag_id}", {"is_paused": False}, one),
        write("PATCH", "/dags", {"is_paused": True}, query=f"?dag_id_pattern=small_08{n}"),
        write("POST", "/dags/{dag_id}/favorite", values=one),
        write("POST", "/dags/{dag_id}/unfavorite", values=one),
        # All these Dags are in one file, and only one parse request for a file can be pending.
        *(
            [
                write("GET", "/dags/{dag_id}", values=one, keep={"file_token": "file_token"}),
                write("PUT", "/parseDagFile/{file_token}"),
            ]
            if n == 1
            else []
        ),
        write("DELETE", "/dags/{dag_id}", values=one),
    ]


def runs(n: int) -> list[Request]:
    """Trigger a Dag run; change, clear, list and remove it and its task instances."""
    name = f"made_{n}"
    run = {"dag_id": f"{SWEEP}_{n}", "dag_run_id": name}
    task = {**run, "task_id": "plain"}
    mapped = {**run, "task_id": "group.mapped", "map_index": "0"}
    xcom = {**task, "xcom_key": "made"}
    new = {"dag_run_id": name, "logical_date": None}
    note = {"note": "seen"}
    return [
        write("POST", "/dags/{dag_id}/dagRuns", new, run),
        write("PATCH", TASK_PATH, note, task),
        write("PATCH", f"{TASK_PATH}/dry_run", {"new_state": "success"}, task),
        write("PATCH", TASK_PATH, {"new_state": "success"}, task),
        write("PATCH", f"{TASK_PATH}/{{map_index}}", {"new_state": "failed"}, mapped),
        write(
            "PATCH",
            f"{RUN_PATH}/taskInstances",
            _bulk("update", {"task_id": "plain", "map_index": -1, "new_state": "success"}),
            run,
        ),
        write("POST", f"{TASK_PATH}/xcomEntries", {"key": "made", "value": 1}, task),
        write("PATCH", f"{TASK_PATH}/xcomEntries/{{xcom_key}}", {"value": 2}, xcom),
        write("DELETE", f"{TASK_PATH}/xcomEntries/{{xcom_key}}", values=xcom),
        write("PUT", f"{TASK_PATH}/state-store/{{key}}", {"value": 1}, {**task, "key": "made"}),
        write("PATCH", f"{TASK_PATH}/state-store/{{key}}", {"value": 2}, {**task, "key": "made"}),
        write("DELETE", f"{TASK_PATH}/state-store/{{key}}", values={**task, "key": "made"}),
        write("DELETE", f"{TASK_PATH}/state-store", values=task),
        write("POST", "/dags/{dag_id}/dagRuns/list", {"page_limit": 5}, {"dag_id": "~"}),
        write(
            "POST", f"{RUN_PATH}/taskInstances/list", {"page_limit": 5}, {"dag_id": "~", "dag_run_id": "~"}
        ),
        write(
            "POST",
            "/dags/{dag_id}/clearTaskInstances",
            {"dry_run": False, "dag_run_id": name, "only_failed": False},
            run,
        ),
        write("PATCH", RUN_PATH, {"state": "success", **note}, run),
        write("POST", f"{RUN_PATH}/clear", {"dry_run": False}, run),
        write("PATCH", RUN_PATH, {"state": "failed"}, run),
        write("DELETE", f"{TASK_PATH}", values=task, query="?map_index=-1"),
        write("DELETE", RUN_PATH, values=run),
    ]


def answers(n: int) -> list[Request]:
    """Answer the human-in-the-loop request of a task instance."""
    one = {"dag_id": f"{SWEEP}_{n}", "dag_run_id": "sweep_run", "task_id": "plain", "map_index": "-1"}
    return [write("PATCH", f"{TASK_PATH}/{{map_index}}/hitlDetails", {"chosen_options": ["yes"]}, one)]


def backfills(n: int) -> list[Request]:
    """Create, pause, unpause and cancel a backfill."""
    body = {
        "dag_id": f"{SWEEP}_{n}",
        "from_date": "2025-03-01T00:00:00Z",
        "to_date": "2025-03-03T00:00:00Z",
    }
    return [
        write("POST", "/backfills/dry_run", body),
        write("POST", "/backfills", body, keep={"backfill_id": "id"}),
        write("PUT", "/backfills/{backfill_id}/pause"),
        write("PUT", "/backfills/{backfill_id}/unpause"),
        write("PUT", "/backfills/{backfill_id}/cancel"),
    ]


def assets(n: int, asset_id: str) -> list[Request]:
    """Create asset events, delete queued events, and materialize an asset."""
    one = {"asset_id": asset_id}
    return [
        write("POST", "/assets/events", {"asset_id": int(asset_id), "extra": {"n": n}}),
        write("DELETE", "/assets/{asset_id}/queuedEvents", values=one),
        write("POST", "/assets/events", {"asset_id": int(asset_id)}),
        write("DELETE", "/dags/{dag_id}/assets/queuedEvents", values={"dag_id": f"{SWEEP}_started_{n}"}),
        write("POST", "/assets/{asset_id}/materialize", {}, one),
        write("PUT", "/assets/{asset_id}/state-store/{key}", {"value": n}, {**one, "key": f"made_{n}"}),
        write("DELETE", "/assets/{asset_id}/state-store/{key}", values={**one, "key": f"made_{n}"}),
    ]


def _bulk(action: str, entity: Mapping[str, Any]) -> dict[str, Any]:
    return {"actions": [{"action": action, "entities": [entity], "action_on_non_existence": "fail"}]}


def of_dag(n: int, asset_id: str) -> list[list[Request]]:
    """
    Return the flows for a Dag of the route sweep.

    :param n: the number of the Dag.
    :param asset_id: its asset.
    """
    return [*named(n), dags(n), runs(n), answers(n), backfills(n), assets(n, asset_id)]


def flows(found: Sequence[Operation], asset_ids: Sequence[str]) -> list[list[Request]]:
    """
    Return the flows for every Dag of the route sweep except the first, which is only read.

    :param found: the operations of the server; steps that it does not support are omitted.
    :param asset_ids: the asset of each Dag of the route sweep.
    """
    supported = {str(each) for each in found}
    return [
        [step for step in flow if str(step) in supported]
        for n, asset_id in list(enumerate(asset_ids))[1:]
        for flow in of_dag(n, asset_id)
    ]


def left_out(found: Sequence[Operation], done: Sequence[Sequence[Request]]) -> list[str]:
    """
    Return the write operations of a server that the flows do not cover.

    :param found: the operations of the server.
    :param done: the flows.
    """
    sent = {str(step) for flow in done for step in flow}
    return [str(each) for each in found if each.method != "GET" and str(each) not in sent]
