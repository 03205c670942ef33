"""The tables of the recorded load tests with browser sessions, from made-up load tests."""

from __future__ import annotations

from typing import Any

from airflow_auth_patches.demo import ui_load_tables
from airflow_auth_patches.demo.scenarios.ui_load import PATCHED, PLUGIN, STOCK, with_tasks

PAIR = "3.3.2+3.10.2"


def load(form: str, rate: float = 100.0, sessions: int = 30, **more: Any) -> dict[str, Any]:
    seen = {"requests": 50, "lost": 1, "p50": 0.25, "p95": 1.5, "p99": 2.0}
    return {
        **{"form": form, "sessions": sessions, "requests_per_second": rate},
        **{**seen, "slowest_version": rate / 100, "waiting_threads": 7, **more},
    }


def beating(form: str, sessions: int, p95: float) -> dict[str, Any]:
    beats = {"heartbeats": 20, "heartbeats_lost": 2, "heartbeats_p50": 0.015, "heartbeats_p95": p95}
    return load(with_tasks(form), sessions=sessions, **beats)


RECORDED = {
    "measured": "2026-11-03",
    "cpus": 2,
    "pairs": {
        PAIR: {
            "ratio": 0.987,
            "loads": [
                load(STOCK, 1.0, lost=40),
                load(STOCK, 90.0, sessions=5),
                *(load(PATCHED, rate, p50=rate / 100) for rate in (80.0, 100.0, 300.0)),
                beating(PATCHED, 0, 0.04),
                beating(PATCHED, 30, 0.778),
                beating(PLUGIN, 0, 0.04),
            ],
        }
    },
}


def test_sessions_table_has_a_row_per_server() -> None:
    intro, _, *table = ui_load_tables.sessions(RECORDED).splitlines()
    assert intro.endswith("a pool of 5+10, PostgreSQL, one worker, 2 cores, on 3 November 2026:")
    assert table[2:] == [
        f"| `ui-load`, {PAIR} | stock | 1 | 40 of 50 | 0.2 / 1.5 / 2.0 s | 0.0 s | 7 |",
        f"| `ui-load`, {PAIR} | all patches | 100 | 3 of 150 | 1.0 / 1.5 / 2.0 s | 3.0 s | 7 |",
    ]


def test_compares_heartbeats_with_idle_server() -> None:
    assert ui_load_tables.heartbeats(RECORDED).splitlines()[2:] == [
        f"| {PAIR} | all patches | 2 of 20 | 15 / 40 ms | 2 of 20 | 15 / 778 ms |"
    ]


def test_ratio_has_two_decimals() -> None:
    assert ui_load_tables.ratio(RECORDED, PAIR) == "0.99"
