"""Run the reproducers of the bugs on releases, and keep what they said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.pair_environments import folder_of, patched_environment
from airflow_auth_patches.releases.releases import CORE, Pair, Pins, Release
from airflow_auth_patches.series import verdicts
from airflow_auth_patches.series.series import Bug, Series
from airflow_auth_patches.series.verdicts import Cell, Evidence
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Progress, Silent
from airflow_auth_patches.verification import basis, reproduce, staleness, verdict_page
from airflow_auth_patches.verification.prove import few_at_once


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

    What was run already on that Python, and gave a verdict that nothing has changed since, is not run again.

    :param root: the checkout of this project.
    :param python: the Python version, as in ``3.11``.
    :param again: whether to run that again too.
    :return: the verdicts on one release after the other.
    :raises Problem: when a release does not support that Python, or an environment cannot be made.
    """
    progress = progress or Silent()
    for release in wanted:
        if python not in release.pythons:
            raise Problem(
                f"{release} does not support Python {python}.",
                f"It supports {', '.join(release.pythons)}.",
                Exit.USAGE,
            )
    book = staleness.of_the_series(series, pins, verdicts.read(series.folder))
    with progress.task("judging releases", len(wanted)) as advance:
        for release in wanted:
            bugs = [b for b in series.bugs.values() if verdicts.distribution_of(b) is release.distribution]
            known = book.setdefault(str(release), {})
            due = [
                bug
                for bug in bugs
                if again or staleness.is_due(root, series, pins, book, bug, release, python)
            ]
            for pair in _pairs(pins, release, due):
                some = [bug for bug in due if basis.companion(pins, bug, release) == pair]
                held = {
                    bug.slug: known[bug.slug].stock
                    for bug in some
                    if not again and staleness.stock_holds(root, series, pins, book, bug, release, python)
                }
                known.update(_run(root, series, pins, python, release, pair, some, held, progress))
                verdicts.write(series.folder, book)
                verdict_page.write(root, series, pins, book)
            yield [verdicts.judge(series, pins, book, bug, release) for bug in bugs]
            advance(1)
    verdict_page.write(root, series, pins, book)  # its words may be others where nothing was due


def _pairs(pins: Pins, release: Release, bugs: Sequence[Bug]) -> list[Pair]:
    found: list[Pair] = []
    for bug in bugs:
        pair = basis.companion(pins, bug, release)
        if pair not in found:
            found.append(pair)
    return found


def _run(
    root: Path,
    series: Series,
    pins: Pins,
    python: str,
    release: Release,
    pair: Pair,
    bugs: Sequence[Bug],
    held: Mapping[str, str],
    progress: Progress,
) -> dict[str, Evidence]:
    """Run reproducers, on stock but for those whose outcome there is up to date; return the results."""
    beside = pair.fab if release.distribution is CORE else pair.core
    asked = [bug for bug in bugs if bug.slug not in held]
    cured = [bug for bug in bugs if verdicts.cures(series, bug, release)]
    with few_at_once() as pool:
        runs = []
        for kind, some in (("stock", asked), ("patched", cured)):
            if not some:
                continue
            if kind == "stock":
                made = environments.make(pair, python, folder_of(root, pair, python, kind), progress)
            else:
                made = patched_environment(root, series, pins, pair, python, progress)
            runs.append((kind, pool.submit(reproduce.reproduce, root, made, some)))
        told = f"{len(asked)} reproducers on stock and {len(cured)} on patched {release}"
        with progress.task(f"running {told}"):
            found = {kind: run.result() for kind, run in runs}
    before, after = {**held, **found.get("stock", {})}, found.get("patched", {})
    return {
        bug.slug: Evidence(
            str(beside),
            python,
            basis.digest(root, bug),
            before[bug.slug],
            after.get(bug.slug),
            verdicts.edits(series, bug, release),
            basis.fingerprint(root, series, pair, python, patched=bug in cured),
            basis.fingerprint(root, series, pair, python, patched=False),
        )
        for bug in bugs
    }
