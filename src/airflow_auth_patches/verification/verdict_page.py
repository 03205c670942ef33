"""The page of the verdicts, ``docs/verdicts.md``: written by ``judge``, from the evidence alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from airflow_auth_patches.releases.releases import DISTRIBUTIONS, Distribution, Pins
from airflow_auth_patches.series import verdicts
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.series.verdicts import Book, Cell, Kind
from airflow_auth_patches.util.files import write_whole

FILE = "docs/verdicts.md"
#: One word for a cell of the wide tables.
SHORT = {
    Kind.NOT_AFFECTED: "·",
    Kind.FIXED: "fixed",
    Kind.PATCHED: "**patched**",
    Kind.OPEN: "**open**",
    Kind.NOT_CURED: "**not cured**",
    Kind.UNCLEAR: "?",
    Kind.NOT_RUN: "not run",
}
HEAD = """\
# Every bug on every release
Written by `airflow-auth-patches judge`, and checked by `airflow-auth-patches check`: do not edit it.

A verdict is what the bug's reproducer, one unit test, did on that release, as released and with the series \
applied, and nothing else. {legend} In the wide tables `·` is not affected.

`airflow-auth-patches list --matrix` prints the verdicts, with `--json` each with its evidence: the release \
that was installed beside it, the Python, the hashes of the reproducer, of the patches' edits and of what \
else decides, and what each run said. They are kept in `patches/verdicts.json`. `status` answers from them.
"""


def render(series: Series, pins: Pins, book: Book) -> str:
    """
    Write the page.

    :param book: the evidence.
    :return: its text, Markdown.
    """
    cells = verdicts.matrix(series, pins, book)
    parts = [HEAD.format(legend=verdicts.LEGEND)]
    for dist in DISTRIBUTIONS:
        mine = [cell for cell in cells if cell.release.distribution is dist]
        parts += [
            f"\n## {dist.name}\n\n",
            *_wide(mine),
            "\n",
            *_grouped(cells, dist),
            f"\nJudged beside: {_companions(mine)}.\n",
        ]
    parts += ["\n## The reproducers\n\n", *_reproducers(series)]
    return "".join(parts)


def _row(*columns: str) -> str:
    return f"| {' | '.join(columns)} |\n"


def _wide(cells: Sequence[Cell]) -> Iterator[str]:
    releases = list(dict.fromkeys(cell.release for cell in cells))
    yield _row("bug", *(str(release.version) for release in releases))
    yield _row(*["---"] * (len(releases) + 1))
    by_place = {(cell.bug, cell.release): cell for cell in cells}
    for bug in dict.fromkeys(cell.bug for cell in cells):
        yield _row(f"`{bug}`", *(SHORT[by_place[bug, release].kind] for release in releases))


def _grouped(cells: Sequence[Cell], dist: Distribution) -> Iterator[str]:
    yield _row("bug", "releases", "verdict", "by, or why", "its reproducer")
    yield _row(*["---"] * 5)
    for bug, span, verdict, told, did in verdicts.as_rows(cells, dist):
        yield _row(f"`{bug}`", span, verdict, told, did.replace("|", "\\|"))


def _companions(cells: Sequence[Cell]) -> str:
    found = dict.fromkeys(
        (str(cell.release.version), cell.evidence.beside.partition("==")[2], cell.evidence.python)
        for cell in cells
        if cell.evidence
    )
    return ", ".join(f"{mine} with {other} on Python {python}" for mine, other, python in found) or "nothing"


def _reproducers(series: Series) -> Iterator[str]:
    yield _row("bug", "what a user sees", "its reproducer")
    yield _row(*["---"] * 3)
    for bug in series.bugs.values():
        file, _, name = (bug.reproducer or "").partition("::")
        yield _row(f"`{bug.slug}`", bug.sees, f"[`{name}`](../{file})")


def write(root: Path, series: Series, pins: Pins, book: Book) -> None:
    """
    Write the page to its place.

    :param root: the checkout of this project.
    :raises Problem: when it cannot be written.
    """
    write_whole(root / FILE, render(series, pins, book))


def stale(root: Path, series: Series, pins: Pins, book: Book) -> bool:
    """Tell whether the page is not what the evidence says."""
    path = root / FILE
    return not path.exists() or path.read_text(encoding="utf-8") != render(series, pins, book)
