"""Recorded results of the benchmark, ``docs/results/bench.json``: ratios with intervals, and tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from airflow_auth_patches.demo.bench import LARGE_POOL, SERVERS, STOCK
from airflow_auth_patches.demo.ratios import Ratios
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.util.show import markdown_table

FILE = "docs/results/bench.json"
HEAD = ("load", "server", "requests/s", "lost", "p95", "slowest version", "to stock", "to no pool limit")
BRIEF = ("server", "requests/s", "lost", "to stock", "to no pool limit")

#: The samples of each server of a load, see :func:`airflow_auth_patches.demo.bench.measure`.
Samples = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Row:
    """
    The rounds of a load on one server.

    :param load: the name of the load.
    :param server: the name of the server.
    :param rate: successful requests per second, the median of the rounds.
    :param requests: the number of requests of all rounds.
    :param lost: the number of those without the expected status.
    :param p95: the 95th percentile of the response time in seconds, the median of the rounds.
    :param slowest_version: the slowest response to the version in seconds, of all rounds.
    :param ratios: the rate divided by that of another server in the same round, by the other server's name.
    """

    load: str
    server: str
    rate: float
    requests: int
    lost: int
    p95: float
    slowest_version: float
    ratios: Mapping[str, Ratios]

    def cells(self) -> list[str]:
        """Return the cells of a table row, see `HEAD`."""
        return [
            self.load,
            self.server,
            f"{self.rate:.1f}",
            f"{self.lost} of {self.requests}",
            f"{self.p95:.2f} s",
            f"{self.slowest_version:.2f} s",
            *(compared(self.ratios.get(other)) for other in (STOCK, LARGE_POOL)),
        ]

    def brief(self) -> list[str]:
        """Return the cells of a table of one load for a terminal, see `BRIEF`."""
        cells = dict(zip(HEAD, self.cells(), strict=True))
        return [cells[name] for name in BRIEF]

    def data(self) -> dict[str, Any]:
        """Return the row as JSON-serializable data; a ratio has ``median``, ``low``, ``high``, ``shown``."""
        ratios = {
            other: {
                "median": round(each.median, 3),
                "low": round(each.interval[0], 3),
                "high": round(each.interval[1], 3),
                "shown": each.differ,
            }
            for other, each in self.ratios.items()
        }
        return {**vars(self), "ratios": ratios}


def compared(ratios: Ratios | None) -> str:
    """
    Return the median of ratios with its interval; *not shown* if 1 is inside the interval.

    :param ratios: the ratios; ``None`` if a server has none, because the other one served no request.
    """
    if ratios is None:
        return "-"
    low, high = ratios.interval
    spread = f"{_ratio(low)} to {_ratio(high)}"
    return f"{_ratio(ratios.median)} ({spread})" if ratios.differ else f"not shown ({spread})"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def rows(measured: Mapping[str, Any]) -> Iterator[Row]:
    """
    Return the rows of a pair of releases, load by load.

    :param measured: what :func:`airflow_auth_patches.demo.bench.measure` returns.
    """
    for load, each in measured["loads"].items():
        samples: Samples = each["servers"]
        for server in SERVERS:
            own = samples[server]
            ratios = {}
            for other in (STOCK, LARGE_POOL):
                bases = {sample["round"]: sample["rate"] for sample in samples[other]}
                found = [
                    sample["rate"] / bases[sample["round"]] for sample in own if bases.get(sample["round"])
                ]
                if found and other != server:
                    ratios[other] = Ratios(found)
            yield Row(
                load,
                server,
                statistics.median(sample["rate"] for sample in own),
                sum(sample["requests"] for sample in own),
                sum(sample["lost"] for sample in own),
                statistics.median(sample["p95"] for sample in own),
                max(sample["slowest_version"] for sample in own),
                ratios,
            )


def read(path: Path) -> dict[str, Any]:
    """
    Return the recorded results by pair of releases.

    :param path: the JSON file.
    :raises Problem: when it cannot be read or is not a result of the benchmark.
    """
    try:
        recorded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["pairs"]
        for measured in recorded.values():
            list(rows(measured))
    except (OSError, ValueError, KeyError, TypeError, statistics.StatisticsError) as error:
        raise Problem(
            f"{path} is not a recorded benchmark: {error!r}.",
            "Restore it from git, or run `make bench`.",
            Exit.USAGE,
        ) from error
    return recorded


def record(path: Path, pair: str, measured: Mapping[str, Any], python: str) -> None:
    """
    Replace the recorded loads of a pair of releases, and keep those that did not run.

    :param path: the JSON file; it does not need to exist.
    :param pair: the name of the pair.
    :param measured: what :func:`airflow_auth_patches.demo.bench.measure` returns.
    :param python: the Python version of the servers: ``3.11``.
    :raises Problem: when the file cannot be read or written.
    """
    recorded = read(path) if path.exists() else {}
    kept = recorded.get(pair, {}).get("loads", {})
    recorded[pair] = {**measured, "python": python, "loads": {**kept, **measured["loads"]}}
    write_whole(path, json.dumps({"pairs": dict(sorted(recorded.items()))}, indent=1) + "\n")


def table(recorded: Mapping[str, Any], pair: str) -> str:
    """
    Return a sentence on the measurement and the table of a pair of releases.

    :param recorded: the recorded results, see :func:`read`.
    :param pair: the name of the pair.
    :return: Markdown.
    """
    measured = recorded[pair]
    core, fab = pair.split("+")
    day = date.fromisoformat(measured["measured"])
    intro = (
        f"Core {core} with provider {fab}, Python {measured['python']}, PostgreSQL, {measured['cpus']} cores "
        f"({measured['machine']}), {measured['rounds']} rounds, on {day.day} {day:%B %Y}:"
    )
    return f"{intro}\n\n{markdown_table(HEAD, (row.cells() for row in rows(measured)))}"


def abouts(recorded: Mapping[str, Any]) -> str:
    """Return a Markdown list of the loads."""
    loads = {
        name: each["about"] for measured in recorded.values() for name, each in measured["loads"].items()
    }
    return "\n".join(f"- `{name}`: {about}." for name, about in loads.items())
