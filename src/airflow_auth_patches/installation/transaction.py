"""Change an installed Airflow as a transaction: all wheels are installed, or nothing changes."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation.installed import Installation, Installed
from airflow_auth_patches.installation.records import as_wheel, verify
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.util import signals
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.util.progress import Progress, Silent

#: The settings of pip and uv that also apply to this call; all others are ignored.
KEPT = ("PIP_BREAK_SYSTEM_PACKAGES", "UV_BREAK_SYSTEM_PACKAGES", "UV_CACHE_DIR", "UV_NO_CACHE")


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
        with signals.shield():
            failure: BaseException | None = None
            names = ", ".join(wheel.name.split("-")[0] for wheel in wheels)
            try:
                with (progress or Silent()).task(f"installing {names}"), signals.blocked():
                    install(wheels)
            except BaseException as error:
                failure = error
            if failure or signals.waiting():
                with signals.blocked():
                    _put_back(install, check, installer, before, failure)
    except _Lost:
        raise  # keep the folder: the remedy names the wheels in it
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


class _Lost(Problem):
    """The previous installation could not be restored."""


def _put_back(
    install: Callable[[Sequence[Path]], None],
    check: Callable[[Sequence[Path]], None],
    installer: Sequence[str | Path],
    before: Sequence[Path],
    error: BaseException | None,
) -> None:
    """Restore the previous distributions, and raise the error again."""
    try:
        install(before)
    except BaseException as second:
        try:
            check(before)  # if the installer changed nothing, there is nothing to restore
        except Problem:
            raise _Lost(
                f"The installation failed ({error or 'interrupted'}), "
                f"and the previous one could not be restored ({second}).",
                f"Restore it by hand: {shlex.join(map(str, [*installer, *before]))}",
                Exit.FAILED,
            ) from error
    if isinstance(error, Problem):
        raise Problem(
            f"{error.what} The previous installation was restored.", error.remedy, Exit.FAILED
        ) from error
    if error:
        raise error


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
