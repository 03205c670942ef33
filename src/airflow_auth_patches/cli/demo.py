"""The command that demonstrates the bugs and their patches: demo."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from airflow_auth_patches.cli.common import ENGINEERS, Json, app, checkout, live_packages, option
from airflow_auth_patches.installation import environments, pair_environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util import preconditions, show
from airflow_auth_patches.util.errors import Exit, UsageProblem

PYTHONS = ("3.11", "3.12")


@app.command(rich_help_panel=ENGINEERS)
def demo(
    only: Annotated[
        list[str] | None, option("--only", "Run only this scenario; can be repeated.", "SCENARIO")
    ] = None,
    everything: Annotated[
        bool, option("--all", "Run every scenario on all its releases; takes an hour.")
    ] = False,
    python: Annotated[
        str | None, option("--python", "The Python of the servers; by default that of this tool.", "X.Y")
    ] = None,
    record: Annotated[
        Path | None,
        option("--record", "Record the outcomes in this JSON file, replacing older ones.", "FILE"),
    ] = None,
    json: Json = False,
) -> None:
    """
    Start real API servers, stock and patched, on temporary databases, and show what users see.

    Without options, it runs the most important scenarios on the oldest and the newest releases. Environments,
    logs, figures and the report, build/demo/report.html, stay in build/. Servers and databases are removed.

    Example: airflow-auth-patches demo --only session-cleanup
    """
    if only and everything:
        raise UsageProblem("--only and --all cannot be combined.", "Use one of them.")
    with live_packages("The demonstration"):
        from airflow_auth_patches.demo import figure, html_report, lag_figure, recorded, report, scenarios
        from airflow_auth_patches.demo import run as command
        from airflow_auth_patches.demo.scenario import MINIMAL, Build
    preconditions.temporary_folder()
    project = checkout()
    version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in PYTHONS:
        raise UsageProblem(
            f"Python {version} does not run all the releases of the demonstration.",
            f"Use --python {' or '.join(PYTHONS)}.",
        )
    folder = project.root / "build" / "demo"
    page = html_report.HtmlReport(folder / "report.html", version)
    with show.Bars() as bars:

        def make(pair: Pair, build: Build) -> Environment:
            if build is Build.STOCK:
                return environments.make(
                    pair, version, pair_environments.folder_of(project.root, pair, version, "stock"), bars
                )
            only = MINIMAL if build is Build.MINIMAL else None
            return pair_environments.patched_environment(
                project.root,
                project.series,
                project.releases,
                pair,
                version,
                bars,
                kind=build.value,
                only=only,
            )

        def tell(row: report.Row) -> None:
            bars.line(f"{row.scenario.name} on {row.releases}: {row.outcome.value}")
            if record:
                names = [scenario.name for scenario in scenarios.ALL]
                recorded.record(record, report.as_data([row]), date.today(), version, names)
            page.add(row)

        try:
            rows = command.run(
                make,
                project.releases.pairs,
                only=only or (),
                everything=everything,
                progress=bars,
                folder=folder,
                on_row=tell,
            )
        except BaseException:
            if not page.empty:
                bars.line("The results up to now are in build/demo/report.html.")
            raise
    page.finish()
    wrong = report.faults(rows)
    data = report.as_data(rows)
    drawn = figure.write(data, folder, date.today())
    lag_figure.write(data, folder, date.today())
    where = "The report is build/demo/report.html."
    if json:
        show.as_json(data)
        show.note(where)
    else:
        show.out.print(report.table(rows) if only or everything else report.brief(rows))
        show.say("The servers' logs are in build/demo.")
        if not only and not everything:
            show.say("More: make demo-all, or airflow-auth-patches demo --only ui-load.")
        if drawn:
            show.say(f"The figure is build/demo/{drawn.name}. Its data is in {drawn.stem}.json.")
        show.say(where)
        for fault in wrong:
            show.say(fault)
    raise typer.Exit(Exit.FAULT if wrong else Exit.OK)
