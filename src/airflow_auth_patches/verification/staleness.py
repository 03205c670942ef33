"""Whether the verdicts are of what is here: what is to be run, and what is wrong with what was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import verdicts
from airflow_auth_patches.series.series import Bug, Series
from airflow_auth_patches.series.verdicts import Book, Cell, Kind
from airflow_auth_patches.verification import basis

#: Those that a run of `judge` gives another chance: what a busy machine did may be told as not cured.
DUE = (*verdicts.UNKNOWN, Kind.NOT_CURED)


def of_the_series(series: Series, pins: Pins, book: Book) -> Book:
    """Return the evidence without what is of a release or a bug that is not known any more."""
    cells = verdicts.matrix(series, pins, book)
    return {
        str(release): {bug: book[str(release)][bug] for bug in bugs if bug in book[str(release)]}
        for release, some in groupby(cells, key=lambda cell: cell.release)
        if str(release) in book
        for bugs in [[cell.bug for cell in some]]
    }


def is_due(
    root: Path, series: Series, pins: Pins, book: Book, bug: Bug, release: Release, python: str
) -> bool:
    """
    Tell whether a reproducer is to be run on a release: it was not, not since something changed, or in vain.

    :param root: the checkout of this project.
    :param python: the Python version on which it is to be run.
    """
    cell = verdicts.judge(series, pins, book, bug, release)
    if cell.evidence is None or cell.evidence.python != python or cell.kind in DUE:
        return True
    return any(_stale(root, series, pins, bug, cell))


def stock_holds(
    root: Path, series: Series, pins: Pins, book: Book, bug: Bug, release: Release, python: str
) -> bool:
    """
    Check whether the recorded outcome on the stock release is up to date, whatever became of the patches.

    :param root: the checkout of this project.
    :param python: the Python version on which it is to be run.
    """
    cell = verdicts.judge(series, pins, book, bug, release)
    found = cell.evidence
    if found is None or found.python != python or cell.kind in (Kind.UNCLEAR, Kind.NOT_CURED):
        return False
    pair = basis.companion(pins, bug, release)
    return found.reproducer == basis.digest(root, bug) and found.stock_basis == basis.fingerprint(
        root, series, pair, python, patched=False
    )


def _stale(root: Path, series: Series, pins: Pins, bug: Bug, cell: Cell) -> Iterator[str]:
    found = cell.evidence
    assert found is not None
    if found.reproducer != basis.digest(root, bug):
        yield "was run with another reproducer"
    if dict(found.patches) != verdicts.edits(series, bug, cell.release):
        yield "was run with other patches"
        return
    pair = basis.companion(pins, bug, cell.release)
    beside = pair.fab if cell.release is pair.core else pair.core
    if found.beside != str(beside):
        yield f"was run beside {found.beside}, and not {beside}"
    elif found.basis != basis.fingerprint(root, series, pair, found.python, patched=bool(found.patches)):
        yield "was run with another series, another stand-in, or in another environment"


def faults(root: Path, series: Series, pins: Pins, book: Book) -> Iterator[str]:
    """
    Tell what is wrong with the verdicts: what was not run, or not since something changed, or is no verdict.

    What passes on stock and is said to be cured there, or fails there when patched, is wrong too.

    :param root: the checkout of this project.
    :param book: the evidence.
    :return: a sentence each.
    """
    for cell in verdicts.matrix(series, pins, book):
        where = f"{cell.bug} on {cell.release}"
        bug = series.bugs[cell.bug]
        if cell.evidence is None:
            yield f"{where} was not run."
            continue
        if cell.kind in (Kind.NOT_CURED, Kind.UNCLEAR):
            yield f"{where} is {cell.kind.value}: {cell.reason}"
        if cell.kind is Kind.OPEN and not cell.reason:
            yield f"{where} is open, and bugs.toml does not say why."
        for what in _stale(root, series, pins, bug, cell):
            yield f"{where} {what}."
        if cell.kind in (Kind.NOT_AFFECTED, Kind.FIXED):
            if cell.evidence.patches:
                yield f"{where} is {cell.kind.value}, and {', '.join(cell.evidence.patches)} is to cure it."
            if cell.evidence.patched not in (None, "passed"):
                yield f"{where} is {cell.kind.value}, and when patched: {cell.evidence.patched}"
    yield from _left_over(series, pins, book)


def _left_over(series: Series, pins: Pins, book: Book) -> Iterator[str]:
    cells = verdicts.matrix(series, pins, book)
    wanted = {(str(cell.release), cell.bug) for cell in cells}
    for release, bugs in book.items():
        for bug in bugs:
            if (release, bug) not in wanted:
                yield f"{bug} on {release} is in {verdicts.FILE}, and is none of the series."
    for known in series.bugs.values():
        mine = [cell for cell in cells if cell.bug == known.slug]
        for versions, _ in known.open_on:
            kinds = {cell.kind for cell in mine if cell.release.version in versions}
            if not kinds & {Kind.OPEN, Kind.NOT_RUN}:
                yield f"{known.slug} is open on no release of {versions}: take it out of bugs.toml."
