"""Repair an Airflow that an interrupted installation left damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from airflow_auth_patches.installation import damage, installed, journal, transaction
from airflow_auth_patches.installation.installed import Installation
from airflow_auth_patches.installation.journal import INSTALLED, INSTALLING, PRISTINE, Journal
from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, Distribution, Pins, Release
from airflow_auth_patches.util import signals
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Progress, Silent


@dataclass(frozen=True)
class Repaired:
    """
    A repaired installation.

    :param damage: what was found, one sentence each, without full stop.
    :param releases: what was installed, as in ``apache-airflow-core==3.1.6``.
    """

    damage: tuple[str, ...]
    releases: tuple[str, ...]


def repair(
    python: Path,
    pins: Pins,
    progress: Progress | None = None,
    *,
    patched: bool = False,
    releases: Sequence[Release] = (),
) -> Repaired | None:
    """
    Remove what an interrupted installation left, and install complete releases.

    It may be interrupted itself: the journal stays until the installed files are verified.

    :param python: the interpreter of the installed Airflow.
    :param patched: install the patched wheels of the interrupted change; otherwise the pristine releases.
    :param releases: the pristine releases to install, where the environment does not show which to install.
    :return: what was repaired; ``None`` if there is no damage.
    :raises Problem: REFUSED if the releases to install are unknown; then nothing is changed. DAMAGED if the
        installation fails.
    """
    installation = installed.look(python, pins, damaged=True)
    if not installation.damage:
        return None
    begun = journal.find(installation.sites)
    kind = _patched(installation, begun) if patched else PRISTINE
    wanted = [] if patched else _wanted(installation, begun, pins, releases)
    wheels = [fetch(release, "wheel", progress) for release in wanted]
    if begun is None:
        begun = transaction.begin(
            installation, "repair", lambda folder: journal.keep(wheels, folder / PRISTINE)
        )
    try:
        journal.keep(wheels, begun.folder / PRISTINE)
        names = [wheel.name for wheel in journal.wheels_in(begun.folder / kind)]
        distributions = [dist for dist in DISTRIBUTIONS if any(n.startswith(f"{dist.stem}-") for n in names)]
        with (progress or Silent()).task("repairing the installation"), signals.shield(), signals.blocked():
            transaction.restore(installation, begun, kind, distributions, pins)
            done = _named(begun, kind)
            begun.end()
    except (Problem, OSError) as error:
        raise Problem(
            f"The installation could not be repaired: {error}",
            f"Correct the cause, and repair it again: {installed.repair_command(python)}",
            Exit.DAMAGED,
        ) from error
    return Repaired(tuple(each.what for each in installation.damage), tuple(done))


def _patched(installation: Installation, begun: Journal | None) -> str:
    """Return the kind of the patched wheels of a journal: those to install, else the previous ones."""
    for kind in (INSTALLING, INSTALLED):
        if begun and any(Version(each.partition("==")[2]).local for each in _named(begun, kind)):
            return kind
    raise Problem(
        "No journal has patched wheels.",
        f"Restore the pristine releases first: {installed.repair_command(installation.python)}",
    )


def _named(begun: Journal, kind: str) -> Sequence[str]:
    return journal.requirements(begun.folder / kind)


def _wanted(
    installation: Installation, begun: Journal | None, pins: Pins, releases: Sequence[Release]
) -> list[Release]:
    """Return the pristine releases to install that the journal has not: of what is damaged or patched."""
    kept = {each.partition("==")[0] for each in _named(begun, PRISTINE)} if begun else set()
    affected = {each.distribution for each in installation.damage}
    affected |= {found.distribution for found in installation.found if found.manifest}
    wanted = {each.distribution: each for each in releases if each.distribution.name not in kept}
    for dist in DISTRIBUTIONS:
        if dist in affected and dist.name not in kept and dist not in wanted:
            wanted[dist] = _release(installation, dist, pins)
    return list(wanted.values())


def _release(installation: Installation, dist: Distribution, pins: Pins) -> Release:
    """Return the release of a distribution, from the names of its folders or the version of Airflow."""
    versions = {version for site in installation.sites for version in damage.versions_of(site, dist)}
    if not versions and dist is CORE and (same := installation.versions.get("apache-airflow")):
        versions = {same}
    if len(versions) == 1:
        version = versions.pop()
        if found := pins.find(dist, version):
            return found
        raise Problem(
            f"{dist.name} {version} is damaged, and is not a pinned release.",
            f"Install it: {installation.python} -m pip install --force-reinstall --no-deps "
            f"{dist.name}=={version}",
        )
    traces = f"there are traces of {', '.join(sorted(versions))}" if versions else "it left no trace"
    raise Problem(
        f"The release of {dist.name} to install is unknown: {traces}.",
        f"Name it: {installed.repair_command(installation.python)} --release {dist.name}==VERSION",
    )
