"""Build the Markdown tables of the recorded route sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from airflow_auth_patches.demo.recorded import Result
from airflow_auth_patches.util.show import markdown_table

SCENARIO = "route-sweep"


def counts(rows: Iterable[Result]) -> str:
    """
    Return the table of event-loop counts, with a column per pair of releases and build.

    :param rows: recorded rows; those of other scenarios are ignored.
    """
    seen = [
        (f"{row['core']}+{row['fab']} {build}", row[build])
        for row in rows
        if row["scenario"] == SCENARIO
        for build in ("stock", "patched")
    ]
    lines: dict[str, Callable[[Any], Any]] = {
        "SQL statements on the loop": lambda each: _loop(each, "statements"),
        "checkouts on the loop": lambda each: _loop(each, "checkouts"),
        "waits for a connection on the loop": lambda each: _loop(each, "waits"),
        "second connections of a request": lambda each: _loop(each, "nested"),
        "highest event-loop lag, s": lambda each: f"{_loop(each, 'longest_stop'):.2f}",
        "of it blocked, s": lambda each: f"{_loop(each, 'longest_block'):.2f}",
        "longest garbage collection, s": lambda each: f"{_loop(each, 'longest_collection'):.2f}",
        "slowest `/api/v2/version`, s": lambda each: f"{each['details']['slowest_version']:.2f}",
        "requests that failed": lambda each: _failed(each["measurements"][0]),
        "requests not sent, as a step before failed": lambda each: each["details"]["steps_left"],
    }
    table = [[name, *(str(value(each)) for _, each in seen)] for name, value in lines.items()]
    return markdown_table(["", *(name for name, _ in seen)], table)


def sites(rows: Iterable[Result], kind: str) -> str:
    """
    Return the table of database calls on stock by call site, with a column per pair of releases.

    :param rows: recorded rows; those of other scenarios are ignored.
    :param kind: ``statements`` (on the event loop) or ``nested`` (second connections of a request).
    """
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row["scenario"] == SCENARIO:
            pair = found[f"{row['core']}+{row['fab']}"] = Counter()
            for name, site, count in row["stock"]["details"]["sites"]:
                if name == kind:
                    pair[_function(site)] += count
    every = Counter[str]()
    for pair in found.values():
        every.update(pair)
    table = [
        [f"`{site}`", *(str(pair[site] or "-") for pair in found.values())] for site, _ in every.most_common()
    ]
    return markdown_table(["call site", *found], table)


def _loop(observation: Any, key: str) -> Any:
    return observation["details"]["loop"][key]


def _failed(measurement: Any) -> str:
    return f"{measurement['failed']} of {measurement['requests']}"


def _function(site: str) -> str:
    """Return a call site without its folders: ``pool.py:Pool.slots (pool)``."""
    return site.rsplit("/", 1)[-1]
