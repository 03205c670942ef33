"""The command that runs the reproducers of the bugs: judge."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import AUTHORS, Json, app, checkout, coloured
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Status
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit
from airflow_auth_patches.verification import judge as matrix


@app.command("judge", rich_help_panel=AUTHORS)
def judge_(
    release: Annotated[
        list[str] | None,
        typer.Argument(metavar="RELEASE", help="As in apache-airflow-core==3.3.2; by default all releases."),
    ] = None,
    python: Annotated[str, typer.Option("--python", metavar="X.Y", help="The Python version.")] = "3.11",
    again: Annotated[
        bool, typer.Option("--again", help="Also run reproducers whose results are up to date.")
    ] = False,
    json: Json = False,
) -> None:
    """
    Run each bug's reproducer on releases, stock and patched, and record the results.

    A result that is up to date is not run again, so the command can be interrupted.

    Example: airflow-auth-patches judge apache-airflow-core==3.3.2
    """
    project = checkout()
    wanted = [project.releases.release(name) for name in release] if release else list(project.releases)
    with show.Bars() as bars:
        findings = [
            finding
            for some in matrix.judge(project, python, wanted, again=again, progress=bars)
            for finding in some
        ]
    if json:
        show.as_json([affected.as_data(finding) for finding in findings])
    else:
        show.table(
            "Affected status",
            ("release", "bug", "status", "by", ""),
            [
                (str(c.release), c.bug, coloured(c.status.value), ", ".join(c.by), escape(c.reason))
                for c in findings
            ],
        )
    bad = any(finding.status in (Status.NOT_CURED, Status.UNCLEAR, Status.NOT_RUN) for finding in findings)
    raise typer.Exit(Exit.FAULT if bad else Exit.OK)
