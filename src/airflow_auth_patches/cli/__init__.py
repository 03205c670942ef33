"""The command line: it parses the arguments, calls a command and prints the result."""

from __future__ import annotations

import sys

from rich.markup import escape

from airflow_auth_patches.cli import (
    bench,
    breeze,
    demo,
    export,
    lint,
    matrix,
    operator,
    series,
    upstream,
)
from airflow_auth_patches.cli.common import app
from airflow_auth_patches.util import show, signals
from airflow_auth_patches.util.errors import Problem

__all__ = [
    "app",
    "bench",
    "breeze",
    "demo",
    "export",
    "lint",
    "main",
    "matrix",
    "operator",
    "series",
    "upstream",
]


def main() -> None:
    """Run the command line. A `Problem` is printed, and the process exits with its exit code."""
    with signals.interruptible():
        try:
            app()
        except Problem as problem:
            show.err.print(f"[bold red]{escape(problem.what)}[/]", soft_wrap=True, highlight=False)
            if problem.remedy:
                show.err.print(escape(problem.remedy), soft_wrap=True, highlight=False)
            sys.exit(int(problem.exit_code))
        except signals.Interrupted:
            show.err.print("Interrupted.")
            raise
