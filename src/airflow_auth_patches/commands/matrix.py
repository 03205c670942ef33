"""Run the reproducers of the bugs on releases, and keep what they said."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_auth_patches import environments, reproduce, verdict_page, verdicts
from airflow_auth_patches.commands.prove import few_at_once, folder_of, patched_environment
from airflow_auth_patches.errors import Exit, Problem
from airflow_auth_patches.progress import Progress, Silent
from airflow_auth_patches.releases import CORE, Pair, Pins, Release
from airflow_auth_patches.series import Bug, Series
from airflow_auth_patches.verdicts import Cell, Evidence

#: Days after the later of two releases as of which a pair that is not pinned is resolved.
SETTLED = 3


def companion(pins: Pins, release: Release) -> Pair:
    """
    Return the pair in which a release is judged: the first that is pinned with it, else one of its day.

    :raises Problem: when no release of the other distribution is as old.
    """
    for pair in pins.pairs:
        if release in (pair.core, pair.fab):
            return pair
    others = [each for each in pins.releases if each.distribution is not release.distribution]
    before = [each for each in others if each.date <= release.date] or others[:1]
    if not before:
        raise Problem(f"There is nothing to judge {release} with.", "Pin a pair for it.", Exit.USAGE)
    beside = max(before, key=lambda each: each.date)
    day = max(release.date, beside.date) + datetime.timedelta(days=SETTLED)
    core, fab = (release, beside) if release.distribution is CORE else (beside, release)
    return Pair(core, fab, day, "of its day")


def judge(
    root: Path,
    series: Series,
    pins: Pins,
    python: str,
    wanted: Sequence[Release],
    *,
    again: bool = False,
    progress: Progress | None = None,
) -> Iterator[list[Cell]]:
    """
    Run the reproducers on releases, keeping the evidence of each, and the page, as soon as it is whole.

    What was run already with the same reproducer and the same patches, and gave a verdict, is not run again.

    :param root: the checkout of this project.
    :param python: the Python version, as in ``3.11``.
    :param again: whether to run that again too.
    :return: the verdicts on one release after the other.
    :raises Problem: when an environment cannot be made.
    """
    progress = progress or Silent()
    book = verdicts.read(series.folder)
    with progress.task("judging releases", len(wanted)) as advance:
        for release in wanted:
            bugs = [b for b in series.bugs.values() if verdicts.distribution_of(b) is release.distribution]
            known = book.setdefault(str(release), {})
            due = [
                bug
                for bug in bugs
                if again
                or verdicts.judge(series, pins, book, bug, release).kind in verdicts.UNKNOWN
                or known[bug.slug].reproducer != verdicts.digest(root, bug)
            ]
            if due:
                known.update(_run(root, series, pins, python, release, due, progress))
                verdicts.write(series.folder, book)
                verdict_page.write(root, series, pins, book)
            yield [verdicts.judge(series, pins, book, bug, release) for bug in bugs]
            advance(1)
    verdict_page.write(root, series, pins, book)  # its words may be others where nothing was due


def _run(
    root: Path,
    series: Series,
    pins: Pins,
    python: str,
    release: Release,
    bugs: Sequence[Bug],
    progress: Progress,
) -> dict[str, Evidence]:
    pair = companion(pins, release)
    beside = pair.fab if release.distribution is CORE else pair.core
    stock = environments.make(pair, python, folder_of(root, pair, python, "stock"), progress)
    patched = patched_environment(root, series, pins, pair, python, progress)
    cured = [bug for bug in bugs if verdicts.cures(series, bug, release)]
    with (
        progress.task(f"running {len(bugs)} reproducers on {release}, stock and patched"),
        few_at_once() as pool,
    ):
        on_stock = pool.submit(reproduce.reproduce, root, stock, bugs)
        on_patched = pool.submit(reproduce.reproduce, root, patched, cured)
        before, after = on_stock.result(), on_patched.result()
    return {
        bug.slug: Evidence(
            str(beside),
            python,
            verdicts.digest(root, bug),
            before[bug.slug],
            after.get(bug.slug),
            {patch.name: patch.sha256 for patch in verdicts.cures(series, bug, release)},
        )
        for bug in bugs
    }
