"""What each bug is to each release, told by its reproducer alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

from airflow_auth_patches.releases.releases import DISTRIBUTIONS, Distribution, Pins, Release
from airflow_auth_patches.series.series import Bug, Patch, Series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.files import write_whole

FILE = "verdicts.json"
#: How pytest words a failure that is an assertion, and not an error of another kind.
ASSERTION = re.compile(r"(AssertionError|assert\b|Failed: )")


class Kind(str, Enum):
    """What a bug is to a release."""

    NOT_AFFECTED = "not affected"  #: the code that fails is not there
    FIXED = "fixed upstream"  #: it is not there any more
    PATCHED = "patched"  #: it fails on stock, and passes with a patch of the series
    OPEN = "open"  #: it fails on stock, and no patch is for that release
    NOT_CURED = "not cured"  #: it fails with the patch that is to cure it
    UNCLEAR = "unclear"  #: the reproducer neither passed nor failed by an assertion
    NOT_RUN = "not run"  #: nothing is known


#: Verdicts that say nothing of the release.
UNKNOWN = (Kind.NOT_RUN, Kind.UNCLEAR)
LEGEND = (
    "Not affected: the reproducer passes on stock, or the code that fails is not there. Fixed upstream: it "
    "passes, and failed on an older release. Patched: it fails on stock, and passes with the "
    "series, of which the named patches are for it. "
    "Open: it fails, and there is no patch."
)


@dataclass(frozen=True)
class Evidence:
    """
    One run of a reproducer on a release.

    :param beside: the release of the other distribution that was installed with it.
    :param python: the Python version, as in ``3.11``.
    :param reproducer: the SHA-256 of the reproducer then, see `basis.digest`.
    :param stock: the outcome on stock, in the words of `unit_tests.run_tests`.
    :param patched: the outcome with the whole series; ``None`` where no patch is for it.
    :param patches: the SHA-256 of the edits of those that cure it there, by name.
    :param basis: what else decided the outcomes, see `basis.fingerprint`.
    :param stock_basis: the same for the outcome on stock alone, which the patches do not decide.
    """

    beside: str
    python: str
    reproducer: str
    stock: str
    patched: str | None
    patches: Mapping[str, str]
    basis: str
    stock_basis: str = ""


@dataclass(frozen=True)
class Cell:
    """
    The verdict on a bug and a release.

    :param by: the names of the patches that cure it there.
    :param reason: why it is open, or what is not as it must be.
    """

    release: Release
    bug: str
    kind: Kind
    by: tuple[str, ...] = ()
    reason: str = ""
    evidence: Evidence | None = None


Book = dict[str, dict[str, Evidence]]


def fails_by_assertion(outcome: str) -> bool:
    """Tell whether an outcome is a failure by an assertion or a time-out of the test's own."""
    return outcome.startswith("failed: ") and bool(ASSERTION.match(outcome.removeprefix("failed: ")))


