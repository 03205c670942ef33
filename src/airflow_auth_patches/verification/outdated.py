"""Find the recorded results that are outdated, and the reproducers that must run again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from airflow_auth_patches.releases.releases import Release
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Results, Status
from airflow_auth_patches.series.bugs import Bug
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.verification import inputs

#: Statuses that `judge` runs again. A busy machine can cause a false `NOT_CURED`.
DUE = (*affected.UNKNOWN, Status.NOT_CURED)


def of_the_series(project: Project, results: Results) -> Results:
    """Return the results without those of releases and bugs that no longer exist."""
    findings = affected.matrix(project, results)
    return {
        str(release): {bug: results[str(release)][bug] for bug in bugs if bug in results[str(release)]}
        for release, some in groupby(findings, key=lambda finding: finding.release)
        if str(release) in results
        for bugs in [[finding.bug for finding in some]]
    }


def is_due(project: Project, results: Results, bug: Bug, release: Release, python: str) -> bool:
    """
    Check whether a reproducer must run: it has no result, its inputs changed, or the result is inconclusive.
    """
    finding = affected.judge(project, results, bug, release)
    if finding.result is None or finding.result.python != python or finding.status in DUE:
        return True
    return any(_outdated(project, bug, finding))


def stock_holds(project: Project, results: Results, bug: Bug, release: Release, python: str) -> bool:
    """Check whether the recorded outcome on the stock release is up to date, independently of the patches."""
    finding = affected.judge(project, results, bug, release)
    found = finding.result
    if found is None or found.python != python or finding.status in (Status.UNCLEAR, Status.NOT_CURED):
        return False
    pair = inputs.companion(project.releases, bug, release)
    return found.reproducer == inputs.digest(project.root, bug) and found.stock_inputs == inputs.fingerprint(
        project, pair, python, patched=False
    )


def _outdated(project: Project, bug: Bug, finding: Finding) -> Iterator[str]:
    found = finding.result
    assert found is not None
    if found.reproducer != inputs.digest(project.root, bug):
        yield "was run with another reproducer"
    if dict(found.patches) != affected.edits(project.series, bug, finding.release):
        yield "was run with other patches"
        return
    pair = inputs.companion(project.releases, bug, finding.release)
    other = pair.fab if finding.release is pair.core else pair.core
    if found.installed_with != str(other):
        yield f"was run with {found.installed_with}, not with {other}"
    elif found.inputs != inputs.fingerprint(project, pair, found.python, patched=bool(found.patches)):
        yield "was run with another series, another pytest plugin stub, or in another environment"


def faults(project: Project, results: Results) -> Iterator[str]:
    """
    Find missing, outdated and inconclusive recorded results.

    A reproducer that passes on stock is also a fault if a patch cures the bug on that release, or if the
    reproducer fails on the patched release.

    :return: one sentence per fault.
    """
    for finding in affected.matrix(project, results):
        where = f"{finding.bug} on {finding.release}"
        bug = project.series.bugs[finding.bug]
        if finding.result is None:
            yield f"{where} was not run."
            continue
        if finding.status in (Status.NOT_CURED, Status.UNCLEAR):
            yield f"{where} is {finding.status.value}: {finding.reason}"
        if finding.status is Status.KNOWN_ISSUE and not finding.reason:
            yield f"{where} is a known issue, but bugs.toml gives no reason."
        for what in _outdated(project, bug, finding):
            yield f"{where} {what}."
        if finding.status in (Status.NOT_AFFECTED, Status.FIXED):
            if finding.result.patches:
                names = ", ".join(finding.result.patches)
                yield f"{where} is {finding.status.value}, but {names} claims to cure it."
            if finding.result.patched not in (None, "passed"):
                yield f"{where} is {finding.status.value}, but when patched: {finding.result.patched}"
    yield from _left_over(project, results)


def _left_over(project: Project, results: Results) -> Iterator[str]:
    findings = affected.matrix(project, results)
    wanted = {(str(finding.release), finding.bug) for finding in findings}
    for release, bugs in results.items():
        for bug in bugs:
            if (release, bug) not in wanted:
                yield f"{bug} on {release} is in {affected.FILE}, but not in the series."
    for known in project.series.bugs.values():
        mine = [finding for finding in findings if finding.bug == known.slug]
        for versions, _ in known.open_on:
            kinds = {finding.status for finding in mine if finding.release.version in versions}
            if not kinds & {Status.KNOWN_ISSUE, Status.NOT_RUN}:
                yield f"{known.slug} is not a known issue of any release of {versions}: correct bugs.toml."
