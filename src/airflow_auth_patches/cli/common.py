"""The application, the arguments and the helpers that the commands share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from airflow_auth_patches.installation.status import State, state_of
from airflow_auth_patches.series.affected import Status
from airflow_auth_patches.series.project import Project, load_project
from airflow_auth_patches.series.series import default_folder
from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem

EPILOG = (
    "Exit codes: 0 done; 1 a fault, or an outcome that is not cured or not shown; "
    "2 unknown value for an argument, or a missing program; "
    "3 refused, nothing was changed; 4 a release could not be fetched; "
    "5 a fetched file does not have the pinned hash; "
    "6 a called program failed, and its changes were undone; "
    "7 the installation is damaged: run `repair`; "
    "70 an unexpected error; "
    "129, 130, 143 interrupted (SIGHUP, Ctrl-C, SIGTERM)."
)
OPERATORS = "Operators: fix an installed Airflow"
ENGINEERS = "Engineers: see the bugs and their fixes"
AUTHORS = "Authors of the series: change and test patches"
UPSTREAM = "Contributors to apache/airflow: send a patch"
#: The groups of commands in the help, in this order.
GROUPS = (OPERATORS, ENGINEERS, AUTHORS, UPSTREAM)


class Grouped(TyperGroup):
    """Lists the commands by group."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of :data:`GROUPS`."""
        panels = {name: getattr(command, "rich_help_panel", None) for name, command in self.commands.items()}
        return sorted(super().list_commands(ctx), key=lambda name: GROUPS.index(panels[name]))


class Inspecting(TyperCommand):
    """A command that exits with the codes of `State` if an option asks for them, also after an error."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Exit code 2, for a wrong one, would mean damaged."""
        asked = not {"--check", "--exit-code"}.isdisjoint(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if asked and getattr(error, "exit_code", None) == Exit.USAGE:
                error.exit_code = State.CANNOT_TELL  # type: ignore[attr-defined]
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Problem as problem:
            if ctx.params.get("check") or ctx.params.get("exit_code"):
                problem.exit_code = Exit(state_of(problem))
            raise


app = typer.Typer(
    cls=Grouped,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    epilog=EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"airflow-auth-patches {version('airflow-auth-patches')}")
        raise typer.Exit


@app.callback()
def common_options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """
    Patches for the authentication path of Apache Airflow's API server.

    Example: airflow-auth-patches status --python /opt/airflow/bin/python
    """


def interpreter(text: str) -> Path:
    """
    Return the absolute path of an interpreter, with symbolic links, because a resolved path would leave the
    environment.

    :param text: a path, or a name without a folder, which is searched on ``PATH``.
    """
    on_path = None if os.sep in text else shutil.which(text)
    return Path(on_path or text).absolute()


def own_interpreter() -> Path:
    """Return the interpreter of the environment that this tool runs in, with symbolic links."""
    return Path(sys.executable).absolute()


def option(name: str, description: str, metavar: str | None = None, **settings: Any) -> Any:
    """Return an option, which `typer.Option` describes; without `metavar` it is a flag."""
    return typer.Option(name, help=description, metavar=metavar, **settings)


Json = Annotated[bool, option("--json", "Print JSON instead of a table.")]


def python_option(description: str) -> Any:
    """Return the option that names the interpreter of an installed Airflow."""
    return option("--python", description, "PATH", parser=interpreter, show_default=False)


Python = Annotated[Path, python_option("The interpreter of the installed Airflow: venv/bin/python.")]
ReleaseName = Annotated[
    str, typer.Argument(metavar="RELEASE", help="As in apache-airflow-core==3.3.2.", show_default=False)
]
Names = Annotated[
    list[str] | None, option("--patch", "Use only this patch; can be repeated.", "NAME", show_default=False)
]
Author = Annotated[
    str | None, option("--author", "The author of the commits; by default git's user.", "'NAME <MAIL>'")
]
Release = Annotated[str | None, option("--release", "As in apache-airflow-core==3.3.2.", "RELEASE")]
PythonVersion = Annotated[str, option("--python", "The Python version.", "X.Y")]
SkipConflicts = Annotated[
    bool, option("--skip-conflicts", "Create the branch without the patches that do not apply.")
]
All = Annotated[bool, option("--all", "Include optional patches and patches with a trade-off.")]


def checkout_folder() -> Path:
    """
    Return the folder of the checkout of this project.

    :raises Problem: if the tool is installed without a checkout.
    """
    root = default_folder().parent
    if not (root / "pyproject.toml").is_file():
        raise UsageProblem(
            "This command needs a checkout of the project, but the tool is installed without one.",
            "Clone the project and run `make setup`.",
        )
    return root


def checkout() -> Project:
    """
    Read this project from its checkout.

    :raises Problem: if the tool is installed without a checkout, or a file is missing or broken.
    """
    return load_project(checkout_folder())


@contextmanager
def live_packages(what: str) -> Iterator[None]:
    """
    Report a package of the extra ``live`` that is not installed, in a ``with`` block that imports modules.

    :param what: what needs the package, for the message.
    :raises Problem: if a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageProblem(
            f"{what} needs {error.name}, which is not installed.",
            "Run `make setup` in a checkout and use its .venv, or install airflow-auth-patches[live].",
        ) from error


def one_of(names: list[str] | None, everything: bool) -> None:
    """
    Check that --patch and --all are not combined.

    :raises Problem: if they are.
    """
    if names and everything:
        raise UsageProblem("--all and --patch cannot be combined.", "Use one of them.")


def coloured(status: str) -> str:
    """Return an affected status with its colour: red for a fault, yellow if there is no patch."""
    colour = {
        Status.PATCHED: "green",
        Status.KNOWN_ISSUE: "yellow",
        Status.NOT_AFFECTED: "dim",
        Status.FIXED: "dim",
    }
    return f"[{colour.get(Status(status), 'bold red')}]{status}[/]"
