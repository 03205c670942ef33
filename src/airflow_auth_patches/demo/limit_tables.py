"""Build the Markdown tables of docs/limit.md from the results of `limit_comparison`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_auth_patches.util.show import markdown_table

Loads = Sequence[Mapping[str, Any]]

#: Name of the server with only the limit.
LIMIT = "request-admission"


def read(path: Path) -> dict[str, Any]:
    """Return the recorded comparison in a JSON file."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def of(found: Mapping[str, Any], *builds: str) -> dict[str, Any]:
    """Return a comparison with only the load tests of the given servers."""
    return {**found, "loads": [load for load in found["loads"] if load["build"] in builds]}


def circumstances(found: Mapping[str, Any]) -> str:
    """Return a sentence with the date, the releases and the machine of a comparison."""
    core, fab = found["pair"].split("+")
    on = f"core {core} with provider {fab}, PostgreSQL, {found['cpus']} cores"
    return f"Measured on {found['measured']} on {on}."


def lost(found: Mapping[str, Any]) -> str:
    """
    Return the table of lost requests with distinct tokens, with a row per server and a column per setting.
    """
    tokens = [load for load in found["loads"] if load["load"] == "tokens"]

    def cell(each: Loads) -> str:
        return f"{sum(load['lost'] for load in each)} of {sum(load['requests'] for load in each)}"

    return _by_setting(tokens, cell)


def times(found: Mapping[str, Any]) -> str:
    """Return the table of run times with distinct tokens, as ratios to the server with only the limit."""
    tokens = [load for load in found["loads"] if load["load"] == "tokens"]
    base = {_key(load): load["seconds"] for load in tokens if load["build"] == LIMIT}

    def cell(each: Loads) -> str:
        if any(load["lost"] for load in each):
            return "-"
        ratios = [load["seconds"] / base[_key(load)] for load in each]
        median = f"{statistics.median(ratios):.2f}"
        return median if len(ratios) == 1 else f"{median} ({min(ratios):.2f} to {max(ratios):.2f})"

    return _by_setting(tokens, cell)


def event_loop(found: Mapping[str, Any]) -> str:
    """Return the table of event-loop counts, with a row per server and sums over all load tests."""
    rows = []
    for build, loads in _grouped(found["loads"], "build").items():
        seen = [load for load in loads if "statements" in load]
        if len(seen) < len(loads):
            rows.append([build, *["unfinished"] * 3, _milliseconds(loads)])
            continue
        counts = (sum(load[key] for load in seen) for key in ("statements", "waits", "second"))
        rows.append([build, *map(str, counts), _milliseconds(loads)])
    head = ("server", "statements on the loop", "waits on the loop", "second connections", "slowest version")
    return markdown_table(head, rows)


def locked(found: Mapping[str, Any]) -> str:
    """Return the table of the slowest version response while a table is locked, with a row per patch."""
    held = found["locked"][0]["held"]
    rows = []
    for each in found["locked"]:
        patch, seconds = each["patch"], each["slowest_version"]
        cells = [f"{seconds[name]:.1f}" for name in ("stock", LIMIT, patch, "all patches")]
        rows.append([f"`{patch}`", f"`{each['table']}`", f"`{each['request']}`", *cells])
    head = ("patch", f"locked for {held:.0f} s", "requests", "stock", "limit", "limit + patch", "all patches")
    return markdown_table(head, rows)


def _milliseconds(loads: Loads) -> str:
    return f"{max(load['slowest_version'] for load in loads) * 1000:.0f} ms"


def _key(load: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*load["pool"], load["latency"], load["round"])


def _grouped(loads: Loads, key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for load in loads:
        found.setdefault(load[key], []).append(load)
    return found


def _by_setting(loads: Loads, cell: Any) -> str:
    settings = list(dict.fromkeys((*load["pool"], load["latency"]) for load in loads))
    rows = []
    for build, each in _grouped(loads, "build").items():
        row = [build]
        for setting in settings:
            same = [load for load in each if (*load["pool"], load["latency"]) == setting]
            row.append(cell(same) if same else "-")
        rows.append(row)
    names = [f"pool {size}+{overflow}, {latency} ms" for size, overflow, latency in settings]
    return markdown_table(("server", *names), rows)
