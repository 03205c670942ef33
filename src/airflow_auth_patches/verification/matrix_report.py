"""The reports of the test matrix: a JSON file, and one self-contained HTML page."""

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
from airflow_auth_patches.verification.matrix_results import Results, State, known, state_of

JSON, HTML = "report.json", "report.html"
#: Explains the counts of `run_cell.outcome_of`.
COUNTED = (
    "failed on stock: unit tests that fail by an assertion, as expected. passed on stock: regression tests. "
    "passed patched: unit tests that pass with the patches. mutants: mutants that a named test killed. "
    "alone: patches whose tests pass when no other patch is applied. pass on stock, pass when patched: "
    "upstream's tests that pass. unsteady: flaky tests of upstream, which passed on stock only in one of two "
    "complete runs."
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
class ReportData:
    """
    The data of a report.

    :param pairs: the pairs that are tested, one per row.
    :param cells: every cell that can be chosen.
    :param chosen: the names of the chosen cells, see `Cell.name`.
    :param results: the recorded results.
    :param interpreters: the Python versions on this machine: ``{X.Y: X.Y.Z}``, or ``{X.Y: None}`` if missing.
    :param unsupported: chosen combinations without a cell:
        ``{X.Y: names of the pairs that do not support it}``.
    """

    pairs: Sequence[Pair]
    cells: Sequence[Cell]
    chosen: frozenset[str]
    results: Results
    interpreters: Mapping[str, str | None]
    unsupported: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def shown(self) -> list[Cell]:
        """The chosen cells, and the cells with a recorded result."""
        return [cell for cell in self.cells if cell.name in self.chosen or cell.name in self.results]

    @property
    def pythons(self) -> list[str]:
        """The columns: the Python versions of the matrix and of all shown cells."""
        return in_order([*PYTHONS, *(cell.python for cell in self.shown)])


def total(cells: Sequence[Cell], results: Results) -> str:
    """
    Return a one-line summary of cells.

    :param cells: the cells to summarize.
    :param results: the recorded results.
    """
    states = [state_of(cell, results)[0] for cell in cells]
    counts = [f"{states.count(state)} {state.value}" for state in State if state in states]
    seconds = sum(result.seconds for cell in cells if (result := known(cell, results)))
    summary = f"{numbered(len(cells), 'cell')}: {', '.join(counts) or 'none'}; run time {duration(seconds)}"
    return f"{summary}; disk: {_disk(cells, results)}."


def duration(seconds: float) -> str:
    """Return a duration as text, as in ``1 h 5 min``, ``3 min 20 s`` or ``8 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def disk_use(cells: Sequence[Cell], results: Results) -> dict[str, int]:
    """
    Return the disk usage of the environments of cells, in bytes.

    :return: ``peak``: the maximum size of all environments that existed at the same time, without files that
        are links to uv's cache; ``shared``: the maximum size of the links to uv's cache for one pair;
        ``written``: the total size of the environments of all pairs, without links.
    """
    found = [(cell, result) for cell in cells if (result := known(cell, results))]
    places: dict[tuple[str, str], int] = {}
    for cell, result in found:  # the cells of a pair and Python version share environments
        key = (cell.pair.name, cell.python)
        places[key] = max(places.get(key, 0), result.own)
    return {
        "peak": max((result.at_once for _, result in found), default=0),
        "shared": max((result.shared for _, result in found), default=0),
        "written": sum(places.values()),
    }


def _disk(cells: Sequence[Cell], results: Results) -> str:
    use = disk_use(cells, results)
    return (
        f"at most {decimal(use['peak'])} at the same time, plus at most {decimal(use['shared'])} per pair as "
        f"links to the uv cache"
    )


def skipped(cells: Sequence[Cell], results: Results) -> dict[str, int]:
    """Return the missing Python versions with the number of skipped cells: ``{X.Y: cells}``."""
    found: dict[str, int] = {}
    for cell in cells:
        if state_of(cell, results)[0] is State.SKIPPED:
            found[cell.python] = found.get(cell.python, 0) + 1
    return found


def as_data(report: ReportData) -> dict[str, Any]:
    """
    Return a report as JSON-serializable data.

    :return: ``written`` (UTC), ``pythons`` (``{X.Y: X.Y.Z or None}``), ``skipped`` (``{X.Y: cells}``),
        ``unsupported`` (``{X.Y: names of chosen pairs}``), ``totals`` (``{state: cells}``), ``disk`` (see
        :func:`disk_use`, bytes) and ``cells``. Each cell has ``pair``, ``why``, ``python``, ``part``,
        ``chosen``, ``state``, ``reason`` and ``patches`` (slugs). It also has ``when`` (UTC), ``seconds``,
        ``counts``, ``faults`` and ``disk`` with ``own`` and ``shared`` (bytes); these are ``None`` or empty
        if no recorded result is up to date.
    """
    states = [state_of(cell, report.results)[0].value for cell in report.shown]
    return {
        "written": _now(),
        "pythons": dict(report.interpreters),
        "skipped": skipped(report.shown, report.results),
        "unsupported": {version: list(names) for version, names in report.unsupported.items()},
        "totals": {state.value: states.count(state.value) for state in State},
        "disk": disk_use(report.shown, report.results),
        "cells": [_as_data(report, cell) for cell in report.shown],
    }


def _as_data(report: ReportData, cell: Cell) -> dict[str, Any]:
    state, reason = state_of(cell, report.results)
    result = known(cell, report.results)
    return {
        "pair": cell.pair.name,
        "why": cell.pair.why,
        "python": cell.python,
        "part": cell.part.value,
        "chosen": cell.name in report.chosen,
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


def as_html(report: ReportData) -> str:
    """Return a report as an HTML page with a row per pair and a column per Python version."""
    missing = skipped(report.shown, report.results)
    names = [f"{version} ({numbered(count, 'cell')})" for version, count in missing.items()]
    has = [full or f"no {version}" for version, full in report.interpreters.items()]
    written = disk_use(report.shown, report.results)["written"]
    facts = {
        "Written": _now(),
        "Python versions on this machine": ", ".join(has),
        "Skipped because a Python version is missing": ", ".join(names) or "none",
        "Disk": f"{_disk(report.shown, report.results)}. {decimal(written)} were written in total, "
        "and are removed with the environments.",
        "Meaning of the counts": COUNTED,
    }
    groups = {
        key: list(some) for key, some in groupby(report.shown, key=lambda cell: (cell.pair.name, cell.python))
    }
    rows = [
        f'<tr><th scope="row">{escape(pair.name)}<small>{escape(pair.why)}</small></th>'
        + "".join(
            f"<td>{_group(report, pair, version, groups.get((pair.name, version), ()))}</td>"
            for version in report.pythons
        )
        + "</tr>"
        for pair in report.pairs
    ]
    return PAGE.substitute(
        total=escape(total(report.shown, report.results)),
        facts="\n".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in facts.items()),
        heads="".join(f'<th scope="col">Python {escape(version)}</th>' for version in report.pythons),
        rows="\n".join(rows),
    )


def _group(report: ReportData, pair: Pair, version: str, cells: Sequence[Cell]) -> str:
    if not cells:
        text = "not chosen" if version in supported(pair) else "not supported"
        return f'<span class="none">{text}</span>'
    return "".join(_cell(report, cell) for cell in cells)


def _cell(report: ReportData, cell: Cell) -> str:
    state, reason = state_of(cell, report.results)
    text = [f"<strong>{escape(cell.part.value)}: {escape(state.value)}</strong>"]
    if reason:
        text.append(f"<small>{escape(reason)}</small>")
    if result := known(cell, report.results):
        if state is not State.SKIPPED:
            parts = [duration(result.seconds), *counted(result.counts), decimal(result.own)]
            text.append(f"<small>{escape(', '.join(parts))}</small>")
        if result.faults:
            lines = "".join(f"<li>{escape(fault)}</li>" for fault in result.faults)
            summary = numbered(len(result.faults), "fault")
            text.append(f"<details><summary>{summary}</summary><ul>{lines}</ul></details>")
    return f'<div class="{escape(state.value.replace(" ", "-"))}">{"".join(text)}</div>'


def numbered(count: int, word: str) -> str:
    """Return a number with a noun, as in ``1 cell`` and ``2 cells``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def counted(counts: Mapping[str, int]) -> list[str]:
    """Return the counts of a cell as text, sorted, as in ``12 failed on stock`` and ``1 mutant``."""
    return [
        f"{number} {(word.removesuffix('s') if number == 1 else word).replace('_', ' ')}"
        for word, number in sorted(counts.items())
    ]


def write(folder: Path, report: ReportData) -> None:
    """
    Write the JSON file and the HTML page of a report. Each file is replaced atomically.

    :raises Problem: when a file cannot be written.
    """
    write_whole(folder / JSON, json.dumps(as_data(report), indent=1) + "\n")
    write_whole(folder / HTML, as_html(report))
