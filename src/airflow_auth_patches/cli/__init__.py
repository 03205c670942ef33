"""The command line: it parses the arguments, calls a command and prints the result."""

from __future__ import annotations

import signal
import sys

from rich.markup import escape

from airflow_auth_patches.cli import (
    breeze,
    demo,
    export,
    lint,
    matrix,
    operator,
    series,
    test_matrix,
    upstream,
)
from airflow_auth_patches.cli.common import Stopped, app
from airflow_auth_patches.util import show
from airflow_auth_patches.util.errors import Problem

__all__ = [
    "app",
    "breeze",
    "demo",
    "export",
    "lint",
    "main",
    "matrix",
    "operator",
    "series",
    "test_matrix",
    "upstream",
]


def _stop(number: int, _: object) -> None:
    if number == signal.SIGHUP:
        show.leave_terminal()
    raise Stopped(number)


def main() -> None:
    """Run the command line. A `Problem` is printed, and the process exits with its exit code."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _stop)
    try:
        app()
    except Problem as problem:
        show.err.print(f"[bold red]{escape(problem.what)}[/]", soft_wrap=True, highlight=False)
        if problem.remedy:
            show.err.print(escape(problem.remedy), soft_wrap=True, highlight=False)
        sys.exit(int(problem.exit_code))
    except Stopped as stopped:
        show.err.print("Interrupted.")
        sys.exit(128 + stopped.number)
