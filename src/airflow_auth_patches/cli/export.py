"""The command that exports patches for upstream: export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import UPSTREAM, Names, SkipConflicts, app, checkout
from airflow_auth_patches.contribute import send as command
from airflow_auth_patches.contribute import send_backports as backports
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit, Problem


@app.command(rich_help_panel=UPSTREAM)
def export(
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="RELEASE", help="As in apache-airflow-core==3.3.2."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="The folder to write into, new or empty.")
    ] = None,
    names: Names = None,
    author: Annotated[
        str | None,
        typer.Option(
            "--author", metavar="'NAME <MAIL>'", help="The author of the commits; by default git's user."
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            "--pr", metavar="NUMBER", min=1, help="The pull request, for the name of the newsfragment."
        ),
    ] = None,
    bodies: Annotated[
        bool, typer.Option("--bodies", help="Also write the body of a pull request for each commit.")
    ] = False,
    path: Annotated[
        Path | None,
        typer.Option("--checkout", metavar="PATH", help="Create a branch in this checkout of Airflow."),
    ] = None,
    branch: Annotated[
        str | None,
        typer.Option(
            "--branch",
            metavar="NAME",
            help="The name of the branch; by default auth-patches/ and the patch or the release.",
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="COMMIT", help="The commit to start the branch from; by default HEAD."),
    ] = None,
    skip_conflicts: SkipConflicts = False,
    older: Annotated[
        bool, typer.Option("--backports", help="Export for main and each older release line of core.")
    ] = False,
    range_diff: Annotated[
        bool, typer.Option("--range-diff", help="Show the differences between the branches of --backports.")
    ] = False,
) -> None:
    """
    Write each patch as one commit for `git am`, with its tests and newsfragment, in upstream's format.

    Example: airflow-auth-patches export --release apache-airflow-core==3.3.2 --output outgoing

    Example: airflow-auth-patches export --release apache-airflow-core==3.3.2 --checkout path/to/airflow

    Example: airflow-auth-patches export --backports --range-diff --patch pool-slots-session --output outgoing
    """
    if path is None and (branch is not None or at is not None or skip_conflicts):
        raise Problem(
            "--branch, --at and --skip-conflicts need a checkout.",
            "Name the checkout with --checkout.",
            Exit.USAGE,
        )
    if older or range_diff:
        _backports(release, output, names, author, number, path, bodies=bodies, range_diff=range_diff)
        return
    if release is None:
        raise Problem("The release to export is missing.", "Use --release or --backports.", Exit.USAGE)
    if output is None and path is None:
        raise Problem("The target of the export is missing.", "Use --output, --checkout or both.", Exit.USAGE)
    if bodies and output is None:
        raise Problem("--bodies needs a folder to write into.", "Add --output.", Exit.USAGE)
    project = checkout()
    with show.Bars() as bars:
        exported = command.export(
            project,
            project.releases.release(release),
            output,
            names,
            author=author,
            number=number,
            bodies=bodies,
            target=None if path is None else command.Target(path, branch, at or "HEAD", skip_conflicts),
            progress=bars,
        )
    _say(exported.files, exported.notes)
    for line in exported.told:
        show.out.print(escape(line), highlight=False, soft_wrap=True)
    for slug, reasons in exported.missing.items():
        for reason in reasons:
            show.err.print(escape(f"Left out: {slug}: {reason}"), highlight=False, soft_wrap=True)
    if exported.branch:
        without = f", without {', '.join(exported.missing)}" if exported.missing else ""
        show.out.print(
            escape(f"Created the branch {exported.branch} in {path}{without}."),
            highlight=False,
            soft_wrap=True,
        )


def _backports(
    release: str | None,
    output: Path | None,
    names: list[str] | None,
    author: str | None,
    number: int | None,
    path: Path | None,
    *,
    bodies: bool,
    range_diff: bool,
) -> None:
    if release is not None or path is not None:
        raise Problem(
            "--backports cannot be combined with --release or --checkout.",
            "Use --backports alone, or leave it out to export one release line.",
            Exit.USAGE,
        )
    if not names:
        raise Problem("--backports needs a patch to export.", "Name it with --patch.", Exit.USAGE)
    if output is None and not range_diff:
        raise Problem(
            "The target of the export is missing.", "Use --output, --range-diff or both.", Exit.USAGE
        )
    if bodies and output is None:
        raise Problem("--bodies needs a folder to write into.", "Add --output.", Exit.USAGE)
    project = checkout()
    with show.Bars() as bars:
        made = backports.backport(
            project, output, names, author=author, number=number, bodies=bodies, progress=bars
        )
    _say(made.files, made.notes)
    if range_diff:
        for span, difference in made.differences.items():
            show.out.print(f"{span}\n{escape(difference)}", highlight=False, soft_wrap=True)


def _say(files: Sequence[Path], notes: Sequence[str]) -> None:
    for path in files:
        show.out.print(escape(str(path)), highlight=False, soft_wrap=True)
    for note in notes:
        show.err.print(escape(note), highlight=False, soft_wrap=True)
