"""The report of the test matrix: as data for machines, and as one page of HTML that needs nothing else."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from rich.filesize import decimal

from airflow_auth_patches.releases.releases import Pair
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.verification.cells import PYTHONS, Cell, in_order, supported
from airflow_auth_patches.verification.matrix_results import Book, State, known, state_of

JSON, HTML = "report.json", "report.html"
#: What the words of `run_cell.outcome_of` mean.
COUNTED = (
    "Unit tests failed on stock by an assertion, passed on stock where they guard what works, and passed "
    "when patched. A mutant was killed by a named test. Alone are patches whose tests pass without others. "
    "Upstream's own tests are counted where they pass, and as unsteady where they passed on stock only in "
    "one of two whole runs."
)

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The test matrix</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #1c1c1c; background: #fff; }
table { border-collapse: collapse; margin: 1.5rem 0; }
th, td { border: 1px solid #c8c8c8; padding: .4rem .6rem; text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: #f0f0f0; }
tbody th { font-weight: 600; }
small { display: block; font-weight: 400; color: #4a4a4a; max-width: 22rem; }
dt { font-weight: 600; } dd { margin: 0 0 .4rem 0; }
li { font-family: ui-monospace, monospace; font-size: 12px; overflow-wrap: anywhere; }
details { max-width: 36rem; }
div { padding: .2rem .4rem; border-left: .4rem solid; }
.passed { border-color: #1a7f37; background: #e6f4ea; }
.failed, .error { border-color: #b3261e; background: #fbe9e7; }
.skipped { border-color: #9a6700; background: #fff6dd; }
.not-run { border-color: #8c8c8c; background: #f4f4f4; }
.none { color: #6a6a6a; }
</style>
</head>
<body>
<h1>The test matrix</h1>
<p><strong>$total</strong></p>
<dl>
$facts
</dl>
<table>
<thead><tr><th scope="col">core + provider</th>$heads</tr></thead>
<tbody>
$rows
</tbody>
</table>
</body>
</html>
""")


@dataclass(frozen=True)
class Sheet:
    """
    What a report is made of.

    :param pairs: the pairs that are tested, each a row.
    :param cells: every cell that can be chosen.
    :param chosen: the names of those that were, see `Cell.name`.
    :param machine: the Pythons that were looked for: ``{X.Y: X.Y.Z}``, or ``{X.Y: None}`` for one that is not
        there.
    :param unsupported: what of the chosen is no cell: ``{X.Y: names of the pairs that do not support it}``.
    """

    pairs: Sequence[Pair]
    cells: Sequence[Cell]
    chosen: frozenset[str]
    book: Book
    machine: Mapping[str, str | None]
    unsupported: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def shown(self) -> list[Cell]:
        """The cells that were chosen, and those of which something is kept."""
        return [cell for cell in self.cells if cell.name in self.chosen or cell.name in self.book]

    @property
    def pythons(self) -> list[str]:
        """The columns: the Pythons of the matrix, and what else is shown."""
        return in_order([*PYTHONS, *(cell.python for cell in self.shown)])


def total(cells: Sequence[Cell], book: Book) -> str:
    """
    Sum cells up in one line.

    :param cells: those of which to tell.
    """
    told = [state_of(cell, book)[0] for cell in cells]
    counts = [f"{told.count(state)} {state.value}" for state in State if state in told]
    seconds = sum(result.seconds for cell in cells if (result := known(cell, book)))
    said = f"{numbered(len(cells), 'cell')}: {', '.join(counts) or 'none'}; {duration(seconds)} of running"
    return f"{said}; disk: {_disk(cells, book)}."


