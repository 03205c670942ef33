"""Signals are raised as exceptions, after the blocks that they must not interrupt."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from airflow_auth_patches.util import show
from airflow_auth_patches.util.signals import SIGNALS, Interrupted, blocked, check, interruptible, run, shield


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "leave_terminal", lambda: None)  # keep the terminal of the test run


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = [signal.getsignal(each) for each in SIGNALS]
    yield
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_is_raised_with_its_exit_code(number):
    with interruptible(), pytest.raises(Interrupted) as interrupt:
        signal.raise_signal(number)
    assert interrupt.value.code == 128 + number


def test_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
            check()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_shield_delays_signals_to_its_end_and_raises_one():
    done = []

    def work() -> None:
        with shield():
            signal.raise_signal(signal.SIGINT)
            with shield():
                signal.raise_signal(signal.SIGTERM)
            check()
            done.append("work")

    with interruptible():
        with pytest.raises(Interrupted) as interrupt:
            work()
        assert interrupt.value.code == 128 + signal.SIGTERM
        with shield():
            done.append("not raised twice")
    assert done == ["work", "not raised twice"]


def test_error_in_shield_comes_first_and_the_signal_at_the_next_chance():
    def fail() -> None:
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("no")

    with interruptible():
        with pytest.raises(ValueError, match="no"), shield():
            fail()
        with pytest.raises(Interrupted), shield():
            pass


def test_shield_of_another_thread_does_not_delay_a_signal():
    begun, over = threading.Event(), threading.Event()

    def work() -> None:
        with shield():
            begun.set()
            over.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    with interruptible(), pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    over.set()
    thread.join(30)


def test_program_of_a_blocked_block_is_not_ended_by_signals():
    end_itself = "import os; [os.kill(os.getpid(), number) for number in (1, 2, 15)]"
    with blocked():
        assert subprocess.call([sys.executable, "-c", end_itself]) == 0
    assert subprocess.call([sys.executable, "-c", end_itself]) != 0


def test_check_raises_the_interruption_that_python_discarded(monkeypatch):
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: lost.append(unraisable.exc_type))

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with interruptible():
        check()
        last = Finalized()
        del last
        assert lost == [Interrupted]
        with pytest.raises(Interrupted):
            check()
    with interruptible():
        check()  # the signal of an earlier block


def test_signal_ends_run_and_is_not_logged_for_each_task(caplog):
    async def fail(error: Exception | None = None) -> None:
        if error:
            raise error
        signal.raise_signal(signal.SIGTERM)

    async def work(error: Exception | None = None) -> None:
        await asyncio.wait([asyncio.create_task(fail(error))])

    with interruptible(), pytest.raises(Interrupted):
        run(work())
    gc.collect()
    assert caplog.messages == []
    with interruptible():
        run(work(ValueError("logged")))
    gc.collect()
    assert "Task exception was never retrieved" in caplog.text
