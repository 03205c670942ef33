"""The commands that run the tests of the series in environments of Airflow: prove, judge."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import AUTHORS, Json, PythonVersion, app, checkout, coloured, option
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Status
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit
from airflow_auth_patches.verification import judge as judging
from airflow_auth_patches.verification import prove as proving
from airflow_auth_patches.verification import unit_tests


@app.command(rich_help_panel=AUTHORS)
def prove(
    pair: Annotated[
        list[str] | None, option("--pair", "As in 3.1.6+3.3.0; by default the default pairs.", "CORE+FAB")
    ] = None,
    names: Annotated[
        list[str] | None, option("--patch", "Test only this patch; can be repeated.", "NAME")
    ] = None,
    python: PythonVersion = "3.11",
    mutants: Annotated[bool, typer.Option(help="Also run the tests with each mutant.")] = True,
    json: Json = False,
) -> None:
    """
    Run the unit tests of the patches: on stock, patched, and with each mutant.

    Example: airflow-auth-patches prove --pair 3.1.6+3.3.0 --patch session-cleanup
    """
    project = checkout()
    if names:
        project.series.known(names)
    pairs = [project.releases.pair(name) for name in pair] if pair else project.releases.default_pairs
    proving.check_arguments(project.series, pairs, names or (), python)
    with show.Bars() as bars:
        rows = [
            (one.name, result)
            for one in pairs
            for result in proving.prove(project, one, python, names, mutants=mutants, progress=bars)
        ]
    if json:
        show.as_json(
            [
                {
                    "patch": result.slug,
                    "pair": name,
                    "python": python,
                    "run": result.what,
                    "counts": dict(result.counts),
                    "wrong": list(result.wrong),
                }
                for name, result in rows
            ]
        )
    else:
        show.table(
            "Unit tests",
            ("patch", "releases", "run", "tests", "outcome"),
            [
                (
                    result.slug,
                    name,
                    result.what if result.what in unit_tests.WHOLE else f"mutant: {result.what}",
                    ", ".join(f"{count} {word}" for word, count in result.counts.items()),
                    "not as expected" if result.wrong else "as expected",
                )
                for name, result in rows
            ],
        )
        for name, result in rows:
            for fault in result.wrong:
                show.say(f"{result.slug}, {name}, {result.what}: {fault}")
    raise typer.Exit(Exit.FAULT if any(result.wrong for _, result in rows) else Exit.OK)


@app.command("judge", rich_help_panel=AUTHORS)
def judge_(
    release: Annotated[
        list[str] | None,
        typer.Argument(metavar="RELEASE", help="As in apache-airflow-core==3.3.2; by default all releases."),
    ] = None,
    python: PythonVersion = "3.11",
    again: Annotated[bool, option("--again", "Also run reproducers whose results are up to date.")] = False,
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
            for some in judging.judge(project, python, wanted, again=again, progress=bars)
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
