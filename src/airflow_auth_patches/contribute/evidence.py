"""
The measured figures of a patch, taken from the documents that hold them.

``patches/evidence.toml`` says which rows of which table are whose. The figures themselves stand in the
documents alone, so that there is one place to mend after a new measurement.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem

FILE = "evidence.toml"
#: Columns that are for the readers of this project alone.
OURS = ("cured by", "first four")
#: A day and a month, which every sentence on a measurement has.
DAY = re.compile(rf"\b\d{{1,2}} (?:{'|'.join(calendar.month_name[1:])})\b")
SENTENCES = re.compile(r"(?<=[.:])\s+(?=[A-Z*])")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
BOLD = re.compile(r"^\*\*[^*]+\*\* ")
#: Columns in which an empty cell stands for the one above, as ``(same)`` does.
CARRIED = ("target", "scenario", "stock")
SAME = "(same)"


@dataclass(frozen=True)
class Pointer:
    """
    Where figures stand.

    :param page: the document, from the root of the project.
    :param scenario: the scenario of `demo` that gives them.
    :param rows: what the rows contain, one of these; empty for all rows of the scenario.
    """

    page: str
    scenario: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """
    Rows of a table of a document.

    :param caption: when and how they were measured.
    :param heads: the heads of its columns.
    :param rows: the cells, a cell for each head.
    :param scenarios: the scenarios of `demo` that give them.
    :param notes: the notes below the table that the rows refer to.
    """

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    scenarios: tuple[str, ...]
    notes: tuple[str, ...] = ()


def pointers(folder: Path) -> dict[str, tuple[Pointer, ...]]:
    """
    Read ``evidence.toml``.

    :param folder: the folder of the series.
    :return: ``{slug: where its figures stand}``.
    :raises Problem: when it is missing or broken.
    """
    path = folder / FILE
    with toml.opened(path) as raw:
        return {
            slug: tuple(Pointer(e["page"], e["scenario"], tuple(e.get("rows", ()))) for e in entries)
            for slug, entries in raw.items()
        }


def tables(root: Path, folder: Path, slug: str) -> list[Table]:
    """
    Return the measured figures of a patch.

    :param root: the checkout of this project.
    :param folder: the folder of the series.
    :return: a table for each one of the documents that has some; empty where no server was measured.
    :raises Problem: when a document has no such row.
    """
    found: dict[tuple[str, str, tuple[str, ...]], Table] = {}
    for pointer in pointers(folder).get(slug, ()):
        path = root / pointer.page
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise Problem(f"{path} cannot be read: {error}.", "Restore it from the repository.") from error
        meant = [each for each in (_meant(table, pointer) for table in read(text)) if each.rows]
        if not meant:
            wanted = " or ".join(pointer.rows) or pointer.scenario
            raise Problem(
                f"{pointer.page} has no row of {wanted}, which {FILE} names for {slug}.",
                f"Mend patches/{FILE}, or measure it again.",
            )
        for table in meant:
            key = (pointer.page, table.caption, table.heads)
            found[key] = _joined(found[key], table) if key in found else table
    return list(found.values())


def _meant(table: Table, pointer: Pointer) -> Table:
    """Return what a pointer means of a table, without the columns that are for us alone."""
    column = table.heads.index("scenario") if "scenario" in table.heads else None
    rows = [
        row
        for row in table.rows
        if (column is None or f"`{pointer.scenario}`" in row[column])
        and (
            any(wanted in cell for wanted in pointer.rows for cell in row)
            or (not pointer.rows and column is not None)
        )
    ]
    kept = [index for index, head in enumerate(table.heads) if head not in OURS]
    return Table(
        table.caption,
        tuple(table.heads[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in rows),
        (pointer.scenario,),
        tuple(note for note in table.notes if any(note[:3] in cell for row in rows for cell in row)),
    )


def _joined(one: Table, other: Table) -> Table:
    return Table(
        one.caption,
        one.heads,
        tuple(dict.fromkeys((*one.rows, *other.rows))),
        tuple(dict.fromkeys((*one.scenarios, *other.scenarios))),
        tuple(dict.fromkeys((*one.notes, *other.notes))),
    )


def read(text: str) -> Iterator[Table]:
    """
    Read the tables of a document.

    An empty cell of some columns, and ``(same)``, stand for what is above them.

    :param text: Markdown.
    """
    caption, lines = "", text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        if not line.startswith("|"):
            if told := [part for part in SENTENCES.split(BOLD.sub("", line)) if _on_measuring(part)]:
                caption = LINK.sub(r"\1", " ".join(told))
            number += 1
            continue
        end = next((n for n in range(number, len(lines)) if not lines[n].startswith("|")), len(lines))
        heads, _, *rows = (_cells(line) for line in lines[number:end])
        below = next((n for n in range(end, len(lines)) if lines[n].startswith("|")), len(lines))
        notes = tuple(LINK.sub(r"\1", line) for line in lines[end:below] if re.match(r"\([a-z]\) ", line))
        yield Table(caption, heads, tuple(_filled(heads, rows)), (), notes)
        number = end


def _on_measuring(sentence: str) -> bool:
    return bool(DAY.search(sentence)) or " in brackets " in sentence


def _cells(line: str) -> tuple[str, ...]:
    return tuple(LINK.sub(r"\1", cell.strip()) for cell in line.strip().strip("|").split("|"))


def _filled(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    above: list[str] = ["" for _ in heads]
    for row in rows:
        full = list(row) + [""] * (len(heads) - len(row))
        for index, head in enumerate(heads):
            if head in CARRIED and full[index] in ("", SAME):
                full[index] = above[index]
        above = full
        yield tuple(full)
