"""The commands behind breeze-scripts: apply-to-checkout, start-fab, verify, stop."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from airflow_auth_patches.cli.common import (
    UPSTREAM,
    Author,
    Json,
    Names,
    SkipConflicts,
    app,
    live_packages,
    option,
)
from airflow_auth_patches.contribute import breeze as command
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Exit

breeze = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Run a branch with patches in Breeze. [b]breeze-scripts/[/] calls these commands.\n\n"
    "Example: breeze-scripts/start-fab ~/airflow",
    epilog=(
        "Exit codes: 0 done; 1 a probe of verify did not end as expected; 2 unknown value for an argument, a "
        "missing program, or no proof by verify that the patched code runs; 6 Docker does not respond; "
        "130 interrupted. apply-to-checkout, start-fab and stop exit with the code of the command that they "
        "call."
    ),
)
app.add_typer(breeze, name="breeze", rich_help_panel=UPSTREAM)

Checkout = Annotated[Path, typer.Argument(metavar="CHECKOUT", help="A git checkout of Airflow.")]
Base = Annotated[
    str | None,
    option(
        "--base", "The base of the branch; by default the nearest of upstream's branches and tags.", "REF"
    ),
]
DryRun = Annotated[bool, option("--dry-run", "Print the commands without running them.")]


def _print(*lines: Sequence[object]) -> None:
    for words in lines:
        show.say(shlex.join(map(str, words)))


def _run(step: command.Step, dry_run: bool) -> None:
    if not dry_run:
        command.ready(step)
    for note in step.notes:
        show.note(note)
    _print(("cd", step.folder), step.words)
    if not dry_run:
        command.become(step)


@breeze.command("apply-to-checkout")
def apply_to_checkout(
    checkout: Checkout,
    release: Annotated[
        str | None,
        option(
            "--release",
            "The release whose forms to use, as in apache-airflow-core==3.3.2; by default the newest "
            "that fits.",
            "RELEASE",
        ),
    ] = None,
    names: Names = None,
    branch: Annotated[str | None, option("--branch", "The name of the branch.", "NAME")] = None,
    author: Author = None,
    skip_conflicts: SkipConflicts = False,
    dry_run: DryRun = False,
) -> None:
    """
    Put patches on a branch of an Airflow checkout, with `export --checkout`.

    Without --patch, the branch gets all patches for the release. Without --release and --patch, it gets those
    for core.

    Example: breeze-scripts/apply-to-checkout --patch auth-manager-singleton ~/airflow
    """
    project = load_project()
    step = command.apply_to_checkout(
        project,
        checkout,
        release=release,
        names=names,
        name=branch,
        author=author,
        skip_conflicts=skip_conflicts,
    )
    if dry_run:
        _print(step.words)
        return
    command.become(step)


@breeze.command("start-fab")
def start_fab(
    checkout: Checkout = Path("."),
    branch: Annotated[
        str | None, option("--branch", "Stop if another branch is checked out.", "NAME")
    ] = None,
    base: Base = None,
    core: Annotated[
        bool | None,
        typer.Option(
            "--core/--provider",
            help="The distribution to run; by default the one that the branch changed.",
            show_default=False,
        ),
    ] = None,
    backend: Annotated[str, option("--backend", "postgres, mysql or sqlite.", "NAME")] = "postgres",
    version: Annotated[
        str | None, option("--backend-version", "The version of PostgreSQL or MySQL.", "VERSION")
    ] = None,
    auth_manager: Annotated[
        str, option("--auth-manager", "Breeze's option of that name.", "NAME")
    ] = "FabAuthManager",
    executor: Annotated[str, option("--executor", "Breeze's option of that name.", "NAME")] = "LocalExecutor",
    airflow: Annotated[
        str | None,
        option(
            "--use-airflow-version",
            "The version of core for a changed provider; by default the newest release.",
            "X.Y.Z",
        ),
    ] = None,
    connections: Annotated[
        bool, option("--load-default-connections", "Load Airflow's default connections.")
    ] = False,
    examples: Annotated[bool, option("--load-example-dags", "Load the example Dags.")] = False,
    db_reset: Annotated[bool, option("--db-reset", "Empty the database first.")] = False,
    answer: Annotated[str | None, option("--answer", "The answer to all questions.", "y")] = None,
    multiplexer: Annotated[
        str | None, option("--terminal-multiplexer", "dekit (before: mprocs) or tmux.", "NAME")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """
    Start Airflow in Breeze with the changes of a branch.

    If the branch changed core, all sources are mounted. If it changed only the FAB provider, the providers
    are mounted on a released core. Breeze checks the values of its options.

    Example: breeze-scripts/start-fab --backend mysql --backend-version 8.4 --dry-run ~/airflow
    """
    project = load_project()
    options = {
        "--backend": backend,
        f"--{backend}-version": version,
        "--auth-manager": auth_manager,
        "--executor": executor,
        "--terminal-multiplexer": multiplexer,
        "--answer": answer,
        "--load-default-connections": connections,
        "--load-example-dags": examples,
        "--db-reset": db_reset,
    }
    step = command.start(
        project.releases, checkout, options, name=branch, base=base, core=core, airflow=airflow
    )
    _run(step, dry_run)


@breeze.command()
def stop(checkout: Checkout = Path("."), dry_run: DryRun = False) -> None:
    """
    Stop Airflow in Breeze, with `breeze down`.

    Example: breeze-scripts/stop ~/airflow
    """
    _run(command.stop(checkout), dry_run)


@breeze.command()
def verify(
    url: Annotated[
        str, option("--url", "The URL of the API server, on this machine.", "URL")
    ] = f"http://127.0.0.1:{command.PORT}",
    checkout: Annotated[
        Path | None, option("--checkout", "The Airflow checkout that the server runs.", "PATH")
    ] = None,
    branch: Annotated[
        str | None, option("--branch", "The branch; by default the one that is checked out.", "NAME")
    ] = None,
    base: Base = None,
    python: Annotated[
        Path | None,
        option(
            "--python",
            "The interpreter of a server without Breeze; with --container, the one in the container.",
            "PATH",
        ),
    ] = None,
    container: Annotated[
        str | None,
        option("--container", "The container; by default the one that publishes the port.", "NAME"),
    ] = None,
    names: Names = None,
    unpatched: Annotated[
        bool,
        option("--unpatched", "Check instead that each probe fails on a server without the patches."),
    ] = False,
    username: Annotated[str, option("--username", "The user name of an administrator.")] = "admin",
    password: Annotated[
        str, typer.Option("--password", envvar="AIRFLOW_AUTH_PATCHES_PASSWORD", help="The password.")
    ] = "admin",
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """
    Check that an API server runs the patched code, then probe it for each patch.

    A probe locks a table of its database or fills its pool, for example. docs/breeze.md describes the probes
    and the check of the code. With --unpatched, on the base commit, each probe must fail.

    Exit codes: 0 as expected; 1 a probe did not end as expected; 2 the server does not run the patched code,
    this cannot be checked, or unknown value for an argument.

    Example: breeze-scripts/verify --checkout ~/airflow
    """
    with live_packages("The verification"):
        from airflow_auth_patches.contribute import verify as proving
        from airflow_auth_patches.contribute.expected import Subject, expect, expect_none
    project = load_project()
    subject = Subject(checkout, branch, base, python, container, names)
    with show.Bars() as bars:
        if dry_run:
            expected = (expect_none if unpatched else expect)(subject, project, bars)
            for line in proving.lines(url, subject, expected, project):
                show.say(line)
            return
        proof = proving.prove(url, subject, project, bars, patched=not unpatched)
        show.note(str(proof))
        wanted = proving.chosen(proof.expected, subject, project)
        user = {"username": username, "password": password}
        seen = list(proving.observe(url, proof, wanted, user, bars))
    if json:
        show.as_json(proving.as_data(proof, seen))
    else:
        show.table(
            url,
            ("probe", "outcome", "observation"),
            [(each.name, each.outcome, escape(each.sees)) for each in seen],
        )
    raise typer.Exit(Exit.OK if all(each.passed for each in seen) else Exit.FAULT)
