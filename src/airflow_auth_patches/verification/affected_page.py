"""The page ``docs/affected.md``: the affected status of every bug on every release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_auth_patches.releases.releases import DISTRIBUTIONS, Distribution
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Results, Status
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.files import write_whole

FILE = "docs/affected.md"
#: Short names of the statuses, for the tables with a column per release.
SHORT = {
    Status.NOT_AFFECTED: "·",
    Status.FIXED: "fixed",
    Status.PATCHED: "**patched**",
    Status.KNOWN_ISSUE: "**known issue**",
    Status.NOT_CURED: "**not cured**",
    Status.UNCLEAR: "?",
    Status.NOT_RUN: "not run",
}
HEAD = """\
# Every bug on every release
Written by `airflow-auth-patches judge`, and checked by `airflow-auth-patches check`: do not edit it.

The reproducer of a bug is one unit test. It runs on each release, as released and with the series applied; \
these two outcomes determine the status. {legend} In the tables with a column per release, `·` means \
not affected.

`airflow-auth-patches list --matrix` prints these tables. With `--json` it prints each recorded result: the \
outcomes, the Python version, the installed release of the other distribution, and the hashes of the \
reproducer, of the patches' edits and of all other inputs. The results are in `patches/affected.json`.
"""


def render(project: Project, results: Results) -> str:
    """
    Return the text of the page.

    :param results: the recorded results.
    :return: Markdown.
    """
    findings = affected.matrix(project, results)
    parts = [HEAD.format(legend=affected.LEGEND)]
    for dist in DISTRIBUTIONS:
        mine = [finding for finding in findings if finding.release.distribution is dist]
        parts += [
            f"\n## {dist.name}\n\n",
            *_wide(mine),
            "\n",
            *_grouped(findings, dist),
            f"\nInstalled with: {_companions(mine)}.\n",
        ]
    parts += ["\n## The reproducers\n\n", *_reproducers(project.series)]
    return "".join(parts)


def _row(*columns: str) -> str:
    return f"| {' | '.join(columns)} |\n"


def _wide(findings: Sequence[Finding]) -> Iterator[str]:
    releases = list(dict.fromkeys(finding.release for finding in findings))
    yield _row("bug", *(str(release.version) for release in releases))
    yield _row(*["---"] * (len(releases) + 1))
    by_place = {(finding.bug, finding.release): finding for finding in findings}
    for bug in dict.fromkeys(finding.bug for finding in findings):
        yield _row(f"`{bug}`", *(SHORT[by_place[bug, release].status] for release in releases))


def _grouped(findings: Sequence[Finding], dist: Distribution) -> Iterator[str]:
    yield _row("bug", "releases", "status", "patches, or reason", "outcomes of the reproducer")
    yield _row(*["---"] * 5)
    for bug, span, status, reason, outcomes in affected.as_rows(findings, dist):
        yield _row(f"`{bug}`", span, status, reason, outcomes.replace("|", "\\|"))


def _companions(findings: Sequence[Finding]) -> str:
    found = dict.fromkeys(
        (
            str(finding.release.version),
            finding.result.installed_with.partition("==")[2],
            finding.result.python,
        )
        for finding in findings
        if finding.result
    )
    return ", ".join(f"{mine} with {other} on Python {python}" for mine, other, python in found) or "nothing"


def _reproducers(series: Series) -> Iterator[str]:
    yield _row("bug", "symptom", "reproducer")
    yield _row(*["---"] * 3)
    for bug in series.bugs.values():
        file, _, name = (bug.reproducer or "").partition("::")
        yield _row(f"`{bug.slug}`", bug.sees, f"[`{name}`](../{file})")


def write(project: Project, results: Results) -> None:
    """
    Write the page to ``docs/affected.md``.

    :raises Problem: when the file cannot be written.
    """
    write_whole(project.root / FILE, render(project, results))


def outdated(project: Project, results: Results) -> bool:
    """Check whether the page differs from the recorded results."""
    path = project.root / FILE
    return not path.exists() or path.read_text(encoding="utf-8") != render(project, results)
