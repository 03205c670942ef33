"""The page ``docs/affected.md``: the affected status of every bug on every release."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_auth_patches.releases.releases import DISTRIBUTIONS, Distribution
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Results, Status
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.util.show import markdown_table

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
reproducer, of the patches' edits and of all other inputs. The results are in `patches/affected.json`."""


def render(project: Project, results: Results) -> str:
    """Return the text of the page, as Markdown."""
    findings = affected.matrix(project, results)
    parts = [HEAD.format(legend=affected.LEGEND)]
    for dist in DISTRIBUTIONS:
        mine = [finding for finding in findings if finding.release.distribution is dist]
        parts += [
            f"## {dist.name}",
            _wide(mine),
            _grouped(mine, dist),
            f"Installed with: {_companions(mine)}.",
        ]
    reproducers = []
    for bug in project.series.bugs.values():
        file, _, name = (bug.reproducer or "").partition("::")
        reproducers.append((f"`{bug.slug}`", bug.sees, f"[`{name}`](../{file})"))
    parts += ["## The reproducers", markdown_table(("bug", "symptom", "reproducer"), reproducers)]
    return "\n\n".join(parts) + "\n"


def _wide(findings: Sequence[Finding]) -> str:
    """Return the table with a column per release."""
    releases = dict.fromkeys(finding.release for finding in findings)
    status = {(finding.bug, finding.release): SHORT[finding.status] for finding in findings}
    bugs = dict.fromkeys(finding.bug for finding in findings)
    rows = [(f"`{bug}`", *(status[bug, release] for release in releases)) for bug in bugs]
    return markdown_table(("bug", *(str(release.version) for release in releases)), rows)


def _grouped(findings: Sequence[Finding], dist: Distribution) -> str:
    head = ("bug", "releases", "status", "patches, or reason", "outcomes of the reproducer")
    rows = affected.as_rows(findings, dist)
    return markdown_table(head, [(f"`{bug}`", *told, did.replace("|", "\\|")) for bug, *told, did in rows])


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
