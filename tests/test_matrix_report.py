"""The report of the test matrix: what is in the page, and that it needs nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from airflow_auth_patches.verification import matrix_report
from airflow_auth_patches.verification.cells import PYTHONS, Cell, Part, choose
from airflow_auth_patches.verification.matrix_report import ReportData
from airflow_auth_patches.verification.matrix_results import Result, State

MB = 1_000_000
MACHINE = {"3.10": "3.10.13", "3.11": "3.11.7", "3.12": "3.12.1", "3.13": None}
ODD = '<b>bold</b> & "quoted" $total ${rows}'


class Page(HTMLParser):
    """Reads the table of a report: its heads, its rows, the classes of its cells, what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.classes: list[list[str]] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "style", "action")]
        if tag == "tr":
            self.rows.append([])
            self.classes.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if self.rows:
            self.classes[-1] += [value for name, value in attrs if name == "class"]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += f"{data} "


@pytest.fixture
def every(root, project, pins) -> list[Cell]:
    return choose(root, project, pins.pairs, PYTHONS, parts=list(Part))


@pytest.fixture
def sheet(every, pins):
    """Return a report of some results, given by the name of the cell."""

    def make(chosen: list[str], **results: Result) -> ReportData:
        return ReportData(pins.pairs, every, frozenset(chosen), results, MACHINE)

    return make


def result(every: list[Cell], name: str, state: State, **fields) -> dict[str, Result]:
    (cell,) = (cell for cell in every if cell.name == name)
    entry = Result(
        state, cell.fingerprint, "2026-11-21T15:30:00Z", 84.2, {"failed_on_stock": 12, "passed_patched": 30}
    )
    return {name: replace(entry, **fields)}


A, B, C = (f"{pair} tests" for pair in ("3.1.6+3.3.0 3.11", "3.3.2+3.8.0 3.11", "3.3.2+3.8.0 3.13"))


def test_every_pair_and_python_is_in_the_page(sheet, pins):
    page = Page(matrix_report.as_html(sheet([])))
    assert page.open == []
    head, *rows = page.rows
    assert [cell.strip() for cell in head[1:]] == [f"Python {version}" for version in PYTHONS]
    assert len(rows) == len(pins.pairs)
    for row, pair in zip(rows, pins.pairs, strict=True):
        assert row[0].split() == [pair.name, *pair.why.split()]
        words = [cell.strip() for cell in row[1:]]
        able = set(pair.core.pythons) & set(pair.fab.pythons)
        assert words == ["not chosen" if version in able else "not supported" for version in PYTHONS]


def test_a_cell_has_a_word_and_a_colour(sheet, every):
    told = sheet(
        [A, B, C],
        **result(every, A, State.PASSED, own=50 * MB),
        **result(every, B, State.FAILED, faults=("users-route, stock: one", "two")),
        **result(every, C, State.SKIPPED, reason="Python 3.13 is not on this machine"),
        **result(every, "3.3.2+3.10.2 3.12 mutants", State.ERROR, reason="uv failed."),
    )
    page = Page(matrix_report.as_html(told))
    rows = dict(
        zip([row[0].split()[0] for row in page.rows], zip(page.rows, page.classes, strict=True), strict=True)
    )
    (row, classes) = rows["3.1.6+3.3.0"]
    assert (
        " ".join(row[2].split()) == "tests: passed 1 min 24 s, 12 failed on stock, 30 passed patched, 50.0 MB"
    )
    assert "passed" in classes
    (row, classes) = rows["3.3.2+3.8.0"]
    assert row[2].startswith("tests: failed 1 min 24 s")
    assert "2 faults users-route, stock: one two" in row[2]
    assert " ".join(row[4].split()) == "tests: skipped Python 3.13 is not on this machine"
    assert [word for word in classes if word != "none"] == ["failed", "skipped"]
    (row, _) = rows["3.3.2+3.10.2"]
    assert row[3].startswith("mutants: error uv failed.")  # not chosen this time, but kept


def test_what_changed_since_is_not_told_as_passed(sheet, every):
    old = result(every, A, State.PASSED, fingerprint="other")
    page = Page(matrix_report.as_html(sheet([A], **old)))
    assert page.rows[1][2].startswith("tests: not run passed on 2026-11-21, but its inputs changed")
    assert "not-run" in page.classes[1]
    (cell,) = matrix_report.as_data(sheet([A], **old))["cells"]
    assert (cell["state"], cell["seconds"], cell["disk"]) == ("not run", None, None)


