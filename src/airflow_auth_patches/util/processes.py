"""
Run another program, and say clearly when it fails.

A program has a process group of its own, so that all that it starts ends with it: at its time-out, and when
this process is interrupted, which the terminal tells to us alone then.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from airflow_auth_patches.util.errors import Exit, Problem

#: Seconds that a program has to end by itself when it is told to.
GRACE = 5.0


class _Programs:
    """The programs that run now; where they are being stopped, none is started."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.live: set[subprocess.Popen[str]] = set()
        self.stopping = 0


_programs = _Programs()


def program(name: str, remedy: str) -> Path:
    """
    Return the path of a program: beside this Python, else on ``PATH``.

    :param remedy: how to get it.
    :raises Problem: when there is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise Problem(f"{name} was not found.", remedy, Exit.USAGE)
    return Path(found)


def attempt(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 600,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """
    Run a program to its end, whatever that is; it ends with all that it has started where this is ended.

    :param command: the program and its arguments.
    :param cwd: the folder to run it in.
    :param env: variables to add to this process's own; ``None`` takes one out.
    :param timeout: seconds after which it is ended.
    :param stdin: text for its standard input.
    :return: its exit code and what it printed.
    :raises Problem: when it cannot be started, takes too long, or all are being stopped.
    """
    words = [str(word) for word in command]
    variables = {**os.environ, **(env or {})}
    process: subprocess.Popen[str] | None = None
    try:
        with _undisturbed() as came, _programs.lock:  # else a signal might leave one that nobody ends
            if _programs.stopping:
                raise Problem(f"{' '.join(words[:4])} was not started: interrupted.", "", Exit.FAILED)
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env={name: value for name, value in variables.items() if value is not None},
                stdin=None if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            _programs.live.add(process)
        for number in came:
            signal.raise_signal(number)
        output, errors = process.communicate(stdin, timeout)
    except FileNotFoundError as error:
        raise Problem(f"{words[0]} was not found.", "Install it, or put it on PATH.", Exit.USAGE) from error
    except subprocess.TimeoutExpired as error:
        raise Problem(
            f"{' '.join(words[:4])} took longer than {timeout:.0f} s and was ended.", "", Exit.FAILED
        ) from error
    finally:
        if process is not None:
            if process.returncode is None:
                _end([process])
            _programs.live.discard(process)
            with suppress(OSError), process:
                pass  # its pipes are closed
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def _end(processes: Sequence[subprocess.Popen[str]]) -> None:
    """End programs and all that they have started: at first they are asked to."""
    try:
        for process in processes:
            _tell(process, signal.SIGTERM)
        until = time.monotonic() + GRACE
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
    finally:  # also at a second interruption
        for process in processes:
            _tell(process, signal.SIGKILL)


def _tell(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: of a group that is all dead
        os.killpg(process.pid, number)


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """
    Work in threads that run programs, and leave none of either behind.

    What has not begun at an error never does. At an interruption, which only the main thread sees, all
    programs of this process are ended, so that the threads come back at once; another one meanwhile waits.

    :param count: how many threads.
    """
    pool = ThreadPoolExecutor(count)
    try:
        try:
            yield pool
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown(cancel_futures=True)
    except Exception:
        raise
    except BaseException:
        main = threading.current_thread() is threading.main_thread()
        with _undisturbed(), _stopped() if main else nullcontext():
            pool.shutdown(cancel_futures=True)
        raise


@contextmanager
def _stopped() -> Iterator[None]:
    """End all programs of this process, and start none for the length of a block."""
    with _programs.lock:
        _programs.stopping += 1
        live = list(_programs.live)
    try:
        _end(live)
        yield
    finally:
        with _programs.lock:
            _programs.stopping -= 1


@contextmanager
def _undisturbed() -> Iterator[list[int]]:
    """
    Let no signal interrupt the main thread for the length of a block; other threads see none anyway.

    :return: filled with those that came.
    """
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if callable(handler := signal.getsignal(number)):
                    before[number] = handler
                    signal.signal(number, lambda number, _: came.append(number))
        yield came
    finally:
        try:
            _restore(before)
        except BaseException:  # one that came when only some were back
            _restore(before)
            raise


def _restore(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 600,
    stdin: str | None = None,
) -> str:
    """
    Run a program that must succeed; the arguments are those of :func:`attempt`.

    :return: its standard output.
    :raises Problem: when it fails too; with the end of what it printed.
    """
    done = attempt(command, cwd=cwd, env=env, timeout=timeout, stdin=stdin)
    if done.returncode:
        tail = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        words = " ".join(map(str, command[:4]))
        raise Problem(f"{words} failed with exit code {done.returncode}:\n{tail}", "", Exit.FAILED)
    return done.stdout
