"""The operations of a server in its OpenAPI document."""

from __future__ import annotations

from airflow_auth_patches.demo.openapi import Operation, address, operations, unknown

NAME = {"in": "path", "name": "pool_name", "required": True}
DOCUMENT = {
    "paths": {
        "/api/v2/pools": {
            "get": {"parameters": [{"in": "query", "name": "limit"}]},
            "post": {"parameters": [{"in": "header", "name": "X-Token", "required": True}]},
            "summary": "not a method",
        },
        "/api/v2/pools/{pool_name}": {
            "parameters": [NAME],
            "delete": {},
            "get": {"parameters": [{"in": "query", "name": "at", "required": True}]},
        },
        "/ui/pools": {"get": {}},
    }
}
ONE = Operation("GET", "/api/v2/pools/{pool_name}", (("path", "pool_name"), ("query", "at")))


def test_lists_every_method_below_prefix() -> None:
    assert [str(each) for each in operations(DOCUMENT)] == [
        "GET /api/v2/pools",
        "POST /api/v2/pools",
        "DELETE /api/v2/pools/{pool_name}",
        "GET /api/v2/pools/{pool_name}",
    ]


def test_collects_required_parameters_of_route_and_method() -> None:
    needs = [each.needs for each in operations(DOCUMENT)]
    assert needs == [(), (("header", "X-Token"),), (("path", "pool_name"),), ONE.needs]


def test_fills_path_query_and_headers() -> None:
    values = {"pool_name": "a/b c", "at": "1 2", "X-Token": "t", "unused": "u"}
    assert address(ONE, values) == ("/api/v2/pools/a%2Fb%20c?at=1+2", {})
    assert address(operations(DOCUMENT)[1], values) == ("/api/v2/pools", {"X-Token": "t"})


def test_reports_each_unknown_parameter_once() -> None:
    assert unknown({"at"}, operations(DOCUMENT)) == [
        "the header parameter X-Token of POST /api/v2/pools",
        "the path parameter pool_name of DELETE /api/v2/pools/{pool_name}",
    ]
    assert unknown({"at", "X-Token", "pool_name"}, operations(DOCUMENT)) == []
