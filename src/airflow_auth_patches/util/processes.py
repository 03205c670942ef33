"""
Run other programs, and report clearly when they fail.

Each program runs in its own process group, so that its child processes end with it: on a time-out, and when
this process is interrupted. Ctrl-C reaches only this process.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from airflow_auth_patches.util import signals
from airflow_auth_patches.util.errors import Exit, Problem

#: Seconds between SIGTERM and SIGKILL.
GRACE = 5.0


_lock = threading.Lock()
_live: set[subprocess.Popen[str]] = set()
_stopping = threading.Event()


def program(name: str, remedy: str) -> Path:
    """
    Return the path of a program: in the folder of this Python interpreter, else on ``PATH``.

    :param name: the name of the program.
    :param remedy: how to install it, for the error message.
    :raises Problem: if it is not found.
    """
    sibling = Path(sys.executable).parent / name
    found = str(sibling) if sibling.exists() else shutil.which(name)
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
    pass_fds: Collection[int] = (),
) -> subprocess.CompletedProcess[str]:
    """
    Run a program until it ends, and accept any exit code.

    If this process is interrupted, the program and its child processes are stopped.

    :param command: the program and its arguments.
    :param cwd: the folder to run it in.
    :param env: variables to add to the environment of this process; ``None`` removes a variable.
    :param timeout: seconds after which the program is stopped.
    :param stdin: text for its standard input.
    :param pass_fds: descriptors of open files that it inherits.
    :return: the exit code and the output.
    :raises Problem: if the program cannot be started or times out, or if all programs are being stopped.
    """
    words = [str(word) for word in command]
    variables = {**os.environ, **(env or {})}
    process: subprocess.Popen[str] | None = None
    try:
        with signals.shield(), _lock:  # a signal in between could leave a program running
            if _stopping.is_set():
                raise Problem(
                    f"{' '.join(words[:4])} was not started, because this command is interrupted.",
                    "Run the command again.",
                    Exit.FAILED,
                )
            process = subprocess.Popen(
                words,
                cwd=cwd,
                env={name: value for name, value in variables.items() if value is not None},
                stdin=None if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                pass_fds=pass_fds,
            )
            _live.add(process)
        output, errors = process.communicate(stdin, timeout)
    except FileNotFoundError as error:
        raise Problem(f"{words[0]} was not found.", "Install it, or put it on PATH.", Exit.USAGE) from error
    except subprocess.TimeoutExpired as error:
        raise Problem(
            f"{' '.join(words[:4])} timed out after {timeout:.0f} s and was stopped.",
            "Run it in a terminal to see where it hangs.",
            Exit.FAILED,
        ) from error
    finally:
        if process is not None:
            with signals.shield():
                if process.returncode is None:
                    _end([process])
                _live.discard(process)
                with suppress(OSError), process:
                    pass  # the end of the block closes its pipes
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def _end(processes: Collection[subprocess.Popen[str]]) -> None:
    """Stop programs and their child processes: with SIGTERM, and after `GRACE` seconds with SIGKILL."""
    _tell(processes, signal.SIGTERM)
    until = time.monotonic() + GRACE
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
    _tell(processes, signal.SIGKILL)


def _tell(processes: Collection[subprocess.Popen[str]], number: int) -> None:
    for process in processes:
        # The group, because it also has child processes whose own parent has ended.
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: on macOS, for a dead group
            os.killpg(process.pid, number)


class _Pool(ThreadPoolExecutor):
    """A thread pool that waits for each of its threads: `submit` starts a thread, and only then notes it."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with signals.shield():  # a signal in between would leave a thread that nobody waits for
            return super().submit(function, *args, **kwargs)


@contextmanager
def workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """
    Run programs from threads, and leave neither threads nor programs running.

    After an error, work that has not started is cancelled. After an interruption, which only the main thread
    receives, all programs of this process are stopped, so that the threads return at once. Signals that
    arrive during that time are handled afterwards.

    :param count: the number of threads.
    :return: a context manager that gives the thread pool.
    """
    pool = _Pool(count)
    try:
        try:
            yield pool
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown(cancel_futures=True)
    except BaseException as error:
        if not isinstance(error, Exception):
            with signals.shield():
                if threading.current_thread() is threading.main_thread():
                    _stop_all(pool)
                pool.shutdown(cancel_futures=True)
        raise


def _stop_all(pool: ThreadPoolExecutor) -> None:
    """Stop all programs of this process, and start none until the threads of a pool have ended."""
    with _lock:
        _stopping.set()
        live = list(_live)
    pool.shutdown(wait=False, cancel_futures=True)
    _end(live)
    pool.shutdown()
    _stopping.clear()


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    timeout: float = 600,
    stdin: str | None = None,
    pass_fds: Collection[int] = (),
    remedy: str = "",
) -> str:
    """
    Run a program and check that it succeeds. The other arguments are those of :func:`attempt`.

    :param remedy: what to do when it fails, for the error message.
    :return: its standard output.
    :raises Problem: as :func:`attempt` does, or if the program fails. The message has the last lines of its
        output.
    """
    done = attempt(command, cwd=cwd, env=env, timeout=timeout, stdin=stdin, pass_fds=pass_fds)
    if done.returncode:
        tail = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-15:])
        words = " ".join(map(str, command[:4]))
        raise Problem(f"{words} failed with exit code {done.returncode}:\n{tail}", remedy, Exit.FAILED)
    return done.stdout
