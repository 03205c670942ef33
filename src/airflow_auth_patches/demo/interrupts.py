"""Ctrl-C and SIGTERM as an exception that neither disturbs what must be done whole nor gets lost."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TypeVar

from airflow_auth_patches.util import show

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _State:
    """
    What the signals of this process have asked for.

    :param shields: how many shielded blocks are being run.
    :param asked: the last signal that came, 0 for none.
    :param waiting: whether one came during a shielded block and has not been raised yet.
    """

    shields: int = 0
    asked: int = 0
    waiting: bool = False


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Let SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread for the length of a block.

    Its one argument is the signal's number.
    A signal that is ignored (nohup, a shell's background job) stays so.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            show.leave_terminal()
        _state.asked = number
        if _state.shields:
            _state.waiting = True
        else:
            raise KeyboardInterrupt(number)

    heeded = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    _state.asked, _state.waiting = 0, False
    before = {each: signal.signal(each, ask) for each in heeded}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def shield() -> Iterator[None]:
    """Run a block to its end, and only then raise what a signal has asked for meanwhile."""
    _state.shields += 1
    try:
        yield
    finally:
        _state.shields -= 1
        if _state.waiting and not _state.shields:
            _state.waiting = False
            raise KeyboardInterrupt(_state.asked)


def check() -> None:
    """
    Raise KeyboardInterrupt if a signal asked for it, unless shielded.

    Python loses an exception that a signal raises while an object is being finalized; to be called where
    work goes on for long.
    """
    if _state.asked and not _state.shields:
        raise KeyboardInterrupt(_state.asked)


def run(work: Coroutine[Any, Any, T]) -> T:
    """
    Run a coroutine in an event loop of its own, as `asyncio.run` does.

    An interruption that is raised in one of its tasks leaves the loop; asyncio does not tell of the task too.
    """

    async def quiet() -> T:
        asyncio.get_running_loop().set_exception_handler(_but_interruptions)
        return await work

    return asyncio.run(quiet())


def _but_interruptions(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)
