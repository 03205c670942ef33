"""The command that checks the series as upstream's hooks do: lint-upstream."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from airflow_auth_patches.cli.common import UPSTREAM, Json, Names, app, checkout, option
from airflow_auth_patches.contribute import lint_checkout
from airflow_auth_patches.contribute import lint_upstream as command
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, UsageProblem


@app.command("lint-upstream", rich_help_panel=UPSTREAM)
def lint_upstream(
    every: Annotated[
        bool, option("--all", "Check every form of each patch, not only those of new releases.")
    ] = False,
    python: Annotated[
        str, option("--python", "The Python version of the environments for mypy.", "X.Y")
    ] = "3.11",
    path: Annotated[
        Path | None, option("--checkout", "Run the hooks of this checkout of Airflow instead.", "PATH")
    ] = None,
    at: Annotated[str, option("--at", "The commit of the checkout to put patches on.", "COMMIT")] = "HEAD",
    release: Annotated[
        str | None,
        option(
            "--release",
            "The release whose forms to put on the checkout; by default the newest that fits.",
            "RELEASE",
        ),
    ] = None,
    names: Names = None,
    every_hook: Annotated[
        bool, option("--every-hook", "Also run hooks that need Breeze, Docker, node or a network.")
    ] = False,
    json: Json = False,
) -> None:
    """
    Check added and patched files with ruff and mypy as upstream does, or run upstream's hooks in a checkout.

    The hooks run with prek in a temporary clone. Without --release and --patch, it gets the patches for core.

    Example: airflow-auth-patches lint-upstream --all

    Example: airflow-auth-patches lint-upstream --checkout path/to/airflow --at main
    """
    if path is None and (at != "HEAD" or release or names or every_hook):
        raise UsageProblem(
            "--at, --release, --patch and --every-hook need a checkout.", "Add --checkout PATH."
        )
    if path is not None and every:
        raise UsageProblem("--all is not for a checkout.", "Leave out --all or --checkout.")
    project = checkout()
    with show.Bars() as bars:
        if path is not None:
            hooked = lint_checkout.run_hooks(
                project, path, at, release=release, names=names, every=every_hook, progress=bars
            )
        else:
            linted = command.lint_upstream(project, every=every, python=python, progress=bars)
    if path is not None:
        _print_hooks(hooked, json=json)
        raise typer.Exit(Exit.FAULT if hooked.failed else Exit.OK)
    if json:
        rows = [(finding, "") for finding in linted.findings] + list(linted.accepted)
        show.as_json(
            {
                "releases": [str(each) for each in linted.releases],
                "findings": [
                    {
                        "path": str(finding.path.relative_to(project.root)),
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
            show.say(str(finding).removeprefix(f"{project.root}/"))
        for finding, why in linted.accepted:
            show.say(
                f"{finding.path.relative_to(project.root)}:{finding.line}: {finding.rule}: accepted: {why}"
            )
        count = len(linted.findings)
        show.say("no findings" if not count else f"{count} finding{'s' * (count > 1)}")
    raise typer.Exit(Exit.FAULT if linted.findings else Exit.OK)


def _print_hooks(hooked: lint_checkout.Hooked, *, json: bool) -> None:
    if json:
        show.as_json(
            {
                "release": str(hooked.release),
                "failed": list(hooked.failed),
                "failed_without_patches": list(hooked.failed_before),
                "left_out": dict(hooked.left_out),
                "output": hooked.output,
            }
        )
        return
    show.say(hooked.output)
    reasons = defaultdict(list)
    for hook, why in hooked.left_out.items():
        reasons[why].append(hook)
    for why, hooks in reasons.items():
        show.say(f"not run, {why}: {', '.join(hooks)}")
    if hooked.failed_before:
        show.say(f"fails without the patches too: {', '.join(hooked.failed_before)}")
    show.say(
        f"{hooked.release}: " + (f"failed: {', '.join(hooked.failed)}" if hooked.failed else "no hook failed")
    )
