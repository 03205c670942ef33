"""Recorded results of the demonstration, ``docs/results/demonstration.json``, and their Markdown tables."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.util.show import markdown_table

FILE = "docs/results/demonstration.json"
BUILDS = ("stock", "minimal", "plugin", "patched")
#: Outcomes that say nothing about the patches.
UNKNOWN = ("not run", "inconclusive")

#: A recorded row: see :func:`record`.
Result = Mapping[str, Any]


def record(path: Path, rows: Iterable[Result], measured: date, python: str, order: Sequence[str]) -> None:
    """
    Replace the recorded rows of the scenarios, releases and databases that ran; keep the other rows.

    :param path: the file; it does not need to exist.
    :param rows: a demonstration, as ``report.as_data`` returns it. Rows that did not run are ignored.
    :param measured: the day of the demonstration.
    :param python: the Python version of the servers: ``3.11``.
    :param order: the names of all scenarios. Recorded rows of other scenarios are dropped.
    :raises Problem: when the file cannot be read or written.
    """
    found = {_key(row): dict(row) for row in (read(path) if path.exists() else ())}
    for row in rows:
        if row["outcome"] not in UNKNOWN:
            found[_key(row)] = {
                **{key: value for key, value in row.items() if key not in BUILDS},
                **{build: row[build] and _observation(row[build]) for build in BUILDS},
                "measured": measured.isoformat(),
                "python": python,
                "cpus": os.cpu_count(),
                "machine": platform.machine(),
            }
    kept = [row for row in found.values() if row["scenario"] in order]
    kept.sort(key=lambda row: order.index(row["scenario"]))
    write_whole(path, json.dumps(kept, indent=1) + "\n")


def read(path: Path) -> list[Result]:
    """
    Return the recorded rows.

    :return: rows as ``report.as_data`` returns them, without paths of logs, with only the numbers in
        ``details``, and with ``measured`` (a date), ``python``, ``cpus`` and ``machine``.
    :raises Problem: when the file is missing or invalid.
    """
    try:
        rows: list[Result] = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            _key(row), row["about"], row["measured"], row["stock"]["sees"], row["patched"]["sees"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(
            f"{path} is not a recorded demonstration: {error!r}.", "Restore it from git."
        ) from error
    return rows


def _key(row: Result) -> tuple[str, str, str, str]:
    return row["scenario"], row["core"], row["fab"], row["database"]


def _observation(seen: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in seen.items() if key != "log"} | {"details": _plain(seen["details"])}


def _plain(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers in a scenario's details, including those one level below, and the call sites."""
    kept: dict[str, Any] = {}
    for key, value in details.items():
        if isinstance(value, Mapping):
            kept[key] = {name: each for name, each in value.items() if isinstance(each, (int, float))}
            if "sites" in value:
                kept["sites"] = [[site["kind"], site["site"], site["count"]] for site in value["sites"]]
        elif isinstance(value, (int, float)):
            kept[key] = value
    return kept


def table(rows: Iterable[Result]) -> str:
    """
    Return a sentence on the measurement and a table of the observations on stock and patched.

    :param rows: recorded rows, at least one.
    :return: Markdown.
    """
    rows = list(rows)
    days = sorted({date.fromisoformat(row["measured"]) for row in rows})
    lines = []
    for row in rows:
        stock = _seen(row["stock"])
        if row["plugin"]:
            stock += f"<br>with the plugin: {_seen(row['plugin'])}"
        database = "" if row["database"] == "PostgreSQL" else f" on {row['database']}"
        releases = f"{row['core']}+{row['fab']}{database}"
        day = _day(date.fromisoformat(row["measured"]))
        lines.append([f"`{row['scenario']}`", releases, stock, _seen(row["patched"]), day])
    head = ["scenario", "releases", "stock", "patched", "measured"]
    if len(days) == 1:
        head, lines = head[:-1], [line[:-1] for line in lines]
    cpus = sorted({row["cpus"] for row in rows})
    intro = f"Measured on {' and '.join(map(_day, days))}" if len(days) == 1 else "Measured"
    intro += f" on {' and '.join(map(str, cpus))} cores"
    return f"{intro}:\n\n{markdown_table(head, lines)}"


def of_bugs(path: Path, *bugs: str) -> str:
    """
    Return the recorded results of the scenarios that show some bugs, for the page of a bug.

    :param path: the file.
    :param bugs: the slugs of the bugs.
    :return: Markdown: a list of what the scenarios do, and a table of the observations.
    :raises Problem: when the file cannot be read, or no scenario shows one of the bugs.
    """
    rows = [row for row in read(path) if set(bugs) & set(row["bugs"])]
    if missing := set(bugs) - {bug for row in rows for bug in row["bugs"]}:
        raise Problem(
            f"No recorded scenario shows {', '.join(sorted(missing))}.",
            "Run `airflow-auth-patches demo --record` with one of its scenarios.",
        )
    return f"{abouts(rows)}\n\n{table(rows)}"


def abouts(rows: Iterable[Result]) -> str:
    """Return a Markdown list of what the scenarios of the rows do."""
    return "\n".join(dict.fromkeys(f"- `{row['scenario']}`: {row['about']}." for row in rows))


def _seen(observation: Mapping[str, Any]) -> str:
    text: str = observation["sees"].replace("|", "\\|").replace("; ", "<br>")
    return text


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"
