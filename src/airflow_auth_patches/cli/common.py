"""What the commands of the command line share: the application, its arguments, what they work on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from airflow_auth_patches.releases import releases
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series import series as series_room
from airflow_auth_patches.series.affected import Status
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Exit, Problem

EPILOG = (
    "Exit codes: 0 done; 1 a fault, or an outcome that is not cured or not shown; "
    "2 an argument that names nothing, or a program that is missing; "
    "3 refused, nothing was changed; 4 a release could not be fetched; "
    "5 a file is not the one that is pinned; "
    "6 a program that was called failed, and what it did was taken back; "
    "129, 130, 143 interrupted (SIGHUP, Ctrl-C, SIGTERM)."
)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Patches for the authentication path of Apache Airflow's API server.",
    epilog=EPILOG,
)


def interpreter(text: str) -> Path:
    """
    Return the absolute path of an interpreter; links are kept, as a resolved one would leave its environment.

    :param text: a path, or a name without a folder, which is looked for on ``PATH`` as a shell does.
    """
    on_path = None if os.sep in text else shutil.which(text)
    return Path(on_path or text).absolute()


Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Python = Annotated[
    Path,
    typer.Option(
        "--python",
        metavar="PATH",
        parser=interpreter,
        help="The interpreter of the installed Airflow: venv/bin/python.",
        show_default=False,
    ),
]
ReleaseName = Annotated[
    str, typer.Argument(metavar="RELEASE", help="As in apache-airflow-core==3.3.2.", show_default=False)
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--patch", metavar="NAME", help="Exactly this patch; may be given again.", show_default=False
    ),
]
All = Annotated[bool, typer.Option("--all", help="Optional ones and those with a trade-off too.")]


class Stopped(BaseException):
    """
    Ctrl-C, SIGTERM or SIGHUP: what is running cleans up as the exception passes, and the process ends.

    :param number: the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number


def known() -> tuple[Series, Pins]:
    series = series_room.load()
    return series, releases.load(series.folder)


def checkout() -> Path:
    folder = series_room.default_folder()
    root = folder.parent
    if not (root / "pyproject.toml").is_file():
        raise Problem(
            "This works on a checkout of the project, and the tool is installed without one.",
            "Clone the project and run `make setup`.",
            Exit.USAGE,
        )
    return root


def one_of(names: list[str] | None, everything: bool) -> None:
    if names and everything:
        raise Problem("--all and --patch exclude each other.", "Give one of them.", Exit.USAGE)


def coloured(status: str) -> str:
    """Return an affected status as it is printed: red for a fault, yellow where there is no patch."""
    colour = {
        Status.PATCHED: "green",
        Status.KNOWN_ISSUE: "yellow",
        Status.NOT_AFFECTED: "dim",
        Status.FIXED: "dim",
    }
    return f"[{colour.get(Status(status), 'bold red')}]{status}[/]"
