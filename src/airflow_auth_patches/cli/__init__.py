"""The command line: it parses the arguments, calls a command and prints the result."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

from rich.markup import escape

from airflow_auth_patches.cli import (
    bench,
    breeze,
    demo,
    export,
    inspection,
    lint,
    listing,
    loaded,
    operator,
    series,
    upstream,
    verification,
)
from airflow_auth_patches.cli.common import app
from airflow_auth_patches.util import preconditions, show, signals
from airflow_auth_patches.util.errors import TRACEBACK, Problem, unexpected, without_credentials

__all__ = [
    "app",
    "bench",
    "breeze",
    "demo",
    "export",
    "inspection",
    "lint",
    "listing",
    "loaded",
    "main",
    "operator",
    "series",
    "upstream",
    "verification",
]


def main() -> None:
    """Run the command line. An error is printed, and the process exits with its exit code."""
    with signals.interruptible():
        try:
            app()
        except Problem as problem:
            _report(problem)
        except signals.Interrupted:
            show.note("Interrupted.")
            raise
        except Exception as error:
            if os.environ.get(TRACEBACK):
                sys.stderr.write(without_credentials(traceback.format_exc()))
            _report(preconditions.explained(error) or unexpected(error))


def _report(problem: Problem) -> NoReturn:
    if "--json" in sys.argv[1:]:
        error = {"what": problem.what, "remedy": problem.remedy, "exit_code": int(problem.exit_code)}
        show.as_json({"schema": show.SCHEMA, "error": error})
    show.err.print(f"[bold red]{escape(problem.what)}[/]", soft_wrap=True, highlight=False)
    if problem.remedy:
        show.note(problem.remedy)
    sys.exit(int(problem.exit_code))
