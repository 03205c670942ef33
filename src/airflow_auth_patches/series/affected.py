"""Whether a bug affects a release: the recorded results of its reproducer, and what they say."""

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

FILE = "affected.json"
#: How pytest words a failure that is an assertion, and not an error of another kind.
ASSERTION = re.compile(r"(AssertionError|assert\b|Failed: )")


class Status(str, Enum):
    """The affected status of a bug on a release."""

    NOT_AFFECTED = "not affected"  #: the code that fails is not there
    FIXED = "fixed upstream"  #: it is not there any more
    PATCHED = "patched"  #: it fails on stock, and passes with a patch of the series
    KNOWN_ISSUE = "known issue"  #: it fails on stock, and no patch is for that release
    NOT_CURED = "not cured"  #: it fails with the patch that is to cure it
    UNCLEAR = "unclear"  #: the reproducer neither passed nor failed by an assertion
    NOT_RUN = "not run"  #: nothing is known


#: Those that say nothing of the release.
UNKNOWN = (Status.NOT_RUN, Status.UNCLEAR)
LEGEND = (
    "Not affected: the reproducer passes on stock, or the code that fails is not there. Fixed upstream: it "
    "passes, and failed on an older release. Patched: it fails on stock, and passes with the "
    "series, of which the named patches are for it. "
    "Known issue: it fails, and there is no patch."
)


@dataclass(frozen=True)
class Result:
    """
    One run of a reproducer on a release.

    :param installed_with: the release of the other distribution that was installed with it.
    :param python: the Python version, as in ``3.11``.
    :param reproducer: the SHA-256 of the reproducer then, see `inputs.digest`.
    :param stock: the outcome on stock, in the words of `unit_tests.run_tests`.
    :param patched: the outcome with the whole series; ``None`` where no patch is for it.
    :param patches: the SHA-256 of the edits of those that cure it there, by name.
    :param inputs: the hash of what else determines the outcomes, see `inputs.fingerprint`.
    :param stock_inputs: the same for the outcome on stock alone, which the patches do not decide.
    """

    installed_with: str
    python: str
    reproducer: str
    stock: str
    patched: str | None
    patches: Mapping[str, str]
    inputs: str
    stock_inputs: str = ""


@dataclass(frozen=True)
class Finding:
    """
    The affected status of a bug on a release.

    :param by: the names of the patches that cure it there.
    :param reason: why it is a known issue, or what is not as it must be.
    :param result: the recorded result that says so.
    """

    release: Release
    bug: str
    status: Status
    by: tuple[str, ...] = ()
    reason: str = ""
    result: Result | None = None


Results = dict[str, dict[str, Result]]


def fails_by_assertion(outcome: str) -> bool:
    """Tell whether an outcome is a failure by an assertion or a time-out of the test's own."""
    return outcome.startswith("failed: ") and bool(ASSERTION.match(outcome.removeprefix("failed: ")))


