"""How rooms tell of long work, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[float], None]


class Progress(Protocol):
    """Anything that can show a task while it goes on."""

    def task(self, title: str, total: float | None = None) -> AbstractContextManager[Advance]:
        """
        Show a task for the length of a ``with`` block.

        :param title: what is being done.
        :param total: how many units it takes, or ``None`` where that is not known.
        :return: a context manager that gives a function to call with the units done since the last call.
        """
        ...


class Silent:
    """Progress that nobody watches."""

    @contextmanager
    def task(self, title: str, total: float | None = None) -> Iterator[Advance]:
        yield lambda units: None
