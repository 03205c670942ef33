"""The command that checks the series by upstream's rules: lint-upstream."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import UPSTREAM, Json, app, checkout, known
from airflow_auth_patches.contribute import lint_upstream as command
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit


@app.command("lint-upstream", rich_help_panel=UPSTREAM)
def lint_upstream(
    every: Annotated[
        bool, typer.Option("--all", help="Check every form of each patch, not only those of new releases.")
    ] = False,
    python: Annotated[
        str, typer.Option("--python", metavar="X.Y", help="The Python version of the environments for mypy.")
    ] = "3.11",
    json: Json = False,
) -> None:
    """
    Check tests, newsfragments and patches by the rules of upstream's hooks and reviewers.

    Example: airflow-auth-patches lint-upstream --all
    """
    root = checkout()
    series, pins = known()
    with show.Bars() as bars:
        linted = command.lint_upstream(root, series, pins, every=every, python=python, progress=bars)
    if json:
        rows = [(finding, "") for finding in linted.findings] + list(linted.excused)
        show.as_json(
            {
                "releases": [str(release) for release in linted.releases],
                "findings": [
                    {
                        "path": str(finding.path.relative_to(root)),
                        "line": finding.line,
                        "rule": finding.rule,
                        "finding": finding.what,
                        "do": finding.remedy,
                        "excused": why or None,
                    }
                    for finding, why in rows
                ],
            }
        )
    else:
        for finding in linted.findings:
            text = str(finding).removeprefix(f"{root}/")
            show.out.print(escape(text), soft_wrap=True, highlight=False)
        for finding, why in linted.excused:
            text = f"{finding.path.relative_to(root)}:{finding.line}: {finding.rule}: accepted: {why}"
            show.out.print(escape(text), soft_wrap=True, highlight=False)
        count = len(linted.findings)
        show.out.print("no findings" if not count else f"{count} finding{'s' * (count > 1)}")
    raise typer.Exit(Exit.FAULT if linted.findings else Exit.OK)
