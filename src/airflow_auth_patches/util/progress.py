"""Report the progress of long work, independently of how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float], None]


class Progress(Protocol):
    """An object that shows tasks while they run."""

    def task(self, title: str, total: float | None = None) -> AbstractContextManager[Advance]:
        """
        Show a task during a ``with`` block.

        :param title: what is being done.
        :param total: the number of units of work, or ``None`` if it is not known.
        :return: a context manager that gives a function. Call it with the number of units done since the
            last call.
        """
        ...


class Silent:
    """Progress that shows nothing."""

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Advance]:
        yield lambda units: None


SILENT: Progress = Silent()
