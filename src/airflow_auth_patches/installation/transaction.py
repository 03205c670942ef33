"""Change an installed Airflow as a transaction: all wheels are installed, or nothing changes."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation import damage, journal, lock
from airflow_auth_patches.installation.installed import Installation, Installed, pinned, repair_command
from airflow_auth_patches.installation.journal import INSTALLED, INSTALLING, PRISTINE, Journal
from airflow_auth_patches.installation.records import as_wheel, verify
from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import Distribution, Pins
from airflow_auth_patches.util import signals
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.processes import run
from airflow_auth_patches.util.progress import Progress, Silent

#: The settings of pip and uv that also apply to this call; all others are ignored.
KEPT = ("PIP_BREAK_SYSTEM_PACKAGES", "UV_BREAK_SYSTEM_PACKAGES", "UV_CACHE_DIR", "UV_NO_CACHE")


def replace(
    installation: Installation,
    targets: Sequence[Installed],
    build: Callable[[Path], Iterable[Path]],
    pins: Pins,
    progress: Progress | None = None,
    *,
    command: str,
    put_back: bool = True,
) -> None:
    """
    Replace installed distributions by wheels, as a transaction.

    pip or uv installs the wheels and changes no other package. If that fails, or the installed files differ
    from the wheels, the previous distributions are restored before the error is raised. In the main thread,
    a signal does not stop the installer, because a stopped installer leaves an incomplete installation. The
    previous distributions are restored after the installer ends, and then the signal is handled. If this
    process is killed, the journal of the change stays in the environment for `repair`.

    :param targets: the distributions that are installed now.
    :param build: returns the wheels to install, one for each. It may write them into the folder that it is
        given.
    :param command: the command that makes the change, for the journal.
    :param put_back: whether to restore the previous distributions after a failure. Use False if the whole
        environment is discarded then.
    :raises Problem: FAILED if the installation fails, DAMAGED if the restore also fails.
    """
    if not put_back:
        with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as name:
            folder = Path(name)
            journal.keep(build(folder), folder)
            install(installation, folder, pins)
        return

    def fill(folder: Path) -> None:
        for found in installation.found:
            if found in targets or found.manifest:  # `repair` also restores the other one if it is patched
                pristine = fetch(found.release or pinned(found), "wheel", progress)
                journal.keep([pristine], folder / PRISTINE)
        journal.keep([as_wheel(found, folder / INSTALLED) for found in targets], folder / INSTALLED)
        journal.keep(build(folder / INSTALLING), folder / INSTALLING)

    begun = begin(installation, command, fill)
    names = ", ".join(found.distribution.stem for found in targets)
    with signals.shield():
        failure: BaseException | None = None
        try:
            with (progress or Silent()).task(f"installing {names}"), signals.blocked():
                install(installation, begun.folder / INSTALLING, pins)
        except BaseException as error:
            failure = error
        if failure or signals.waiting():
            with signals.blocked():
                _put_back(installation, begun, [found.distribution for found in targets], pins, failure)
        begun.end()


def begin(installation: Installation, command: str, fill: Callable[[Path], None]) -> Journal:
    """
    Write the journal of a change of an environment. The arguments are those of :func:`journal.begin`.

    :raises Problem: USAGE if the environment has no pip and uv is missing, or as :func:`journal.begin` does.
    """
    _installer(installation)
    return journal.begin(
        installation.sites[0], command, fill, lambda folder: shlex.join(_command(installation, folder))
    )


def install(installation: Installation, folder: Path, pins: Pins) -> None:
    """
    Install the wheels of a folder with pip or uv, and check the result.

    :raises Problem: if the installer fails, or the installed files differ from the wheels.
    """
    run(_command(installation, folder), env=_settings(os.environ), pass_fds=lock.held)
    verify(installation.python, pins, journal.wheels_in(folder))


def restore(
    installation: Installation,
    begun: Journal,
    kind: str,
    distributions: Iterable[Distribution],
    pins: Pins,
) -> None:
    """
    Remove what is left of distributions, and install the wheels of a journal.

    :param kind: which of its wheels: one of :data:`journal.KINDS`.
    :raises Problem: as :func:`install` does.
    """
    every = [wheel for each in journal.KINDS for wheel in journal.wheels_in(begun.folder / each)]
    for dist in distributions:
        for site in installation.sites:
            damage.clear(site, installation.prefix, dist, every)
    install(installation, begun.folder / kind, pins)


def _put_back(
    installation: Installation,
    begun: Journal,
    distributions: Sequence[Distribution],
    pins: Pins,
    error: BaseException | None,
) -> None:
    """Restore the previous distributions, end the journal, and raise the error again."""
    try:
        try:  # if the installer changed nothing, there is nothing to restore
            verify(installation.python, pins, journal.wheels_in(begun.folder / INSTALLED))
        except Problem:
            restore(installation, begun, INSTALLED, distributions, pins)
    except BaseException as second:
        raise Problem(
            f"The installation failed ({error or 'interrupted'}), "
            f"and the previous one could not be restored ({second}).",
            f"Repair it: {repair_command(installation.python)}",
            Exit.DAMAGED,
        ) from error
    if error:
        begun.end()
    if isinstance(error, Problem):
        raise Problem(
            f"{error.what} The previous installation was restored.", error.remedy, Exit.FAILED
        ) from error
    if error:
        raise error


def _command(installation: Installation, folder: Path) -> list[str]:
    """Return the command that installs the wheels of a folder."""
    # A URL, because uv splits a path at commas.
    where = ["--find-links", folder.as_uri(), *journal.requirements(folder)]
    return [*map(str, _installer(installation)), *where]


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