def test_what_is_told_cannot_break_the_page(every, pins):
    pair = replace(pins.pair("3.1.6+3.3.0"), why=ODD)
    told = [replace(cell, pair=pair) for cell in every if cell.pair.name == pair.name]
    book = result(every, A, State.FAILED, faults=(ODD,), reason=ODD, counts={ODD: 1})
    text = matrix_report.as_html(ReportData([pair], told, frozenset([A]), book, {"3.11": ODD}))
    page = Page(text)
    assert "b" not in page.tags
    assert ODD in page.rows[1][0]
    assert page.rows[1][2].count(ODD) == 3
    assert "<b>" not in text


def test_the_page_needs_nothing_else(sheet, every):
    text = matrix_report.as_html(sheet([A], **result(every, A, State.PASSED)))
    page = Page(text)
    assert page.links == []
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    for word in ("http:", "https:", "//", "@import", "url("):
        assert word not in text


def test_the_head_names_pythons_disk_and_totals(sheet, every):
    told = sheet(
        [A, C],
        **result(every, A, State.PASSED, own=50 * MB, shared=600 * MB, at_once=90 * MB),
        **result(every, C, State.SKIPPED, seconds=0.0, reason="Python 3.13 is not on this machine"),
    )
    text = matrix_report.as_html(told)
    for words in (
        "2 cells: 1 passed, 1 skipped; run time 1 min 24 s",
        "<dd>3.10.13, 3.11.7, 3.12.1, no 3.13</dd>",
        "<dd>3.13 (1 cell)</dd>",
        "disk: at most 90.0 MB at the same time, plus at most 600.0 MB per pair as links to the uv cache",
        "50.0 MB were written in total",
    ):
        assert words in text


def test_counts_are_told_in_one_order_and_in_their_number():
    """A cell of this run has them as they came, one that is read again as they are kept."""
    told = matrix_report.counted({"passed_on_stock": 3, "failed_on_stock": 12, "mutants": 1})
    assert told == matrix_report.counted({"mutants": 1, "failed_on_stock": 12, "passed_on_stock": 3})
    assert told == ["12 failed on stock", "1 mutant", "3 passed on stock"]


def test_the_environments_of_a_pair_and_python_are_counted_once(every):
    some = ["3.3.2+3.8.0 3.11 tests", "3.3.2+3.8.0 3.11 mutants", "3.3.2+3.8.0 3.12 tests"]
    book = {}
    for name, own in zip(some, (40, 50, 30), strict=True):
        book |= result(every, name, State.PASSED, own=own, shared=own * 10, at_once=own + 1)
    cells = [cell for cell in every if cell.name in some]
    assert matrix_report.disk_use(cells, book) == {"peak": 51, "shared": 500, "written": 80}
    assert matrix_report.disk_use(cells, {}) == {"peak": 0, "shared": 0, "written": 0}


def test_data_is_plain_and_whole(sheet, every, project, tmp_path):
    told = sheet([A, C], **result(every, A, State.FAILED, faults=("one",), own=5, shared=7, at_once=6))
    matrix_report.write(tmp_path, told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["pythons"] == MACHINE
    assert data["totals"] == {"passed": 0, "failed": 1, "error": 0, "skipped": 0, "not run": 1}
    assert data["disk"] == {"peak": 6, "shared": 7, "written": 5}
    first, second = data["cells"]
    assert "users-route" in first.pop("patches")
    assert first == {
        "pair": "3.1.6+3.3.0",
        "why": "the pair of the report 62335",
        "python": "3.11",
        "part": "tests",
        "chosen": True,
        "state": "failed",
        "reason": "",
        "when": "2026-11-21T15:30:00Z",
        "seconds": 84.2,
        "counts": {"failed_on_stock": 12, "passed_patched": 30},
        "faults": ["one"],
        "disk": {"own": 5, "shared": 7},
    }
    assert (second["pair"], second["python"], second["state"]) == ("3.3.2+3.8.0", "3.13", "not run")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (8.4, "8 s"), (60, "1 min 0 s"), (3599.6, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_a_length_of_time_is_worded(seconds, said):
    assert matrix_report.duration(seconds) == said
