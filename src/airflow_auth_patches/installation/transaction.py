"""The one transaction that changes an installed Airflow: wheels in place of what is there, or nothing."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from airflow_auth_patches.installation.installed import Installation, Installed, as_wheel, verify
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.util.progress import Progress, Silent

#: What an operator may mean for this call too; every other setting of pip and uv is for other calls.
KEPT = ("PIP_BREAK_SYSTEM_PACKAGES", "UV_BREAK_SYSTEM_PACKAGES", "UV_CACHE_DIR", "UV_NO_CACHE")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def replace(
    installation: Installation,
    targets: Sequence[Installed],
    wheels: Sequence[Path],
    pins: Pins,
    progress: Progress | None = None,
    *,
    put_back: bool = True,
) -> None:
    """
    Install wheels in place of distributions, as a transaction.

    pip or uv installs them, touching no other package. If that fails, or what is there then is not what the
    wheels hold, what was installed is put back before the error goes on. In the main thread a signal ends
    neither of the two, as an installer that is ended leaves things about; what was installed is put back for
    it afterwards.

    :param targets: what is installed now.
    :param wheels: what to install, one for each.
    :param put_back: not, where the whole environment is thrown away when this fails.
    :raises Problem: FAILED, with what was put back; where that failed, with where its wheels are.
    """
    installer = _installer(installation)
    settings = _settings(os.environ)

    def install(what: Sequence[Path]) -> None:
        run([*installer, *what], env=settings)
        check(what)

    def check(what: Sequence[Path]) -> None:
        verify(installation.python, pins, what)

    if not put_back:
        install(wheels)
        return
    folder = Path(tempfile.mkdtemp(prefix="airflow-auth-patches-"))
    try:
        before = [as_wheel(found, folder) for found in targets]
        with _held() as came:
            try:
                with (progress or Silent()).task(
                    f"installing {', '.join(wheel.name.split('-')[0] for wheel in wheels)}"
                ):
                    install(wheels)
                if number := came():
                    raise _Interrupted(number)
            except BaseException as error:
                _put_back(install, check, installer, before, error)
                raise
    except _Lost:
        raise  # its remedy names the wheels
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, _Interrupted):
            signal.raise_signal(error.number)
        raise
    shutil.rmtree(folder, ignore_errors=True)


class _Lost(Problem):
    """What was installed is not there any more."""


class _Interrupted(BaseException):
    """A signal came."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by signal {number}")
        self.number = number


def _put_back(
    install: Callable[[Sequence[Path]], None],
    check: Callable[[Sequence[Path]], None],
    installer: Sequence[str | Path],
    before: Sequence[Path],
    error: BaseException,
) -> None:
    try:
        install(before)
    except BaseException as second:
        try:
            check(before)  # an installer that changes nothing has nothing to put back
        except Problem:
            raise _Lost(
                f"The installation failed ({error}), and what was there could not be put back ({second}).",
                f"Put it back by hand: {shlex.join(map(str, [*installer, *before]))}",
                Exit.FAILED,
            ) from error
    if isinstance(error, Problem):
        raise Problem(
            f"{error.what} What was installed before is back.", error.remedy, Exit.FAILED
        ) from error


def _installer(installation: Installation) -> list[str | Path]:
    if installation.pip:
        return [
            *(installation.python, "-I", "-m", "pip", "--disable-pip-version-check", "--quiet"),
            *("install", "--no-index", "--no-deps", "--force-reinstall", "--no-warn-script-location"),
        ]
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise Problem(
            f"{installation.python} has no pip, and uv was not found.", "Install either of them.", Exit.USAGE
        )
    return [
        *(found, "pip", "install", "--quiet", "--no-config", "--offline", "--no-index", "--no-deps"),
        *("--reinstall", "--python", installation.python),
    ]


def _settings(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return what takes the settings of pip and uv away: a target, a prefix or a dry run would mislead."""
    mine = [name for name in environment if name.startswith(("PIP_", "UV_")) and name not in KEPT]
    return {**dict.fromkeys(mine), "PIP_CONFIG_FILE": os.devnull}


@contextmanager
def _held() -> Iterator[Callable[[], int]]:
    """
    Hold signals back for the length of a block, from the programs that it starts too.

    Ctrl-C in a terminal is for all of them: they are started with the signals blocked. In this process
    another thread may take a signal all the same, so a handler keeps it.

    :return: a context manager that gives a function to call for the first signal that came, 0 for none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # signals are the main thread's
        return
    numbers: list[int] = []

    def came() -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # what is pending comes now
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        return numbers[0] if numbers else 0

    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    heeded = [number for number in SIGNALS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    handlers = {number: signal.signal(number, lambda got, _: numbers.append(got)) for number in heeded}
    try:
        yield came
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if numbers:
        signal.raise_signal(numbers[0])
