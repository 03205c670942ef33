"""Change an installed Airflow as a transaction: all wheels are installed, or nothing changes."""

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

#: The settings of pip and uv that also apply to this call; all others are ignored.
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
    Replace installed distributions by wheels, as a transaction.

    pip or uv installs the wheels and changes no other package. If that fails, or the installed files differ
    from the wheels, the previous distributions are restored before the error is raised. In the main thread,
    a signal does not stop the installer, because a stopped installer leaves an incomplete installation. The
    previous distributions are restored after the installer ends, and then the signal is handled.

    :param targets: the distributions that are installed now.
    :param wheels: the wheels to install, one for each.
    :param put_back: whether to restore the previous distributions after a failure. Use False if the whole
        environment is discarded then.
    :raises Problem: FAILED if the installation fails. If the restore also fails, the message has a command
        that restores the distributions by hand.
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
        raise  # keep the folder: the remedy names the wheels in it
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, _Interrupted):
            signal.raise_signal(error.number)
        raise
    shutil.rmtree(folder, ignore_errors=True)


class _Lost(Problem):
    """The previous installation could not be restored."""


class _Interrupted(BaseException):
    """A signal arrived during the transaction."""

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
            check(before)  # if the installer changed nothing, there is nothing to restore
        except Problem:
            raise _Lost(
                f"The installation failed ({error}), and the previous one could not be restored ({second}).",
                f"Restore it by hand: {shlex.join(map(str, [*installer, *before]))}",
                Exit.FAILED,
            ) from error
    if isinstance(error, Problem):
        raise Problem(
            f"{error.what} The previous installation was restored.", error.remedy, Exit.FAILED
        ) from error


def _installer(installation: Installation) -> list[str | Path]:
    if installation.pip:
        return [
            *(installation.python, "-I", "-m", "pip", "--disable-pip-version-check", "--quiet"),
            *("install", "--no-index", "--no-deps", "--force-reinstall", "--no-warn-script-location"),
        ]
    sibling = Path(sys.executable).parent / "uv"
    found = str(sibling) if sibling.exists() else shutil.which("uv")
    if not found:
        raise Problem(
            f"{installation.python} has no pip, and uv was not found.", "Install pip or uv.", Exit.USAGE
        )
    return [
        *(found, "pip", "install", "--quiet", "--no-config", "--offline", "--no-index", "--no-deps"),
        *("--reinstall", "--python", installation.python),
    ]


def _settings(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables that unset the settings of pip and uv, such as a target, a prefix or a dry run."""
    mine = [name for name in environment if name.startswith(("PIP_", "UV_")) and name not in KEPT]
    return {**dict.fromkeys(mine), "PIP_CONFIG_FILE": os.devnull}


@contextmanager
def _held() -> Iterator[Callable[[], int]]:
    """
    Delay signals during a block, also for the programs that it starts.

    Ctrl-C in a terminal reaches these programs too, so they are started with the signals blocked. Another
    thread of this process may still receive a signal, so a handler records it.

    :return: a context manager that gives a function, which returns the first signal that arrived, or 0.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0  # only the main thread handles signals
        return
    numbers: list[int] = []

    def came() -> int:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # pending signals arrive here
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
