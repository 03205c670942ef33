"""The command that judges releases by the reproducers of the bugs: judge."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import Json, app, checkout, known, verdict_words
from airflow_auth_patches.series import verdicts
from airflow_auth_patches.series.verdicts import Kind
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit
from airflow_auth_patches.verification import judge as matrix


@app.command("judge")
def judge_(
    release: Annotated[
        list[str] | None,
        typer.Argument(metavar="RELEASE", help="As in apache-airflow-core==3.3.2; by default all."),
    ] = None,
    python: Annotated[str, typer.Option("--python", metavar="X.Y", help="The Python to run on.")] = "3.11",
    again: Annotated[bool, typer.Option("--again", help="Also what still holds.")] = False,
    json: Json = False,
) -> None:
    """
    Run each bug's reproducer on releases, stock and patched, and keep what it says.

    What was run already on that Python, and nothing of it has changed, is not run again; so it can be
    interrupted.

    Example: airflow-auth-patches judge apache-airflow-core==3.3.2
    """
    series, pins = known()
    wanted = [pins.release(name) for name in release] if release else list(pins.releases)
    with show.Bars() as bars:
        cells = [
            cell
            for some in matrix.judge(checkout(), series, pins, python, wanted, again=again, progress=bars)
            for cell in some
        ]
    if json:
        show.as_json([verdicts.as_data(cell) for cell in cells])
    else:
        show.table(
            "Verdicts",
            ("release", "bug", "verdict", "by", ""),
            [
                (str(c.release), c.bug, verdict_words(c.kind.value), ", ".join(c.by), escape(c.reason))
                for c in cells
            ],
        )
    bad = any(cell.kind in (Kind.NOT_CURED, Kind.UNCLEAR, Kind.NOT_RUN) for cell in cells)
    raise typer.Exit(Exit.FAULT if bad else Exit.OK)
