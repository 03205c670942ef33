"""The route sweep of the API, without a server."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from airflow_auth_patches.demo import loop, sweep, writes
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.openapi import Operation
from airflow_auth_patches.demo.preparation import PROBES, SWEEP_FILE
from airflow_auth_patches.demo.scenarios import route_sweep
from airflow_auth_patches.util.errors import Problem

VALUES = {"dag_id": "sweep_0", "asset_id": "1", "task_id": "plain"}


def get(path: str) -> Operation:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return Operation("GET", f"/api/v2{path}", tuple(("path", name) for name in names))


def test_requests_every_get_route() -> None:
    steps = sweep.get_steps([get("/dags"), Operation("POST", "/api/v2/dags"), get("/dags/{dag_id}")], VALUES)
    assert [(step.method, step.path) for step in steps] == [
        ("GET", "/api/v2/dags"),
        ("GET", "/api/v2/dags/sweep_0"),
    ]


def test_unknown_parameter_of_get_route_raises_problem() -> None:
    with pytest.raises(
        Problem, match=r"has no value for the path parameter new_id of GET /api/v2/new/\{new_id\}"
    ):
        sweep.get_steps([get("/dags"), get("/new/{new_id}")], VALUES)


def test_ignores_unknown_parameters_of_writes() -> None:
    assert sweep.get_steps([Operation("POST", "/api/v2/new/{new_id}", (("path", "new_id"),))], VALUES) == []


def test_some_routes_use_other_parameter_values() -> None:
    (queued,) = sweep.get_steps([get("/dags/{dag_id}/assets/{asset_id}/queuedEvents")], VALUES)
    assert queued.path == "/api/v2/dags/sweep_started_0/assets/1/queuedEvents"


def test_some_routes_expect_other_status() -> None:
    login, dags = sweep.get_steps([get("/auth/login"), get("/dags")], VALUES)
    assert (login.expect, dags.expect) == (307, 200)


def test_omits_writes_that_server_does_not_support() -> None:
    found = [Operation("POST", "/api/v2/pools"), Operation("DELETE", "/api/v2/pools/{pool_name}")]
    sent = [flow for flow in writes.flows(found, ["1", "2", "3"]) if flow]
    assert [[f"{step.method} {step.path}" for step in flow] for flow in sent] == [
        ["POST /api/v2/pools", "DELETE /api/v2/pools/made_1"],
        ["POST /api/v2/pools", "DELETE /api/v2/pools/made_2"],
    ]


def test_lists_writes_that_flows_do_not_cover() -> None:
    pools, other = Operation("POST", "/api/v2/pools"), Operation("PUT", "/api/v2/other")
    found = [pools, other, Operation("GET", "/api/v2/pools")]
    assert writes.left_out(found, writes.flows(found, ["1", "2"])) == ["PUT /api/v2/other"]


def test_every_parameter_of_write_has_value_or_comes_from_response() -> None:
    every = [step for flow in writes.of_dag(1, "1") for step in flow]
    kept = {name for step in every for name in step.keep}
    assert kept == {"backfill_id", "file_token"}
    for step in every:
        left = step.path
        for name in kept:
            left = left.replace(f"{{{name}}}", "")
        assert "{" not in left


def test_dag_file_of_sweep_is_valid_python() -> None:
    ast.parse(SWEEP_FILE)


@pytest.mark.parametrize("module", sorted(PROBES.glob("*.py")), ids=lambda path: path.stem)
def test_probes_do_not_import_this_package(module: Any) -> None:
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert not {name for name in imported if name.startswith("airflow_auth_patches")}


def report(**counts: Any) -> loop.Report:
    defaults: dict[str, Any] = {
        "seconds": 9.0,
        "statements": 0,
        "checkouts": 0,
        "ends": 0,
        "waits": 0,
        "nested": 0,
        "waited": 0.0,
        "longest_stop": 0.02,
        "longest_block": 0.01,
        "longest_collection": 0.01,
        "late": 0,
        "exempt": {},
        "sites": (),
        "stops": {},
    }
    return loop.Report(**{**defaults, **counts})


def sent(*outcomes: str, left: int = 0) -> Result:
    request = Request("GET", "/a")
    versions = [Answer(request, "200", seconds) for seconds in (0.125, 0.1)]
    return Result([Answer(request, outcome, 1.0) for outcome in outcomes], 1.0, left, versions)


def test_summary_without_calls_on_loop() -> None:
    assert route_sweep.summary(sent("200", "200"), report()).split("; ") == [
        "on the loop 0 SQL statements, 0 checkouts, 0 waits",
        "0 second connections of a request",
        "event-loop lag up to 0.02 s: blocked 0.01 s, garbage collection 0.01 s",
        "slowest /version 0.12 s",
        "of 2 requests none fail",
    ]


def test_summary_lists_most_frequent_call_sites() -> None:
    sites = [
        loop.Site("statements", f"airflow/models/a.py:A.f{count} (table)", count, {"GET /a": count})
        for count in (9, 3, 5, 1, 2)
    ]
    sites += [
        loop.Site("waits", "airflow/models/a.py:A.f2", 4, {}),
        loop.Site("checkouts", "airflow/c.py:c", 99, {}),
    ]
    seen = report(statements=20, checkouts=99, waits=4, sites=tuple(sites))
    text = route_sweep.summary(sent("200", "500", NO_ANSWER, "500", left=2), seen)
    assert text.split("; ")[4:] == [
        "of 4 requests 2 x 500, 1 x no answer",
        "2 never sent",
        "most by A.f9 9, A.f2 6, A.f5 5, A.f3 3 and 1 more",
    ]


def test_report_is_clean_only_without_calls_on_loop() -> None:
    assert report(longest_stop=9.0, late=3, exempt={"statements": 4}).clean
    for kind in ("statements", "checkouts", "ends", "waits"):
        assert not report(**{kind: 1}).clean
