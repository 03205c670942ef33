"""Programs that never outlive this one: each in a process group of its own, under a manager."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from airflow_auth_patches.demo.interrupts import shield
from airflow_auth_patches.util.errors import Exit, Problem

MANAGER = Path(__file__).with_name("process_manager.py")


_running: set[ManagedProcess] = set()


@contextlib.contextmanager
def all_stopped() -> Iterator[None]:
    """Stop, at the end of a block, whatever runs still: what a signal kept from reaching its own block."""
    try:
        yield
    finally:
        with shield():
            for program in tuple(_running):
                program.stop()


class ManagedProcess:
    """
    A running program, stopped at the end of a ``with`` block or when this process ends in any way.

    One that cannot be started ends with the exit code 127.

    :param command: the program and its arguments.
    :param env: its whole environment.
    :param cwd: the folder to run it in.
    :param log: file that gets what it prints, appended.
    :param stop_signal: what asks it to end.
    :param grace: seconds between that and ``SIGKILL`` for its process group.
    :param user: name of the user to run it as; only root may give one.
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
    def group(self) -> int:
        """Id of the process group that the program and its manager share."""
        return self._manager.pid

    @property
    def running(self) -> bool:
        """Whether the program runs still."""
        return self._manager.poll() is None

    def wait(self, timeout: float) -> int:
        """
        Wait for the program to end by itself.

        :param timeout: seconds to wait.
        :return: its exit code; 128 + n where signal n ended it, 127 where it could not be started.
        :raises subprocess.TimeoutExpired: when it runs still.
        """
        code = self._manager.wait(timeout)
        self.stop()
        return code

    def finish(self, timeout: float, name: str) -> None:
        """
        Wait for the program to end well.

        :param timeout: seconds after which it is stopped.
        :param name: what it does, for the error.
        :raises Problem: when it fails or takes longer, with the end of what it printed.
        """
        try:
            code = self.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise Problem(
                f"{name} took longer than {timeout:.0f} s and was ended:\n{self.tail()}", "", Exit.FAILED
            ) from error
        if code:
            raise Problem(f"{name} failed with exit code {code}:\n{self.tail()}", "", Exit.FAILED)

    def stop(self) -> None:
        """Ask the program to end, wait for the grace, kill what is left; nothing when it has ended."""
        with shield():
            if self not in _running:
                return  # its process group may be another's by now
            if self._manager.stdin is not None:
                self._manager.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._manager.wait(self._grace + 5)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.group, signal.SIGKILL)
            self._manager.wait(10)
            _running.discard(self)

    def tail(self, lines: int = 15) -> str:
        """
        Tell the end of what the program printed.

        :param lines: how many lines at most.
        """
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> ManagedProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