def read(folder: Path) -> Book:
    """
    Read the evidence.

    :param folder: the folder of the series.
    :return: ``{release: {bug: evidence}}``; empty where nothing was run yet.
    :raises Problem: when the file is broken.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {
            release: {bug: Evidence(**entry) for bug, entry in bugs.items()} for release, bugs in raw.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Problem(f"{path} cannot be read: {error!r}.", "Restore it from the repository.") from error


def write(folder: Path, book: Book) -> None:
    """
    Write the evidence, whole or not at all.

    :param folder: the folder of the series.
    :raises Problem: when it cannot be written.
    """
    data = {release: {bug: asdict(each) for bug, each in bugs.items()} for release, bugs in book.items()}
    write_whole(folder / FILE, json.dumps(data, indent=1, sort_keys=True) + "\n")


def distribution_of(bug: Bug) -> Distribution:
    """
    Tell whose bug it is: that of the distribution at whose path the reproducer is.

    :raises Problem: when it has no reproducer.
    """
    for each in DISTRIBUTIONS:
        if (bug.reproducer or "").startswith(f"{each.root}/"):
            return each
    raise Problem(f"The bug {bug.slug} has no reproducer.", "Name it in bugs.toml.", Exit.REFUSED)


def cures(series: Series, bug: Bug, release: Release) -> list[Patch]:
    """Return the patches that are to cure a bug on a release."""
    return [patch for patch in series.serving(release) if bug.slug in patch.cures]


def edits(series: Series, bug: Bug, release: Release) -> dict[str, str]:
    """Return the SHA-256 of the edits of the patches that are to cure a bug on a release, by name."""
    return {patch.name: patch.edits_sha256 for patch in cures(series, bug, release)}


def judge(series: Series, pins: Pins, book: Book, bug: Bug, release: Release) -> Cell:
    """
    Say what a bug is to a release, from the runs of its reproducer and from nothing else.

    What passes on stock is fixed where an older release fails, and else was never affected.

    :param book: the evidence.
    """
    found = book.get(str(release), {}).get(bug.slug)
    if found is None:
        return Cell(release, bug.slug, Kind.NOT_RUN)
    if dict(found.patches) != edits(series, bug, release):
        return Cell(release, bug.slug, Kind.NOT_RUN, reason="not since its patches changed", evidence=found)
    if _absent(bug, found.stock):
        return Cell(release, bug.slug, Kind.NOT_AFFECTED, evidence=found)
    if found.stock == "passed":
        older = [
            book.get(str(each), {}).get(bug.slug)
            for each in pins.releases
            if each.distribution is release.distribution and each.version < release.version
        ]
        fails = any(each is not None and fails_by_assertion(each.stock) for each in older)
        return Cell(release, bug.slug, Kind.FIXED if fails else Kind.NOT_AFFECTED, evidence=found)
    if not fails_by_assertion(found.stock):
        return Cell(release, bug.slug, Kind.UNCLEAR, reason=found.stock, evidence=found)
    if found.patched is None:
        return Cell(release, bug.slug, Kind.OPEN, reason=reason_of(bug, release), evidence=found)
    by = tuple(sorted(found.patches))
    if found.patched != "passed":
        return Cell(release, bug.slug, Kind.NOT_CURED, by, found.patched, found)
    return Cell(release, bug.slug, Kind.PATCHED, by, evidence=found)


def reason_of(bug: Bug, release: Release) -> str:
    """Tell why a bug is open on a release, as ``bugs.toml`` says; empty where it says nothing."""
    return next((why for versions, why in bug.open_on if release.version in versions), "")


def _absent(bug: Bug, outcome: str) -> bool:
    return bug.absent is not None and bool(re.search(bug.absent, outcome))


def matrix(series: Series, pins: Pins, book: Book) -> list[Cell]:
    """
    Judge every bug on every pinned release of its distribution.

    :param book: the evidence.
    :return: in the order of the releases, then of the bugs.
    """
    return [
        judge(series, pins, book, bug, release)
        for release in pins.releases
        for bug in series.bugs.values()
        if distribution_of(bug) is release.distribution
    ]


def as_rows(cells: Sequence[Cell], distribution: Distribution) -> list[tuple[str, str, str, str, str]]:
    """
    Lay the verdicts of a distribution out for people: releases in a row with the same verdict together.

    :return: for each bug, in the order of the releases: bug, releases, verdict, what cures it or why not, and
        what its reproducer did there.
    """
    mine = [cell for cell in cells if cell.release.distribution is distribution]
    rows = []
    for bug in dict.fromkeys(cell.bug for cell in mine):
        same = groupby(
            (cell for cell in mine if cell.bug == bug),
            key=lambda cell: (cell.kind.value, slugs(cell.by) or cell.reason, _did(cell.evidence)),
        )
        for (verdict, told, did), some in same:
            versions = [str(cell.release.version) for cell in some]
            span = versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
            rows.append((bug, span, verdict, told, did))
    return rows


def _did(evidence: Evidence | None) -> str:
    if evidence is None:
        return ""
    stock = "failed" if fails_by_assertion(evidence.stock) else evidence.stock
    if evidence.patched is None:
        return f"stock {stock}"
    return f"stock {stock}, patched {'failed' if fails_by_assertion(evidence.patched) else evidence.patched}"


def slugs(names: Sequence[str]) -> str:
    """Return the slugs of patches and variants, each once, in one line."""
    return ", ".join(dict.fromkeys(name.partition("~")[0] for name in names))


def as_data(cell: Cell) -> dict[str, Any]:
    """
    Give a verdict as plain data, for JSON.

    :return: ``release``, ``bug``, ``verdict``, ``by`` (names of patches), ``reason`` and ``evidence``, which
        is the fields of `Evidence` or ``None``.
    """
    return {
        "release": str(cell.release),
        "bug": cell.bug,
        "verdict": cell.kind.value,
        "by": list(cell.by),
        "reason": cell.reason,
        "evidence": asdict(cell.evidence) if cell.evidence else None,
    }
