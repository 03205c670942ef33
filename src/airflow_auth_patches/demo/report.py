"""Report the results of a demonstration, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from airflow_auth_patches.demo.outcomes import Measurement, Observation, Outcome
from airflow_auth_patches.demo.scenario import Build, Scenario


@dataclass(frozen=True)
class Row:
    """
    The result of one scenario on one pair of releases.

    :param pair: the releases, core first: ``3.1.6+3.3.0``.
    :param logs: the logs of the servers by build: ``stock`` and ``patched``.
    :param minimal: the observation with only the minimal patches, if the scenario has one.
    :param database: the database product.
    :param plugin: the observation on stock releases with the plugin, if the scenario has one.
    :param remedy: what to install, if the scenario did not run.
    :param version: the version of the database.
    :param seconds: the time that the scenario took on all builds, with the boot of the servers.
    """

    scenario: Scenario
    pair: str
    stock: Observation
    patched: Observation
    outcome: Outcome
    logs: Mapping[str, Path]
    minimal: Observation | None = None
    database: str = "PostgreSQL"
    plugin: Observation | None = None
    remedy: str = ""
    version: str = ""
    seconds: float = 0.0

    @property
    def releases(self) -> str:
        """The releases, with the database if it is not PostgreSQL."""
        return self.pair if self.database == "PostgreSQL" else f"{self.pair} on {self.database}"


def faults(rows: Sequence[Row]) -> list[str]:
    """
    Return the unsuccessful outcomes of a demonstration.

    :return: one sentence per outcome; empty if all are successful.
    """
    return [
        f"{row.scenario.name} on {row.releases} is {row.outcome.value}: stock: {row.stock.sees}; "
        + (f"stock with the plugin: {row.plugin.sees}; " if row.plugin else "")
        + f"patched: {row.patched.sees}."
        for row in rows
        if not row.outcome.good
    ]


def brief(rows: Sequence[Row]) -> Table:
    """
    Return the table of the short demonstration, at most 100 columns and 30 lines.

    :param rows: the results.
    """
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for head in ("scenario", "releases", "stock", "patched", "outcome"):
        grid.add_column(head, no_wrap=head in ("scenario", "releases"))
    for row in rows:
        grid.add_row(
            f"[bold]{row.scenario.name}[/]",
            row.releases.replace("+", "\n+"),
            *(_seen(each) for each in (row.stock, row.patched)),
            _outcome(row),
        )
    return grid


def table(rows: Sequence[Row]) -> Table:
    """
    Return the table of a demonstration, for 100 columns; it also fits into 80.

    :param rows: the results.
    """
    grid = Table(box=box.SIMPLE_HEAD, show_lines=True, show_edge=False, pad_edge=False)
    grid.add_column("scenario", max_width=22, overflow="fold")
    grid.add_column("releases", min_width=8, no_wrap=True)
    grid.add_column("what a user sees on stock", max_width=24)
    grid.add_column("what a user sees patched", max_width=24)
    grid.add_column("outcome", min_width=7)
    grid.caption = escape("\n".join(_notes(rows)))
    grid.caption_justify = "left"
    for row in rows:
        grid.add_row(
            f"[bold]{row.scenario.name}[/]\n{row.scenario.about}",
            row.releases.replace("+", "\n+").replace(" on ", "\n"),
            _seen(row.stock)
            + _seen(row.minimal, "\n[bold]with the minimal patches:[/]\n")
            + _seen(row.plugin, "\n[bold]with the plugin:[/]\n"),
            _seen(row.patched),
            _outcome(row),
        )
    return grid


def _seen(observation: Observation | None, title: str = "") -> str:
    return "" if observation is None else title + escape(observation.sees.replace("; ", "\n"))


def _outcome(row: Row) -> str:
    good = row.outcome in (Outcome.CURED, Outcome.WORKS)
    style = "green" if good else "yellow" if row.outcome.good else "bold red"
    return f"[{style}]{row.outcome.value}[/]"


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = {f"{row.scenario.name}: {row.scenario.note}": None for row in rows if row.scenario.note}
    for row in rows:
        if row.outcome is Outcome.INCONCLUSIVE:
            notes[
                f"{row.scenario.name}: the machine was too busy to compare the servers, twice. Repeat it: "
                f"airflow-auth-patches demo --only {row.scenario.name}"
            ] = None
        elif row.outcome is Outcome.NOT_RUN:
            notes[f"{row.database}: {row.scenario.name} and others were not run. {row.remedy}"] = None
    return list(notes)


def as_data(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """
    Return a demonstration as JSON-serializable data.

    :return: for each row ``scenario``, ``about``, ``note``, ``bugs``, ``core``, ``fab``, ``database``,
        ``settings`` (see `preparation.Settings`), ``outcome`` and the observations ``stock``, ``minimal``,
        ``plugin`` and ``patched``; ``minimal`` and ``plugin`` are ``None`` if the scenario has none. Each
        observation has ``sees``, ``failed``, ``pool_timeouts``, ``warnings``, ``log_errors``, ``log`` (a path
        or ``None``), ``measurements`` (see :func:`measurement_data`) and
        ``details`` (specific to the scenario; ``plots`` are those of `plot_data`).
    """
    return [
        {
            "scenario": row.scenario.name,
            "about": row.scenario.about,
            "note": row.scenario.note,
            "bugs": list(row.scenario.bugs),
            "core": row.pair.split("+")[0],
            "fab": row.pair.split("+")[1],
            "database": row.database,
            "settings": vars(row.scenario.settings),
            "outcome": row.outcome.value,
            **{
                build.value: _observation(getattr(row, build.value), row.logs.get(build.value))
                for build in Build
            },
        }
        for row in rows
    ]


def _observation(observation: Observation | None, log: Path | None) -> dict[str, Any] | None:
    if observation is None:
        return None
    same = ("sees", "failed", "pool_timeouts", "warnings", "log_errors")
    return {
        **{name: getattr(observation, name) for name in same},
        "log": log and str(log),
        "measurements": [measurement_data(each) for each in observation.measurements],
        "details": dict(observation.details),
    }


def measurement_data(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as JSON-serializable data: counts, outcomes, and times in seconds."""
    result = measurement.result
    return {
        "name": measurement.name,
        "rounds": measurement.rounds,
        "planned_rounds": measurement.planned,
        "requests": len(result.answers),
        "failed": len(result.failures),
        "unfinished": result.unfinished,
        "outcomes": dict(sorted(result.outcomes.items())),
        "deadline": measurement.deadline,
        "wall": _rounded(result.wall),
        **{f"p{percent}": _rounded(result.percentile(percent)) for percent in (50, 95, 99)},
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
