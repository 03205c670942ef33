"""Raise signals as exceptions, and delay them in blocks that must not be interrupted."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_auth_patches.util import show

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(SystemExit):
    """
    A signal arrived. This process exits with 128 + its number, unless the exception is handled.

    :param number: the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@dataclass
class _State:
    """
    The signals that this process received.

    :param shields: the number of active shielded blocks.
    :param received: the last signal; 0 for none.
    :param waiting: whether a signal arrived during a shielded block and was not raised yet.
    """

    shields: int = 0
    received: int = 0
    waiting: bool = False


_state = _State()


@contextmanager
def interruptible() -> Iterator[None]:
    """
    Make SIGINT, SIGTERM and SIGHUP raise `Interrupted` in the main thread during a block.

    A signal that is ignored (by nohup, or in a background job of a shell) stays ignored.
    """

    def receive(number: int, _: object) -> None:
        if number == signal.SIGHUP:
            show.leave_terminal()
        _state.received = number
        if _state.shields:
            _state.waiting = True
        else:
            _interrupt()

    _state.received, _state.waiting = 0, False
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, receive) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def shield() -> Iterator[None]:
    """
    Delay interruptions of the main thread until the end of a block. Other threads are not interrupted anyway.

    If the block raises an exception, the signal is raised by the next call of `check` or shielded block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.shields += 1
    try:
        yield
    finally:
        _state.shields -= 1
    if waiting() and not _state.shields:
        _interrupt()


@contextmanager
def blocked() -> Iterator[None]:
    """Start the programs of a block with signals blocked, so that signals do not end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # pending signals arrive here


def waiting() -> bool:
    """Check whether a signal arrived during a shielded block and was not raised yet."""
    return _state.waiting


def check() -> None:
    """
    Raise `Interrupted` if a signal was received, unless a shielded block is active.

    Call this in long loops: Python discards an exception that a signal handler raises inside a finalizer.
    """
    if _state.received and not _state.shields:
        _interrupt()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop. asyncio does not log an interruption for each task."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(_ignore_interruptions)
        result = runner.run(work)
    check()
    return result


def _interrupt() -> None:
    _state.waiting = False
    raise Interrupted(_state.received)


def _ignore_interruptions(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Interrupted):
        loop.default_exception_handler(context)
