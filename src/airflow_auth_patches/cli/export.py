"""The command that exports patches for upstream: export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from airflow_auth_patches.cli.common import (
    UPSTREAM,
    Author,
    Names,
    Release,
    SkipConflicts,
    app,
    checkout,
    option,
)
from airflow_auth_patches.contribute import send as command
from airflow_auth_patches.contribute import send_backports as backports
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import UsageProblem


@app.command(rich_help_panel=UPSTREAM)
def export(
    release: Release = None,
    output: Annotated[
        Path | None, option("--output", "The folder to write into, new or empty.", "DIR")
    ] = None,
    names: Names = None,
    author: Author = None,
    number: Annotated[
        int | None, option("--pr", "The pull request, for the name of the newsfragment.", "NUMBER", min=1)
    ] = None,
    bodies: Annotated[
        bool,
        option("--bodies", "Also write the body of a pull request for each commit, and the issue to file."),
    ] = False,
    news: Annotated[
        bool,
        typer.Option("--newsfragment/--no-newsfragment", help="Whether the commits have newsfragments."),
    ] = True,
    path: Annotated[
        Path | None, option("--checkout", "Create a branch in this checkout of Airflow.", "PATH")
    ] = None,
    branch: Annotated[
        str | None,
        option(
            "--branch",
            "The name of the branch; by default auth-patches/ and the patch or the release.",
            "NAME",
        ),
    ] = None,
    at: Annotated[
        str | None, option("--at", "The commit to start the branch from; by default HEAD.", "COMMIT")
    ] = None,
    skip_conflicts: SkipConflicts = False,
    older: Annotated[
        bool, option("--backports", "Export for main and each older release line of core.")
    ] = False,
    range_diff: Annotated[
        bool, option("--range-diff", "Show the differences between the branches of --backports.")
    ] = False,
) -> None:
    """
    Write each patch as one commit for `git am`, with its tests and newsfragment, in upstream's format.

    Example: airflow-auth-patches export --release apache-airflow-core==3.3.2 --output outgoing

    Example: airflow-auth-patches export --release apache-airflow-core==3.3.2 --checkout path/to/airflow

    Example: airflow-auth-patches export --backports --range-diff --patch pool-slots-session --output outgoing
    """
    if path is None and (branch is not None or at is not None or skip_conflicts):
        raise UsageProblem(
            "--branch, --at and --skip-conflicts need a checkout.", "Name the checkout with --checkout."
        )
    if bodies and output is None:
        raise UsageProblem("--bodies needs a folder to write into.", "Add --output.")
    options: dict[str, Any] = {"author": author, "number": number, "bodies": bodies, "news": news}
    if older or range_diff:
        if release is not None or path is not None:
            raise UsageProblem(
                "--backports cannot be combined with --release or --checkout.",
                "Use --backports alone, or leave it out to export one release line.",
            )
        if not names:
            raise UsageProblem("--backports needs a patch to export.", "Name it with --patch.")
        if output is None and not range_diff:
            what = "The target of the export is missing."
            raise UsageProblem(what, "Use --output, --range-diff or both.")
        project = checkout()
        with show.Bars() as bars:
            made = backports.backport(project, output, names, progress=bars, **options)
        _say(made.files, made.notes)
        for span, difference in made.differences.items() if range_diff else ():
            show.say(f"{span}\n{difference}")
        return
    if release is None:
        raise UsageProblem("The release to export is missing.", "Use --release or --backports.")
    if output is None and path is None:
        raise UsageProblem("The target of the export is missing.", "Use --output, --checkout or both.")
    project = checkout()
    with show.Bars() as bars:
        exported = command.export(
            project,
            project.releases.release(release),
            output,
            names,
            target=None if path is None else command.Target(path, branch, at or "HEAD", skip_conflicts),
            progress=bars,
            **options,
        )
    _say(exported.files, exported.notes)
    for line in exported.told:
        show.say(line)
    for slug, reasons in exported.missing.items():
        for reason in reasons:
            show.note(f"Left out: {slug}: {reason}")
    if exported.branch:
        without = f", without {', '.join(exported.missing)}" if exported.missing else ""
        show.say(f"Created the branch {exported.branch} in {path}{without}.")


def _say(files: Sequence[Path], notes: Sequence[str]) -> None:
    for path in files:
        show.say(str(path))
    for note in notes:
        show.note(note)
