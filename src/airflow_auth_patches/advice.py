"""What an installation has of the known bugs, and what to do first: upgrade the provider, or patch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from airflow_auth_patches import verdicts
from airflow_auth_patches.releases import FAB, Pins, Release
from airflow_auth_patches.series import Series
from airflow_auth_patches.verdicts import Book, Cell, Kind

#: Verdicts of a release that has the bug, as released.
AFFECTED = (Kind.PATCHED, Kind.OPEN, Kind.NOT_CURED)


@dataclass(frozen=True)
class Upgrade:
    """
    The smallest upgrade of the provider after which fewest bugs are left.

    :param release: the provider to upgrade to.
    :param cures: the bugs of the installation that are gone there.
    :param leaves: those that are not.
    :param brings: the bugs that it has and the installed one has not.
    """

    release: Release
    cures: tuple[str, ...]
    leaves: tuple[str, ...]
    brings: tuple[str, ...]


def cells_of(series: Series, pins: Pins, book: Book, release: Release) -> list[Cell]:
    """Return the verdicts on a release, in the order of the bugs."""
    return [
        verdicts.judge(series, pins, book, bug, release)
        for bug in series.bugs.values()
        if verdicts.distribution_of(bug) is release.distribution
    ]


def held(cells: Collection[Cell], applied: Collection[str]) -> list[Cell]:
    """
    Return the verdicts on the bugs that an installed release has.

    :param cells: the verdicts on it as released.
    :param applied: the slugs of the patches in it.
    """
    return [
        cell
        for cell in cells
        if cell.kind in AFFECTED
        and not (cell.kind is Kind.PATCHED and {name.partition("~")[0] for name in cell.by} <= set(applied))
    ]


def upgrade(
    series: Series,
    pins: Pins,
    book: Book,
    provider: Release,
    core: Release | None,
    python: str,
    has: Collection[str],
) -> Upgrade | None:
    """
    Return the upgrade of the provider that an installation should have first.

    A bug counts as cured where its reproducer said so: what was not run there is left.

    :param provider: the installed one.
    :param core: the installed core, which must be one that the new provider allows.
    :param python: the Python version, as in ``3.11``, which the new provider must support.
    :param has: the bugs of the installed provider, as it is.
    :return: ``None`` where no upgrade cures any of them.
    """
    mine = {cell.bug for cell in cells_of(series, pins, book, provider) if cell.kind in AFFECTED}
    found: list[Upgrade] = []
    for release in pins.releases:
        if release.distribution is not FAB or release.version <= provider.version:
            continue
        if python not in release.pythons or (core is not None and core.version not in release.core):
            continue
        cells = cells_of(series, pins, book, release)
        gone = {cell.bug for cell in cells if cell.kind in (Kind.FIXED, Kind.NOT_AFFECTED)}
        there = [cell.bug for cell in cells if cell.kind in AFFECTED]
        found.append(
            Upgrade(
                release,
                tuple(bug for bug in has if bug in gone),
                tuple(bug for bug in has if bug not in gone),
                tuple(bug for bug in there if bug not in mine),
            )
        )
    best = min(found, key=lambda one: (len(one.leaves), one.release.version), default=None)
    return best if best is not None and best.cures else None
