"""The tables of docs/limit.md, from a made-up comparison."""

from __future__ import annotations

from typing import Any

from airflow_auth_patches.demo import limit_tables
from airflow_auth_patches.demo.limit_comparison import ALL, LIMIT, STOCK, builds
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series.series import Series

PATCH = "user-cache"


def load(build: str, seconds: float, *, round: int = 1, latency: int = 0, **seen: Any) -> dict[str, Any]:
    place = {"build": build, "pool": [3, 2], "latency": latency, "round": round, "load": "tokens"}
    counts = {"requests": 300, "lost": 0, "statements": 5, "waits": 1, "second": 2}
    return {**place, "seconds": seconds, "slowest_version": 0.25, **counts, **seen}


def hanging(build: str) -> dict[str, Any]:
    found = load(build, 30.0, lost=200)
    return {key: value for key, value in found.items() if key not in ("statements", "waits", "second")}


FOUND = {
    "measured": "2026-11-30",
    "cpus": 2,
    "pair": "3.3.2+3.10.2",
    "loads": [
        hanging(STOCK),
        *(load(LIMIT, 10.0, round=number) for number in (1, 2)),
        load(PATCH, 5.0),
        load(PATCH, 20.0, round=2, slowest_version=1.5),
        load(LIMIT, 40.0, latency=10),
        # Only the tables with sums over all load tests contain this one.
        load(LIMIT, 70.0, latency=10, lost=7, statements=0, waits=0, second=0) | {"load": "second"},
        load(PATCH, 30.0, latency=10),
    ],
    "locked": [
        {
            "patch": PATCH,
            "table": "ab_user",
            "request": "GET /api/v2/dags",
            "held": 4.0,
            "slowest_version": {STOCK: 4.04, LIMIT: 4.01, PATCH: 0.02, ALL: 0.03},
        }
    ],
}


def test_sums_lost_requests_over_rounds() -> None:
    assert limit_tables.lost(FOUND).splitlines() == [
        "| server | pool 3+2, 0 ms | pool 3+2, 10 ms |",
        "| --- | --- | --- |",
        "| stock | 200 of 300 | - |",
        "| request-admission | 0 of 600 | 0 of 300 |",
        "| user-cache | 0 of 600 | 0 of 300 |",
    ]


def test_compares_times_with_limit_alone_in_same_round() -> None:
    assert limit_tables.times(FOUND).splitlines()[2:] == [
        "| stock | - | - |",
        "| request-admission | 1.00 (1.00 to 1.00) | 1.00 |",
        "| user-cache | 1.25 (0.50 to 2.00) | 0.75 |",
    ]


def test_omits_event_loop_counts_of_unfinished_load_test() -> None:
    assert limit_tables.event_loop(FOUND).splitlines()[2:] == [
        "| stock | unfinished | unfinished | unfinished | 250 ms |",
        "| request-admission | 15 | 3 | 6 | 250 ms |",
        "| user-cache | 15 | 3 | 6 | 1500 ms |",
    ]


def test_locked_table_compares_four_servers() -> None:
    assert limit_tables.locked(FOUND).splitlines()[2:] == [
        "| `user-cache` | `ab_user` | `GET /api/v2/dags` | 4.0 | 4.0 | 0.0 | 0.0 |"
    ]


def test_circumstances_contain_releases_and_date() -> None:
    sentence = "Measured on 2026-11-30 on core 3.3.2 with provider 3.10.2, PostgreSQL, 2 cores."
    assert limit_tables.circumstances(FOUND) == sentence


def test_adds_each_patch_with_its_requirements_to_limit(project: Series, pins: Pins) -> None:
    pair = pins.pair("3.3.2+3.10.2")
    serving = {patch.slug: patch for each in (pair.core, pair.fab) for patch in project.serving(each)}
    compared = {build.name: build.patches for build in builds(serving)}
    assert list(compared)[:2] == [STOCK, LIMIT]
    assert (compared[STOCK], compared[LIMIT], compared[ALL]) == ((), (LIMIT,), None)
    assert compared["user-cache"] == (LIMIT, "user-cache", "user-from-token-hook")
    cache, off_loop, leeway = (f"revoked-token-{word}" for word in ("cache", "off-loop", "leeway"))
    assert compared[cache] == (LIMIT, cache, off_loop, leeway)
    assert "failed-run-session" not in compared, "it does not serve this pair"


def test_table_can_be_limited_to_some_servers() -> None:
    table = limit_tables.lost(limit_tables.of(FOUND, STOCK, PATCH))
    every = limit_tables.lost(FOUND).splitlines()
    assert table.splitlines() == [row for row in every if not row.startswith(f"| {LIMIT} ")]