def duration(seconds: float) -> str:
    """Word a length of time, as in ``1 h 5 min``, ``3 min 20 s`` or ``8 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def disk_use(cells: Sequence[Cell], book: Book) -> dict[str, int]:
    """
    Sum up what the environments of cells took on the disk, in bytes.

    :return: ``peak``: the most that was free again once the environments of a moment were removed;
        ``shared``: the most that a pair had as links to uv's cache, which stays; ``written``: what the
        environments of all pairs had for themselves, one pair after the other.
    """
    found = [(cell, result) for cell in cells if (result := known(cell, book))]
    places: dict[tuple[str, str], int] = {}
    for cell, result in found:  # the cells of a pair and Python have the same environments
        key = (cell.pair.name, cell.python)
        places[key] = max(places.get(key, 0), result.own)
    return {
        "peak": max((result.at_once for _, result in found), default=0),
        "shared": max((result.shared for _, result in found), default=0),
        "written": sum(places.values()),
    }


def _disk(cells: Sequence[Cell], book: Book) -> str:
    use = disk_use(cells, book)
    return (
        f"{decimal(use['peak'])} at most at once, beside at most {decimal(use['shared'])} of a pair "
        f"that are links to uv's cache"
    )


def skipped(cells: Sequence[Cell], book: Book) -> dict[str, int]:
    """Name the Pythons for want of which some of the cells are skipped: ``{X.Y: how many}``."""
    found: dict[str, int] = {}
    for cell in cells:
        if state_of(cell, book)[0] is State.SKIPPED:
            found[cell.python] = found.get(cell.python, 0) + 1
    return found


def as_data(sheet: Sheet) -> dict[str, Any]:
    """
    Give a report as plain data, for JSON.

    :return: ``written`` (UTC), ``pythons`` (``{X.Y: X.Y.Z or None}``), ``skipped`` (``{X.Y: cells}``),
        ``unsupported`` (``{X.Y: names of chosen pairs}``), ``totals`` (``{state: cells}``), ``disk`` (see
        :func:`disk_use`, bytes) and ``cells``: of each that was chosen or is kept ``pair``, ``why``,
        ``python``, ``part``, ``chosen``, ``state``, ``reason``, ``patches`` (slugs), and of what was run
        ``when`` (UTC), ``seconds``, ``counts``, ``faults`` and ``disk`` with ``own`` and ``shared`` (bytes),
        all ``None`` or empty where nothing holds.
    """
    states = [state_of(cell, sheet.book)[0].value for cell in sheet.shown]
    return {
        "written": _now(),
        "pythons": dict(sheet.machine),
        "skipped": skipped(sheet.shown, sheet.book),
        "unsupported": {version: list(names) for version, names in sheet.unsupported.items()},
        "totals": {state.value: states.count(state.value) for state in State},
        "disk": disk_use(sheet.shown, sheet.book),
        "cells": [_as_data(sheet, cell) for cell in sheet.shown],
    }


def _as_data(sheet: Sheet, cell: Cell) -> dict[str, Any]:
    state, reason = state_of(cell, sheet.book)
    result = known(cell, sheet.book)
    return {
        "pair": cell.pair.name,
        "why": cell.pair.why,
        "python": cell.python,
        "part": cell.part.value,
        "chosen": cell.name in sheet.chosen,
        "state": state.value,
        "reason": reason,
        "patches": list(cell.patches),
        "when": result.when if result else None,
        "seconds": result.seconds if result else None,
        "counts": dict(result.counts) if result else {},
        "faults": list(result.faults) if result else [],
        "disk": {"own": result.own, "shared": result.shared} if result else None,
    }


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def as_html(sheet: Sheet) -> str:
    """Give a report as a page: a row for each pair, a column for each Python; a word in each cell."""
    missing = skipped(sheet.shown, sheet.book)
    names = [f"{version} ({numbered(count, 'cell')})" for version, count in missing.items()]
    has = [full or f"no {version}" for version, full in sheet.machine.items()]
    facts = {
        "Written": _now(),
        "Pythons of this machine": ", ".join(has),
        "Skipped for want of a Python": ", ".join(names) or "none",
        "Disk": f"{_disk(sheet.shown, sheet.book)}. {decimal(disk_use(sheet.shown, sheet.book)['written'])} "
        "were written for all pairs together, and are removed with their environments.",
        "Counted": COUNTED,
    }
    by_place = {
        key: list(some) for key, some in groupby(sheet.shown, key=lambda cell: (cell.pair.name, cell.python))
    }
    rows = [
        f'<tr><th scope="row">{escape(pair.name)}<small>{escape(pair.why)}</small></th>'
        + "".join(
            f"<td>{_place(sheet, pair, version, by_place.get((pair.name, version), ()))}</td>"
            for version in sheet.pythons
        )
        + "</tr>"
        for pair in sheet.pairs
    ]
    return PAGE.substitute(
        total=escape(total(sheet.shown, sheet.book)),
        facts="\n".join(f"<dt>{escape(word)}</dt><dd>{escape(said)}</dd>" for word, said in facts.items()),
        heads="".join(f'<th scope="col">Python {escape(version)}</th>' for version in sheet.pythons),
        rows="\n".join(rows),
    )


def _place(sheet: Sheet, pair: Pair, version: str, cells: Sequence[Cell]) -> str:
    if not cells:
        said = "not chosen" if version in supported(pair) else "not supported"
        return f'<span class="none">{said}</span>'
    return "".join(_cell(sheet, cell) for cell in cells)


def _cell(sheet: Sheet, cell: Cell) -> str:
    state, reason = state_of(cell, sheet.book)
    text = [f"<strong>{escape(cell.part.value)}: {escape(state.value)}</strong>"]
    if reason:
        text.append(f"<small>{escape(reason)}</small>")
    if result := known(cell, sheet.book):
        if state is not State.SKIPPED:
            told = [duration(result.seconds), *counted(result.counts), decimal(result.own)]
            text.append(f"<small>{escape(', '.join(told))}</small>")
        if result.faults:
            lines = "".join(f"<li>{escape(fault)}</li>" for fault in result.faults)
            said = numbered(len(result.faults), "fault")
            text.append(f"<details><summary>{said}</summary><ul>{lines}</ul></details>")
    return f'<div class="{escape(state.value.replace(" ", "-"))}">{"".join(text)}</div>'


def numbered(count: int, word: str) -> str:
    """Word a number of things, as in ``1 cell`` and ``2 cells``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def counted(counts: Mapping[str, int]) -> list[str]:
    """Word the counts of a cell, as in ``12 failed on stock`` and ``1 mutant``, in one order in all cells."""
    return [
        f"{number} {(word.removesuffix('s') if number == 1 else word).replace('_', ' ')}"
        for word, number in sorted(counts.items())
    ]


def write(folder: Path, sheet: Sheet) -> None:
    """
    Write both forms of a report, each whole or not at all.

    :raises Problem: when one cannot be written.
    """
    write_whole(folder / JSON, json.dumps(as_data(sheet), indent=1) + "\n")
    write_whole(folder / HTML, as_html(sheet))
