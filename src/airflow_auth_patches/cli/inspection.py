"""The command that reports the status of an installed Airflow: status."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_auth_patches.cli.common import (
    OPERATORS,
    Inspecting,
    Json,
    app,
    option,
    own_interpreter,
    python_option,
)
from airflow_auth_patches.installation import status as command
from airflow_auth_patches.installation.lock import locked
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit

#: The most lines of a report on a terminal of 80 columns.
LINES = 20
#: The most notes in it.
NOTES = 3


@app.command(rich_help_panel=OPERATORS, cls=Inspecting)
def status(
    python: Annotated[
        Path | None,
        python_option(
            "The interpreter of the installed Airflow; by default that of the environment of this tool."
        ),
    ] = None,
    verbose: Annotated[bool, option("--verbose", "Show each bug, patch and note.")] = False,
    exit_code: Annotated[
        bool,
        option(
            "--exit-code",
            "Exit with 0 if there is nothing to do, 1 if there is, 2 if the installation is damaged, 3 if "
            "this is unknown.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """
    Report the releases, bugs and patches of an installed Airflow, and the command to run next.

    Example: airflow-auth-patches status --python /opt/airflow/bin/python
    """
    project = load_project()
    python = python or own_interpreter()
    with show.Bars() as bars, locked(python, shared=True, wait=False):
        report = command.status(python, project.series, project.releases, bars)
    if json:
        show.as_json(_as_data(project.series, report))
    elif verbose:
        _say_all(project.series, report)
    else:
        for line in _brief(project.series, report, show.out.width):
            show.say(line)
    raise typer.Exit(report.next.state if exit_code else Exit.OK)


def _brief(series: Series, report: command.Report, width: int) -> list[str]:
    """Return the report in at most :data:`LINES` lines of a terminal."""
    head = [str(report.installation), *(_line(row, report.risks) for row in report.rows)]
    notes = [note for row in report.rows for note in row.notes if note not in report.next.what]
    head += [line for note in notes[:NOTES] for line in show.wrapped(f"- {note}", width)]
    if len(notes) > NOTES:
        head.append(f"- and {len(notes) - NOTES} more: --verbose")
    end = show.wrapped(f"Next: {report.next.what}", width)
    end += [f"    {report.next.command}"] if report.next.command else []
    if not report.risks:
        return [*head, *end]
    room = LINES - 2 - sum(max(1, -(-len(line) // width)) for line in (*head, *end))
    sees = {bug.bug: series.bugs[bug.bug].sees for bug in report.risks}
    # Cut what most lines would have in common.
    short = {slug: re.sub(", health checks included,?", "", text) for slug, text in sees.items()}
    bugs = [show.shortened(f"  {slug}: {text}", width) for slug, text in short.items()]
    shown = bugs if len(bugs) <= room + 1 else bugs[: max(room, 1)]
    rest = [f"  and {len(bugs) - len(shown)} more: --verbose"] if len(shown) < len(bugs) else []
    return [*head, "Bugs that users can meet, the most severe first:", *shown, *rest, *end]


def _line(row: command.DistributionStatus, risks: Sequence[Finding]) -> str:
    bugs = sum(finding in risks for finding in row.bugs)
    counts = [f"{len(row.applied)} patches", f"{len(row.due)} missing", f"{bugs} bugs"]
    said = f"{row.installed.distribution.name} {row.installed.version}: {row.state}"
    return said if row.state in ("unknown", "out of scope") else f"{said}, {', '.join(counts)}"


def _say_all(series: Series, report: command.Report) -> None:
    show.say(str(report.installation))
    for row in report.rows:
        missing = ", ".join(patch.slug + _why_left_out(series, patch) for patch in row.open)
        said = [
            _line(row, report.risks),
            f"installed patches: {', '.join(row.applied) or 'none'}",
            f"missing patches: {missing or 'none'}",
            *row.notes,
            *([_advice(row)] if row.upgrade else []),
        ]
        for finding in row.bugs:
            bug = series.bugs[finding.bug]
            by = affected.slugs([*finding.by, *bug.needs])
            cure = f"cured by {by}" if finding.by else f"no patch: {finding.reason.rstrip('.')}"
            said.append(f"{finding.bug}: {bug.sees} ({cure}).")
        for text in said:
            show.say("\n".join(show.wrapped(text, show.out.width)))
    show.say("\n".join(show.wrapped(f"Next: {report.next.what}", show.out.width)))
    if report.next.command:
        show.say(f"    {report.next.command}")


def _advice(row: command.DistributionStatus) -> str:
    name, version, upgrade = row.installed.distribution.name, row.installed.version, row.upgrade
    assert upgrade is not None
    said = f"First upgrade {name} {version} to {upgrade.release.version}."
    said += f" This cures {', '.join(upgrade.cures)}"
    said += f", and leaves {', '.join(upgrade.leaves)}." if upgrade.leaves else ", and leaves no known bug."
    said += f" It adds {', '.join(upgrade.brings)}." if upgrade.brings else ""
    said += " It removes the installed patches, so apply them again." if row.applied else ""
    return said if upgrade.tested else f"{said} It was not tested with this core."


def _why_left_out(series: Series, patch: Patch) -> str:
    return " (trade-off)" if patch.trade_off else " (optional)" if series.optional(patch) else ""


def _as_data(series: Series, report: command.Report) -> dict[str, Any]:
    return {
        "schema": show.SCHEMA,
        "python": str(report.installation.python),
        "prefix": str(report.installation.prefix),
        "state": str(report.next.state),
        "next": {"what": report.next.what, "command": report.next.command},
        "risks": [finding.bug for finding in report.risks],
        "distributions": [_row_as_data(series, row) for row in report.rows],
    }


def _row_as_data(series: Series, row: command.DistributionStatus) -> dict[str, Any]:
    upgrade = row.upgrade
    return {
        "distribution": row.installed.distribution.name,
        "version": row.installed.version,
        "state": row.state,
        "applied": list(row.applied),
        "due": list(row.due),
        "open": [
            {"patch": p.slug, "trade_off": p.trade_off, "optional": series.optional(p)} for p in row.open
        ],
        "notes": list(row.notes),
        "bugs": [
            {
                "bug": finding.bug,
                "status": finding.status.value,
                "by": list(finding.by),
                "reason": finding.reason,
            }
            for finding in row.bugs
        ],
        "upgrade": upgrade
        and {
            "to": str(upgrade.release),
            "cures": list(upgrade.cures),
            "leaves": list(upgrade.leaves),
            "brings": list(upgrade.brings),
            "tested": upgrade.tested,
        },
    }
