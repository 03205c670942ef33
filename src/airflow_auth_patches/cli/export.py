"""The command of those who send patches upstream: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches import show
from airflow_auth_patches.cli.common import Names, app, checkout, known
from airflow_auth_patches.commands import export as command


@app.command()
def export(
    release: Annotated[
        str, typer.Option("--release", metavar="RELEASE", help="As in apache-airflow-core==3.3.2.")
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="The folder to write into, new or empty.")
    ],
    names: Names = None,
    author: Annotated[
        str | None,
        typer.Option(
            "--author", metavar="'NAME <MAIL>'", help="Who sends them; by default who git says you are."
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--pr", metavar="NUMBER", min=1, help="The pull request to name the news line for."),
    ] = None,
) -> None:
    """
    Write each patch as one commit that `git am` takes: edits, tests and news line, worded for upstream.

    Example: airflow-auth-patches export --release apache-airflow-core==3.3.2 --output outgoing
    """
    series, pins = known()
    root = checkout()
    with show.Bars() as bars:
        exported = command.export(
            root,
            series,
            pins,
            pins.release(release),
            output,
            names,
            author=author,
            number=number,
            progress=bars,
        )
    for path in exported.files:
        show.out.print(escape(str(path)), highlight=False, soft_wrap=True)
    for note in exported.notes:
        show.err.print(escape(note), highlight=False, soft_wrap=True)
