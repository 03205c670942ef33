"""Raise signals as KeyboardInterrupt, without interrupting shielded blocks and without losing a signal."""

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
    The signals that this process received.

    :param shields: the number of active shielded blocks.
    :param asked: the last signal received; 0 for none.
    :param waiting: whether a signal arrived during a shielded block and was not raised yet.
    """

    shields: int = 0
    asked: int = 0
    waiting: bool = False


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Make SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread during a ``with`` block.

    The argument of the exception is the number of the signal. A signal that is ignored (by nohup, or in a
    background job of a shell) stays ignored.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            show.leave_terminal()
        _state.asked = number
        if _state.shields:
            _state.waiting = True
        else:
            raise KeyboardInterrupt(number)

    handled = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    _state.asked, _state.waiting = 0, False
    before = {each: signal.signal(each, ask) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def shield() -> Iterator[None]:
    """Delay interruptions until the end of a ``with`` block."""
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
    Raise KeyboardInterrupt if a signal was received, unless a shielded block is active.

    Call this in long loops: Python discards an exception that a signal handler raises inside a finalizer.
    """
    if _state.asked and not _state.shields:
        raise KeyboardInterrupt(_state.asked)


def run(work: Coroutine[Any, Any, T]) -> T:
    """
    Run a coroutine in a new event loop, as `asyncio.run` does.

    An interruption in a task leaves the loop. asyncio does not log it a second time for the task.
    """

    async def quiet() -> T:
        asyncio.get_running_loop().set_exception_handler(_ignore_interruptions)
        return await work

    return asyncio.run(quiet())


def _ignore_interruptions(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)
