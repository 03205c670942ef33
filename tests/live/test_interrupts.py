"""Signals are raised as KeyboardInterrupt."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Iterator

import pytest

from airflow_auth_patches.demo.interrupts import SIGNALS, check, interruptible, run, shield
from airflow_auth_patches.util import show


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "leave_terminal", lambda: None)  # keep the terminal of the test run


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in SIGNALS}
    yield
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


@pytest.mark.parametrize("number", SIGNALS)
def test_raises_keyboard_interrupt_for_each_signal(number: signal.Signals) -> None:
    with interruptible(), pytest.raises(KeyboardInterrupt) as interrupt:
        signal.raise_signal(number)
    assert interrupt.value.args == (number,)


def test_shield_delays_interruption_to_end_of_block() -> None:
    done = []

    def work() -> None:
        with shield():
            signal.raise_signal(signal.SIGTERM)
            with shield():
                signal.raise_signal(signal.SIGTERM)
                done.append("inner")
            check()
            done.append("outer")

    with interruptible():
        with pytest.raises(KeyboardInterrupt) as interrupt:
            work()
        assert interrupt.value.args == (signal.SIGTERM,)
        with shield():
            done.append("not raised twice")
    assert done == ["inner", "outer", "not raised twice"]


def test_check_raises_interruption_that_python_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: lost.append(unraisable.exc_type))

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with interruptible():
        check()
        last = Finalized()
        del last
        assert lost == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt) as interrupt:
            check()
        assert interrupt.value.args == (signal.SIGTERM,)


def test_asyncio_does_not_log_interrupted_task(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(error: Exception | None = None) -> None:
        if error:
            raise error
        signal.raise_signal(signal.SIGTERM)

    async def work(error: Exception | None = None) -> None:
        task = asyncio.create_task(fail(error))
        await asyncio.wait([task])

    with interruptible(), pytest.raises(KeyboardInterrupt):
        run(work())
    gc.collect()
    assert caplog.messages == []
    run(work(ValueError("logged")))
    gc.collect()
    assert "Task exception was never retrieved" in caplog.text


def test_new_block_ignores_earlier_signal() -> None:
    with interruptible(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with interruptible():
        check()


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
            check()
    finally:
        signal.signal(signal.SIGHUP, before)
