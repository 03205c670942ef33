"""Programs that this tool starts: with each ends what it has started, and at an interruption all end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from airflow_auth_patches.util import processes
from airflow_auth_patches.util.errors import Problem

#: Says that it began, in a pipe that it and all that it starts hold open.
HOLDS = "exec 3>{pipe}; echo begun >&3; tail -f /dev/null >/dev/null 2>&1 & wait"
#: The same, and only says so when it is asked to end.
DEAF = "exec 3>{pipe}; trap 'echo asked >&3' TERM; echo begun >&3; while :; do tail -f /dev/null & wait; done"
#: The same, and ends when it reads a line from another pipe.
SLOW = (
    "exec 3>{pipe}; trap 'echo asked >&3; read x <{go}; exit' TERM; echo begun >&3; tail -f /dev/null & wait"
)
ALONE = """
import signal, sys
from airflow_auth_patches import cli
from airflow_auth_patches.util import processes

processes.GRACE = float(sys.argv[2])
cli.app = lambda: processes.attempt(["sh", "-c", sys.argv[1]])
cli.main()
"""
IN_THREADS = """
import os, signal, sys
from airflow_auth_patches import cli
from airflow_auth_patches.util import processes

processes.GRACE = 120

def work():
    try:
        processes.attempt(["sh", "-c", sys.argv[1]])
    finally:
        os.write(1, b"back\\n")  # in one piece: print writes the text and its end apart

def app():
    try:
        with processes.workers(2) as pool:
            [pool.submit(work) for _ in range(4)][0].result()
    finally:
        print("cleared", flush=True)

cli.app = app
cli.main()
"""

AT_START = """
import os, signal, sys, threading
from airflow_auth_patches import cli
from airflow_auth_patches.util import processes

begin = threading.Thread.start
threading.Thread.start = lambda thread: (begin(thread), signal.raise_signal(signal.SIGINT))

cleared = threading.Event()

def work():
    cleared.wait(2)  # a pool that waits for its thread clears afterwards, so this ends by its time-out
    os.write(1, b"back\\n")

def app():
    try:
        with processes.workers(1) as pool:
            pool.submit(work)
    finally:
        os.write(1, b"cleared\\n")
        cleared.set()

cli.app = app
cli.main()
"""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


class Reader(threading.Thread):
    """Reads a pipe until nobody holds it open any more."""

    def __init__(self, pipe: Path) -> None:
        super().__init__(daemon=True)
        self.pipe, self.lines = pipe, 0
        self.came = threading.Condition()
        self.start()

    def run(self) -> None:
        with self.pipe.open() as file:
            for _ in file:
                with self.came:
                    self.lines += 1
                    self.came.notify_all()

    def wait_for(self, lines: int) -> None:
        with self.came:
            assert self.came.wait_for(lambda: self.lines >= lines, timeout=120)

    def ended(self) -> bool:
        self.join(120)
        return not self.is_alive()


def start(script: str, *words: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script, *words], **pipes)


def test_a_program_that_takes_too_long_ends_with_all_that_it_started(pipe):
    reader = Reader(pipe)
    ours = os.open(pipe, os.O_RDWR)  # a busy machine may not start the program in this time
    with pytest.raises(Problem, match="timed out after 1 s and was stopped"):
        processes.attempt(["sh", "-c", HOLDS.format(pipe=pipe)], timeout=1)
    os.close(ours)
    assert reader.ended()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_this_process_alone_ends_all_that_it_started(number, pipe):
    reader = Reader(pipe)
    with start(ALONE, HOLDS.format(pipe=pipe), "5") as process:
        reader.wait_for(1)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (128 + number, "Interrupted.\n")
    assert reader.ended()


def test_a_program_that_does_not_end_when_asked_is_ended(pipe):
    reader = Reader(pipe)
    with start(ALONE, DEAF.format(pipe=pipe), "0.2") as process:
        reader.wait_for(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert reader.ended()


def test_an_interruption_ends_the_programs_of_all_threads_and_a_second_one_waits_for_them(pipe, tmp_path):
    reader, go = Reader(pipe), tmp_path / "go"
    os.mkfifo(go)
    ours = os.open(go, os.O_RDWR)
    with start(IN_THREADS, SLOW.format(pipe=pipe, go=go)) as process:
        reader.wait_for(2)
        process.send_signal(signal.SIGINT)
        reader.wait_for(4)
        process.send_signal(signal.SIGINT)
        os.write(ours, b"\n\n")
        told, _ = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 128 + signal.SIGINT
    *ended, last = told.split()
    assert ({*ended}, last) == ({"back"}, "cleared")
    assert reader.ended()
    assert reader.lines == 4  # two were never begun


def test_a_signal_while_a_thread_starts_does_not_lose_the_thread():
    """The signal arrives when the thread runs and the pool has not noted it yet."""
    with start(AT_START) as process:
        told, said = process.communicate(timeout=120)
    assert (process.returncode, said) == (128 + signal.SIGINT, "Interrupted.\n")
    assert told.split() == ["back", "cleared"]


def test_an_error_lets_what_has_begun_end_by_itself():
    done: list[str] = []
    begun = threading.Event()

    def work() -> None:
        begun.set()
        done.append(processes.run(["sh", "-c", "read line; echo $line"], stdin="whole\n"))

    def fail() -> None:
        with processes.workers(1) as pool:
            pool.submit(work)
            pool.submit(work)
            assert begun.wait(30)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert done == ["whole\n"]


def test_a_program_after_an_interruption_runs():
    with pytest.raises(KeyboardInterrupt), processes.workers(1):
        raise KeyboardInterrupt
    assert processes.run(["echo", "x"]) == "x\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