def read(folder: Path) -> Results:
    """
    Read the recorded results.

    :param folder: the folder of the series.
    :return: ``{release: {bug: result}}``; empty where nothing was run yet.
    :raises Problem: when the file is broken.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {
            release: {bug: Result(**entry) for bug, entry in bugs.items()} for release, bugs in raw.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise Problem(f"{path} cannot be read: {error!r}.", "Restore it from the repository.") from error


def write(folder: Path, results: Results) -> None:
    """
    Write the results, whole or not at all.

    :param folder: the folder of the series.
    :raises Problem: when it cannot be written.
    """
    data = {release: {bug: asdict(each) for bug, each in bugs.items()} for release, bugs in results.items()}
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


def judge(series: Series, pins: Pins, results: Results, bug: Bug, release: Release) -> Finding:
    """
    Return the status of a bug on a release, from the runs of its reproducer alone.

    What passes on stock is fixed where an older release fails, and else was never affected.

    :param results: the recorded results.
    """
    found = results.get(str(release), {}).get(bug.slug)
    if found is None:
        return Finding(release, bug.slug, Status.NOT_RUN)
    if dict(found.patches) != edits(series, bug, release):
        return Finding(
            release, bug.slug, Status.NOT_RUN, reason="not since its patches changed", result=found
        )
    if _absent(bug, found.stock):
        return Finding(release, bug.slug, Status.NOT_AFFECTED, result=found)
    if found.stock == "passed":
        older = [
            results.get(str(each), {}).get(bug.slug)
            for each in pins.releases
            if each.distribution is release.distribution and each.version < release.version
        ]
        fails = any(each is not None and fails_by_assertion(each.stock) for each in older)
        return Finding(release, bug.slug, Status.FIXED if fails else Status.NOT_AFFECTED, result=found)
    if not fails_by_assertion(found.stock):
        return Finding(release, bug.slug, Status.UNCLEAR, reason=found.stock, result=found)
    if found.patched is None:
        return Finding(release, bug.slug, Status.KNOWN_ISSUE, reason=reason_of(bug, release), result=found)
    by = tuple(sorted(found.patches))
    if found.patched != "passed":
        return Finding(release, bug.slug, Status.NOT_CURED, by, found.patched, found)
    return Finding(release, bug.slug, Status.PATCHED, by, result=found)


def reason_of(bug: Bug, release: Release) -> str:
    """Return why a bug is a known issue of a release, as ``bugs.toml`` says; empty where it says nothing."""
    return next((why for versions, why in bug.open_on if release.version in versions), "")


def _absent(bug: Bug, outcome: str) -> bool:
    return bug.absent is not None and bool(re.search(bug.absent, outcome))


def matrix(series: Series, pins: Pins, results: Results) -> list[Finding]:
    """
    Judge every bug on every pinned release of its distribution.

    :param results: the recorded results.
    :return: in the order of the releases, then of the bugs.
    """
    return [
        judge(series, pins, results, bug, release)
        for release in pins.releases
        for bug in series.bugs.values()
        if distribution_of(bug) is release.distribution
    ]


def as_rows(findings: Sequence[Finding], distribution: Distribution) -> list[tuple[str, str, str, str, str]]:
    """
    Return the rows of a table for a distribution; consecutive releases of one status share a row.

    :return: for each bug, in the order of the releases: bug, releases, status, what cures it or why not, and
        what its reproducer did there.
    """
    mine = [finding for finding in findings if finding.release.distribution is distribution]
    rows = []
    for bug in dict.fromkeys(finding.bug for finding in mine):
        same = groupby(
            (finding for finding in mine if finding.bug == bug),
            key=lambda finding: (
                finding.status.value,
                slugs(finding.by) or finding.reason,
                _did(finding.result),
            ),
        )
        for (status, told, did), some in same:
            versions = [str(finding.release.version) for finding in some]
            span = versions[0] if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
            rows.append((bug, span, status, told, did))
    return rows


def _did(result: Result | None) -> str:
    if result is None:
        return ""
    stock = "failed" if fails_by_assertion(result.stock) else result.stock
    if result.patched is None:
        return f"stock {stock}"
    return f"stock {stock}, patched {'failed' if fails_by_assertion(result.patched) else result.patched}"


def slugs(names: Sequence[str]) -> str:
    """Return the slugs of patches and variants, each once, in one line."""
    return ", ".join(dict.fromkeys(name.partition("~")[0] for name in names))


def as_data(finding: Finding) -> dict[str, Any]:
    """
    Return a finding as plain data, for JSON.

    :return: ``release``, ``bug``, ``status``, ``by`` (names of patches), ``reason`` and ``result``, which
        is the fields of `Result` or ``None``.
    """
    return {
        "release": str(finding.release),
        "bug": finding.bug,
        "status": finding.status.value,
        "by": list(finding.by),
        "reason": finding.reason,
        "result": asdict(finding.result) if finding.result else None,
    }
