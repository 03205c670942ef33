"""The affected status of each bug on each release, from the recorded results of its reproducer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import groupby
from pathlib import Path
from typing import Any

from airflow_auth_patches.releases.releases import DISTRIBUTIONS, Distribution, Release
from airflow_auth_patches.series.bugs import Bug
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.files import write_whole

FILE = "affected.json"
#: The start of a pytest failure message that comes from an assertion, not from another error.
ASSERTION = re.compile(r"(AssertionError|assert\b|Failed: )")


class Status(str, Enum):
    """The affected status of a bug on a release."""

    NOT_AFFECTED = "not affected"  #: the reproducer passes on stock, or the release lacks the code
    FIXED = "fixed upstream"  #: the reproducer passes on stock, and fails on an older release
    PATCHED = "patched"  #: the reproducer fails on stock, and passes with the series
    KNOWN_ISSUE = "known issue"  #: the reproducer fails on stock, and no patch is for that release
    NOT_CURED = "not cured"  #: the reproducer fails although a patch should cure the bug
    UNCLEAR = "unclear"  #: the reproducer neither passed nor failed by an assertion
    NOT_RUN = "not run"  #: there is no recorded result


#: The statuses that do not say whether the release has the bug.
UNKNOWN = (Status.NOT_RUN, Status.UNCLEAR)
LEGEND = (
    "Not affected: the reproducer passes on stock, or the release does not have the code that fails. "
    "Fixed upstream: the reproducer passes, and it failed on an older release. "
    "Patched: the reproducer fails on stock, and passes with the series; the named patches cure the bug. "
    "Known issue: the reproducer fails, and there is no patch."
)


@dataclass(frozen=True)
class Result:
    """
    The recorded result of a reproducer on a release.

    :param installed_with: the release of the other distribution in the same environment.
    :param reproducer: the SHA-256 of the reproducer at the time of the run, see `inputs.digest`.
    :param stock: the outcome on stock, as `run_pytest.cases` returns it.
    :param patched: the outcome with the whole series; ``None`` if no patch cures the bug on the release.
    :param patches: the SHA-256 of the edits of each patch that cures the bug, by name of the patch.
    :param inputs: the hash of the other inputs of both outcomes, see `inputs.fingerprint`.
    :param stock_inputs: the hash of the other inputs of the outcome on stock, without the patches.
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

    :param by: the names of the patches that cure the bug on that release.
    :param reason: why it is a known issue, or what went wrong.
    :param result: the recorded result from which the status follows.
    """

    release: Release
    bug: str
    status: Status
    by: tuple[str, ...] = ()
    reason: str = ""
    result: Result | None = None


Results = dict[str, dict[str, Result]]


def fails_by_assertion(outcome: str) -> bool:
    """Check whether an outcome is a failure by an assertion, or by a time limit that the test itself sets."""
    return outcome.startswith("failed: ") and bool(ASSERTION.match(outcome.removeprefix("failed: ")))


def read(folder: Path) -> Results:
    """
    Read the recorded results.

    :return: ``{release: {bug: result}}``; empty if there is no file.
    :raises Problem: if the file is broken.
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
    Write the results atomically.

    :param results: ``{release: {bug: result}}``.
    :raises Problem: if the file cannot be written.
    """
    data = {release: {bug: asdict(each) for bug, each in bugs.items()} for release, bugs in results.items()}
    write_whole(folder / FILE, json.dumps(data, indent=1, sort_keys=True) + "\n")


def distribution_of(bug: Bug) -> Distribution:
    """
    Return the distribution that has the bug: the one whose folder contains the reproducer.

    :raises Problem: if the bug has no reproducer.
    """
    for each in DISTRIBUTIONS:
        if (bug.reproducer or "").startswith(f"{each.root}/"):
            return each
    raise Problem(f"The bug {bug.slug} has no reproducer.", "Name it in bugs.toml.", Exit.REFUSED)


def cures(series: Series, bug: Bug, release: Release) -> list[Patch]:
    """Return the patches that cure a bug on a release, by their ``Fixes`` trailers."""
    return [patch for patch in series.serving(release) if bug.slug in patch.cures]


def edits(series: Series, bug: Bug, release: Release) -> dict[str, str]:
    """Return ``{name: SHA-256 of the edits}`` of the patches that cure a bug on a release."""
    return {patch.name: patch.edits_sha256 for patch in cures(series, bug, release)}


def judge(project: Project, results: Results, bug: Bug, release: Release) -> Finding:
    """
    Return the affected status of a bug on a release, from the recorded results of its reproducer alone.

    A bug whose reproducer passes on stock is fixed upstream if the reproducer fails on an older release, and
    otherwise does not affect the release.
    """
    found = results.get(str(release), {}).get(bug.slug)
    if found is None:
        return Finding(release, bug.slug, Status.NOT_RUN)
    if dict(found.patches) != edits(project.series, bug, release):
        return Finding(
            release, bug.slug, Status.NOT_RUN, reason="its patches changed after the last run", result=found
        )
    if bug.absent is not None and re.search(bug.absent, found.stock):
        return Finding(release, bug.slug, Status.NOT_AFFECTED, result=found)
    if found.stock == "passed":
        older = [
            results.get(str(each), {}).get(bug.slug)
            for each in project.releases
            if each.distribution is release.distribution and each.version < release.version
        ]
        fails = any(each is not None and fails_by_assertion(each.stock) for each in older)
        return Finding(release, bug.slug, Status.FIXED if fails else Status.NOT_AFFECTED, result=found)
    if not fails_by_assertion(found.stock):
        return Finding(release, bug.slug, Status.UNCLEAR, reason=found.stock, result=found)
    if found.patched is None:
        reason = next((why for versions, why in bug.open_on if release.version in versions), "")
        return Finding(release, bug.slug, Status.KNOWN_ISSUE, reason=reason, result=found)
    by = tuple(sorted(found.patches))
    if found.patched != "passed":
        return Finding(release, bug.slug, Status.NOT_CURED, by, found.patched, found)
    return Finding(release, bug.slug, Status.PATCHED, by, result=found)


def matrix(project: Project, results: Results) -> list[Finding]:
    """
    Return the affected status of every bug on every pinned release of its distribution.

    :return: the findings, in the order of the releases, then of the bugs.
    """
    return [
        judge(project, results, bug, release)
        for release in project.releases
        for bug in project.series.bugs.values()
        if distribution_of(bug) is release.distribution
    ]


def as_rows(findings: Sequence[Finding], distribution: Distribution) -> list[tuple[str, str, str, str, str]]:
    """
    Return the rows of the table of a distribution. Consecutive releases with the same status share a row.

    :return: one or more rows for each bug, in the order of the releases: bug, releases, status, patches or
        reason, outcomes of the reproducer.
    """
    mine = [finding for finding in findings if finding.release.distribution is distribution]
    rows = []
    for bug in dict.fromkeys(finding.bug for finding in mine):
        same = groupby(
            (finding for finding in mine if finding.bug == bug),
            key=lambda each: (each.status.value, slugs(each.by) or each.reason, _did(each.result)),
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
    """Return the slugs of patches and variants in one line, without duplicates."""
    return ", ".join(dict.fromkeys(name.partition("~")[0] for name in names))


def as_data(finding: Finding) -> dict[str, Any]:
    """
    Return a finding as data for JSON.

    :return: ``release``, ``bug``, ``status``, ``by`` (names of patches), ``reason`` and ``result`` (the
        fields of `Result`, or ``None``).
    """
    return {**asdict(finding), "release": str(finding.release), "status": finding.status.value}
