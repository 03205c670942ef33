"""The command that checks whether a running API server has loaded the patches: verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from airflow_auth_patches.cli.common import OPERATORS, Json, app, option, own_interpreter, python_option
from airflow_auth_patches.installation import loaded
from airflow_auth_patches.installation.lock import locked
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit


@app.command(rich_help_panel=OPERATORS)
def verify(
    url: Annotated[
        str, option("--url", "The URL of the API server, on this machine or in this container.", "URL")
    ] = "http://127.0.0.1:8080",
    python: Annotated[
        Path | None,
        python_option("The interpreter of the server; by default that of the environment of this tool."),
    ] = None,
    json: Json = False,
) -> None:
    """
    Check that each process of a running API server has loaded the installed patches.

    It requests only the version and the health. Exit code 1: a process runs other code, or is too old.

    Example: airflow-auth-patches verify --url http://127.0.0.1:8080 --python /opt/airflow/bin/python
    """
    project = load_project()
    python = python or own_interpreter()
    with show.Bars() as bars, locked(python, shared=True, wait=False):
        seen = loaded.verify(url, python, project.series, project.releases, bars)
    if json:
        show.as_json(
            {
                "schema": show.SCHEMA,
                "url": url,
                "python": str(python),
                "verified": seen.verified,
                "patches": list(seen.patches),
                "processes": [{"pid": each.pid, "started": each.started} for each in seen.processes],
                "findings": [{"what": each.what, "remedy": each.remedy} for each in seen.findings],
                "checks": [vars(check) for check in seen.checks],
            }
        )
    else:
        show.say(str(seen.installation))
        for finding in seen.findings:
            show.say(f"{finding.what} {finding.remedy}")
        for check in seen.checks:
            show.say(f"GET {check.path}: {check.sees}")
        pids = ", ".join(str(each.pid) for each in seen.processes)
        if not seen.findings:
            show.say(f"Each process of the server ({pids}) runs the {len(seen.patches)} installed patches.")
    raise typer.Exit(Exit.OK if seen.verified else Exit.FAULT)
