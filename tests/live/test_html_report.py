"""The HTML report of a demonstration."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from airflow_auth_patches.demo import plot_data
from airflow_auth_patches.demo.html_report import HtmlReport, duration
from airflow_auth_patches.demo.load import NO_ANSWER, Answer, Request, Result
from airflow_auth_patches.demo.outcomes import Measurement, Observation, Outcome
from airflow_auth_patches.demo.report import Row
from airflow_auth_patches.demo.scenarios import ALL, ui_load
from airflow_auth_patches.installation.environments import Environment

VOID = ("meta", "link", "br", "hr", "img", "input")

DEMO = """\
import os, signal, sys
from pathlib import Path
from airflow_auth_patches.demo import run as demo
from airflow_auth_patches.demo.html_report import HtmlReport
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases import releases
from airflow_auth_patches.util.progress import Silent
from airflow_auth_patches.util.signals import interruptible

page = HtmlReport(Path(sys.argv[2]) / "report.html", "3.11")

def tell(row):
    page.add(row)
    os.kill(os.getpid(), signal.SIGINT)

with interruptible():
    demo.run(
        lambda pair, build: Environment(Path(sys.argv[1])),
        releases.load(Path(sys.argv[3])).pairs,
        only=["session-cleanup", "sequence"],
        progress=Silent(),
        folder=Path(sys.argv[2]),
        on_row=tell,
    )
"""


class Page(HTMLParser):
    """
    A parsed page. Parsing fails if an element is not closed.

    :ivar ids: all ids.
    :ivar links: the targets of links.
    :ivar tags: the number of elements by name.
    :ivar articles: the text of each article by its id, without SVG.
    :ivar drawings: the titles of the SVG elements of each article.
    :ivar text: the text outside of articles and SVG.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.articles: dict[str, str] = {}
        self.drawings: dict[str, list[str]] = {}
        self.text = ""
        self._open: list[str] = []
        self._article = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags[tag] += 1
        self.ids += [values["id"] or ""] if "id" in values else []
        self.links += [values[key] or "" for key in ("href", "src") if key in values]
        if tag == "article":
            self._article = values["id"] or ""
            self.articles[self._article], self.drawings[self._article] = "", []
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "article":
            self._article = ""

    def handle_data(self, data: str) -> None:
        if self._open[-2:] == ["svg", "title"] and self._article:
            self.drawings[self._article].append(data)
        elif "svg" in self._open or "style" in self._open:
            pass
        elif self._article:
            self.articles[self._article] += data
        else:
            self.text += data


def observation(name: str, *, failed: bool) -> Observation:
    """Return an observation like those of a scenario: 60 requests, and for some scenarios an own plot."""
    answers = [
        Answer(Request("GET", "/"), ("500", NO_ANSWER)[number % 2] if failed else "200", number / 10)
        for number in range(60)
    ]
    measurement = Measurement("60 at once", Result(answers, 6.0), 15)
    lag = plot_data.lag({"dag_tag locked": [(0.5, 8.0 if failed else 0.01)]}, {"dag_tag locked": (0.4, 8.4)})
    curve = plot_data.curve("Growth of the memory", "requests", "MiB", {"tokens": [(0, 0), (10, 4)]}, limit=2)
    own = {"table-locked": {"plots": [lag]}, "memory-growth": {"plots": [curve]}}
    return Observation.of([measurement], "seen by a user", details=own.get(name, {}))


def rows() -> list[Row]:
    """Return a demonstration with every scenario on its newest releases and all its databases, cured."""
    return [
        Row(
            scenario,
            scenario.pairs[-1],
            observation(scenario.name, failed=True),
            observation(scenario.name, failed=False),
            Outcome.CURED,
            {build: Path("/logs") / f"{build}.log" for build in ("stock", "patched")},
            minimal=observation(scenario.name, failed=False) if scenario.minimal else None,
            plugin=observation(scenario.name, failed=False) if scenario.plugin else None,
            database=database,
            version="16.4",
            seconds=75,
        )
        for scenario in ALL
        for database in scenario.databases
    ]


def one(name: str = "table-locked", **changes: Any) -> Row:
    return replace(next(row for row in rows() if row.scenario.name == name), **changes)


def write(path: Path, *measured: Row) -> Page:
    report = HtmlReport(path / "report.html", "3.11")
    for row in measured:
        report.add(row)
    report.finish()
    return Page(report.path)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return write(tmp_path_factory.mktemp("report"), *rows(), one(pair="3.2.2+3.6.5"))


