"""Build the Markdown tables of the recorded load tests with browser sessions, for the documentation."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from airflow_auth_patches.demo.figure import STYLES
from airflow_auth_patches.demo.scenarios.ui_load import REFERENCE, SETTINGS, TASKS, with_tasks
from airflow_auth_patches.util.show import markdown_table

Loads = Sequence[Mapping[str, Any]]

#: The column headings of :func:`sessions`.
HEAD = ("scenario", "server", "requests/s", "lost", "p50 / p95 / p99", "slowest version", "waiting threads")


def sessions(recorded: Mapping[str, Any]) -> str:
    """
    Return a sentence on the measurement and a table with a row per pair and server, at `REFERENCE` sessions.

    Repeated load tests of a server are combined: the medians of rate and percentiles, the sums of requests,
    and the worst of the other values.

    :param recorded: a recorded result, as ``figure.load`` returns it.
    """
    rows = []
    for pair, measured in recorded["pairs"].items():
        for form in STYLES:
            if same := _of(measured["loads"], form, REFERENCE):
                rows.append([f"`ui-load`, {pair}", form, *_cells(same)])
    day = date.fromisoformat(recorded["measured"])
    pool = f"{SETTINGS.pool_size}+{SETTINGS.max_overflow}"
    intro = (
        f"{REFERENCE} browser sessions on the Dags page, a pool of {pool}, PostgreSQL, one worker, "
        f"{recorded['cpus']} cores, on {day.day} {day:%B %Y}:"
    )
    return f"{intro}\n\n{markdown_table(HEAD, rows)}"


def ratio(recorded: Mapping[str, Any], pair: str) -> str:
    """Return the throughput with the limit divided by the throughput with the large pool: ``0.99``."""
    return f"{recorded['pairs'][pair]['ratio']:.2f}"


def heartbeats(recorded: Mapping[str, Any]) -> str:
    """
    Return the table of heartbeats of running tasks, on an idle server and during browser sessions.

    :param recorded: a recorded result, as ``figure.load`` returns it.
    """
    rows = []
    for pair, measured in recorded["pairs"].items():
        for form in STYLES:
            idle = _of(measured["loads"], with_tasks(form), 0)
            busy = _of(measured["loads"], with_tasks(form), REFERENCE)
            if idle and busy:
                rows.append([pair, form, *_beats(idle[0]), *_beats(busy[0])])
    head = ("releases", f"server with {TASKS} running tasks", "idle: lost", "p50 / p95")
    return markdown_table((*head, f"{REFERENCE} sessions: lost", "p50 / p95"), rows)


def _of(loads: Loads, form: str, number: int) -> Loads:
    return [load for load in loads if load["form"] == form and load["sessions"] == number]


def _cells(same: Loads) -> list[str]:
    rate = statistics.median(load["requests_per_second"] for load in same)
    lost, total = (sum(load[key] for load in same) for key in ("lost", "requests"))
    waits = [statistics.median(load[key] for load in same) for key in ("p50", "p95", "p99")]
    return [
        f"{rate:.0f}",
        f"{lost} of {total}",
        " / ".join(f"{each:.1f}" for each in waits) + " s",
        f"{max(load['slowest_version'] for load in same):.1f} s",
        str(max(load["waiting_threads"] for load in same)),
    ]


def _beats(load: Mapping[str, Any]) -> list[str]:
    return [
        f"{load['heartbeats_lost']} of {load['heartbeats']}",
        " / ".join(f"{load[key] * 1000:.0f}" for key in ("heartbeats_p50", "heartbeats_p95")) + " ms",
    ]
