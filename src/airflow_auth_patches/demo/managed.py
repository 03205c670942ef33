"""Start managed processes. They always end with this process, each in a separate process group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.signals import shield

MANAGER = Path(__file__).with_name("process_manager.py")

_running: set[ManagedProcess] = set()


@contextlib.contextmanager
def all_stopped() -> Iterator[None]:
    """Stop all running managed processes at the end of a block, also those that a signal left running."""
    try:
        yield
    finally:
        stop_all()


def stop_all() -> None:
    """Stop all running managed processes, at the same time."""
    with shield():
        programs = tuple(_running)
        for program in programs:
            program.ask()
        for program in programs:
            program.stop()


class ManagedProcess(contextlib.AbstractContextManager["ManagedProcess"]):
    """
    A managed process. It is stopped at the end of a ``with`` block, or when this process ends in any way.

    A program that cannot be started ends with the exit code 127.

    :param command: the program and its arguments.
    :param env: the complete environment.
    :param cwd: the working folder.
    :param log: the file to which its output is appended.
    :param stop_signal: the signal that asks it to end.
    :param grace: seconds between that signal and ``SIGKILL`` for its process group.
    :param user: the name of the user to run it as; only root can set it.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 5,
        user: str | None = None,
    ) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self._grace = grace
        manager = [sys.executable, "-I", str(MANAGER), str(int(stop_signal)), str(grace), user or "-"]
        with shield(), log.open("ab") as output:
            self._manager = subprocess.Popen(
                manager + self.command,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            _running.add(self)

    @property
    def running(self) -> bool:
        """Whether the program is still running."""
        return self._manager.poll() is None

    def wait(self, timeout: float) -> int:
        """
        Wait for the program to end.

        :param timeout: seconds to wait.
        :return: the exit code; 128 + n if signal n ended it, 127 if it could not be started.
        :raises subprocess.TimeoutExpired: when it is still running.
        """
        code = self._manager.wait(timeout)
        self.stop()
        return code

    def finish(self, timeout: float, name: str) -> None:
        """
        Wait for the program to end successfully.

        :param timeout: seconds after which it is stopped.
        :param name: the name of the work, for the error message.
        :raises Problem: when it fails or takes longer; the message has the last lines of its output.
        """
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise Problem(
                f"{name} took longer than {timeout:.0f} s and was stopped:\n{self.tail()}",
                "Run it again on an idle machine.",
                Exit.FAILED,
            ) from error
        if code:
            raise Problem(
                f"{name} failed with exit code {code}:\n{self.tail()}",
                "Correct the error above and run it again.",
                Exit.FAILED,
            )

    def ask(self) -> None:
        """Ask the program to end. Its group is killed after the grace period."""
        if self._manager.stdin is not None:
            self._manager.stdin.close()

    def stop(self) -> None:
        """Ask the program to end, wait for the grace period, and kill its group. Does nothing if it ended."""
        with shield():
            if self not in _running:
                return  # the system may have reused the id of its process group
            self.ask()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._manager.wait(self._grace + 5)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._manager.pid, signal.SIGKILL)
            self._manager.wait(10)
            _running.discard(self)

    def memory(self) -> int:
        """Return the total resident memory of the process group, in bytes."""
        total = 0
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):  # the process ended
                if os.getpgid(process.pid) == self._manager.pid:
                    total += process.memory_info().rss
        return total

    def tail(self, lines: int = 15) -> str:
        """
        Return the last lines of the program's output.

        :param lines: the maximum number of lines.
        """
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __exit__(self, *_: object) -> None:
        self.stop()