def test_page_is_self_contained_and_its_ids_are_unique(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert page.tags["script"] == page.tags["img"] == page.tags["link"] == 0


def test_every_row_has_its_figures_text_outcome_and_settings(page: Page) -> None:
    measured = [*rows(), one(pair="3.2.2+3.6.5")]
    assert len(page.articles) == len(measured)
    for row, (anchor, text), titles in zip(
        measured, page.articles.items(), page.drawings.values(), strict=True
    ):
        builds = [each for each in (row.stock, row.minimal, row.plugin, row.patched) if each]
        assert f"#{anchor}" in page.links
        for part in (row.scenario.name, row.releases, row.scenario.about, "cured", "1 min 15 s"):
            assert part in text
        assert "60 at once: 60 of 60 fail (30 x 500, 30 no answer)" in text
        assert text.count("60 at once: 0 of 60 fail") == len(builds) - 1
        assert f"pool_size{row.scenario.settings.pool_size}" in text
        assert all(bug in text for bug in row.scenario.bugs)
        stock = [title for title in titles if title.startswith("Stock: ")]
        patched = [title for title in titles if title.startswith("Patched: ")]
        assert len(stock) == len(patched) > 0
        assert len(titles) % len(builds) == 0


def test_plot_of_scenario_is_the_first(page: Page) -> None:
    (lag,) = [titles for anchor, titles in page.drawings.items() if anchor.startswith("table-locked-3-3-2-")]
    assert lag[:2] == [
        "Stock: Event-loop lag. dag_tag locked: up to 8.00 s.",
        "Patched: Event-loop lag. dag_tag locked: up to 0.01 s.",
    ]


def test_summary_has_outcomes_releases_machine_versions_and_duration(tmp_path: Path) -> None:
    broken = one("sequence", outcome=Outcome.BROKEN)
    text = write(tmp_path, one(), one("fab-users"), broken).text
    for part in (
        "2 cured",
        "1 broken",
        "3.3.2+3.10.2, 3.1.6+3.3.0, 3.1.8+3.4.0",
        "cores",
        "Linux",
        "Python 3.11",
    ):
        assert part in " ".join(text.split())
    assert "PostgreSQL 16.4" in text
    assert "Duration" in text
    assert "not complete" not in text


def test_escapes_values(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> & \"quotes\" 'too'"
    row = one(stock=Observation.of([Measurement(evil, Result([], 0), 1)], evil), remedy=evil)
    page = write(tmp_path, replace(row, scenario=replace(row.scenario, about=evil, note=evil)))
    (text,) = page.articles.values()
    assert text.count(evil) >= 4
    assert any(evil in title for titles in page.drawings.values() for title in titles)
    assert page.tags["script"] == 0


def test_says_where_a_build_has_no_data(tmp_path: Path) -> None:
    """Stock has no lag because it hangs; the outcomes, which both have, come first."""
    stock = one("fab-users").stock
    page = write(tmp_path, one(stock=stock))
    (text,), (titles,) = page.articles.values(), page.drawings.values()
    assert text.count("No data: the server did not respond.") == 1
    assert [title.split(".")[0] for title in titles[:2]] == [
        "Stock: Requests by outcome",
        "Patched: Requests by outcome",
    ]


def test_row_that_was_not_run_has_its_remedy_and_no_figure(tmp_path: Path) -> None:
    seen = Observation("not run: MariaDB is not installed", failed=False)
    row = one(
        stock=seen, patched=seen, outcome=Outcome.NOT_RUN, remedy="Install MariaDB.", logs={}, seconds=0
    )
    page = write(tmp_path, row)
    (text,) = page.articles.values()
    assert "not run: MariaDB is not installed" in text
    assert "Install MariaDB." in text
    assert page.tags["svg"] == 0


def test_load_tests_with_sessions_are_drawn_together(tmp_path: Path) -> None:
    def seen(form: str, rate: float, lost: int) -> Observation:
        loads = [
            {"form": form, "sessions": sessions, "requests": 200, "lost": lost, "requests_per_second": rate}
            for sessions in (5, 30)
        ]
        return Observation("seen", failed=bool(lost), details={"seconds": 10, "patience": 15, "loads": loads})

    row = one(
        "ui-load",
        stock=seen(ui_load.STOCK, 2, 50),
        plugin=seen(ui_load.PLUGIN, 90, 0),
        patched=seen(ui_load.PATCHED, 100, 0),
    )
    (titles,) = write(tmp_path, row).drawings.values()
    assert titles == [
        "requests/s by number of browser sessions. "
        "stock: 5: 2, 30: 2; stock + plugin: 5: 90, 30: 90; all patches: 5: 100, 30: 100",
        "lost requests, % by number of browser sessions. "
        "stock: 5: 25, 30: 25; stock + plugin: 5: 0, 30: 0; all patches: 5: 0, 30: 0",
    ]


def test_interrupted_demonstration_leaves_report_of_measured_rows(
    fake: Callable[[str], Environment], tmp_path: Path, root: Path
) -> None:
    arguments = [fake("refuses").python, tmp_path, root / "patches"]
    ended = subprocess.run([sys.executable, "-c", DEMO, *map(str, arguments)], timeout=300)
    assert ended.returncode == 130
    page = Page(tmp_path / "report.html")
    assert list(page.articles) == ["session-cleanup-3-1-6-3-3-0-postgresql"]
    assert "The run is not complete." in page.text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (725, "12 min 5 s")])
def test_duration_is_in_minutes_and_seconds(seconds: float, text: str) -> None:
    assert duration(seconds) == text
