"""Print results: tables, progress bars and JSON."""

from __future__ import annotations

import json
import os
import stat
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from airflow_auth_patches.util.progress import Advance

#: The version of the JSON objects with the key ``schema``.
SCHEMA = 1
# A pipe or a log has no width, unless COLUMNS gives one. The tables are designed for 100 columns.
out = Console(width=None if sys.stdout.isatty() or os.environ.get("COLUMNS") else 100)
err = Console(stderr=True)


class Bars:
    """
    Progress bars on standard error, with the time elapsed and left, which disappear when the work ends.

    Without a terminal each task prints one line, so that a CI log shows which task takes the time.
    """

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=err,
            transient=True,
        )

    def __enter__(self) -> Bars:
        if err.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def line(self, text: str) -> None:
        """Print a permanent line above the bars."""
        self._bars.console.print(text, highlight=False, soft_wrap=True, markup=False)

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Advance]:
        """Show a task during a ``with`` block: see :class:`airflow_auth_patches.util.progress.Progress`."""
        if not err.is_terminal:
            err.print(title, highlight=False, soft_wrap=True)
        task = self._bars.add_task(title, total=total)
        try:
            yield lambda units: self._bars.advance(task, units)
        finally:
            self._bars.remove_task(task)


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output."""
    out.print(title, style="bold", highlight=False, soft_wrap=True)  # a path is not broken
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, head in enumerate(heads):
        grid.add_column(head, overflow="fold", no_wrap=number == 0)
    for row in rows:
        grid.add_row(*row)
    out.print(grid)


def say(text: str) -> None:
    """Print a text on standard output as it is: without markup, colours and line breaks."""
    out.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a text on standard error, as `say` does on standard output."""
    err.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def wrapped(text: str, width: int) -> list[str]:
    """Return a text as lines of at most a width, broken only at spaces."""
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def shortened(text: str, width: int) -> str:
    """Return the start of a text that fits into a line, cut at a space."""
    lines = wrapped(text, width)
    return text if len(lines) == 1 else f"{wrapped(text, width - 4)[0]} ..."


def as_json(value: Any) -> None:
    """Print a value as JSON on standard output, and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def leave_terminal() -> None:
    """Discard the output to a closed terminal, where each write would raise an error."""
    with open(os.devnull, "wb") as nowhere:
        for output in (1, 2):
            with suppress(OSError):
                if stat.S_ISCHR(os.fstat(output).st_mode):
                    os.dup2(nowhere.fileno(), output)


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """
    Return a Markdown table.

    :param head: the names of the columns.
    :param rows: the cells, as Markdown.
    """
    names = list(head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (names, ["---"] * len(names), *rows))
