"""A verdict comes from the runs of a bug's reproducer, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches import check as lint
from airflow_auth_patches import environments, reproduce, verdict_page, verdicts
from airflow_auth_patches.commands import matrix
from airflow_auth_patches.environments import Environment
from airflow_auth_patches.errors import Problem
from airflow_auth_patches.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import Bug, Series
from airflow_auth_patches.verdicts import Book, Evidence, Kind

RED, PASSED = "failed: assert 5 == 1", "passed"
OLD, NEW = "apache-airflow-core==3.1.8", "apache-airflow-core==3.3.2"
#: Cured on 3.1 by a patch of ours, and from 3.2.0 on by upstream.
RACE = "auth-manager-race"


def now(series: Series, bug: Bug, release: Release) -> dict[str, str]:
    """Give the patches that are to cure a bug on a release, as evidence has them."""
    return {patch.name: patch.sha256 for patch in verdicts.cures(series, bug, release)}


@pytest.fixture
def ask(project: Series, pins: Pins):
    """Judge a bug on a release, from outcomes given as ``{release: (stock, patched)}``."""

    def judge(outcomes: dict[str, tuple[str, str | None]], release: str, bug: str = RACE, **fields):
        entry = replace(project.bugs[bug], **fields)
        # Where none was to cure it, the series had none.
        series = project if any(patched for _, patched in outcomes.values()) else replace(project, patches=())
        book: Book = {
            name: {
                bug: Evidence(
                    "beside", "3.11", "0" * 64, stock, patched, now(series, entry, pins.release(name))
                )
            }
            for name, (stock, patched) in outcomes.items()
        }
        return verdicts.judge(series, pins, book, entry, pins.release(release))

    return judge


@pytest.mark.parametrize(
    ("outcomes", "release", "kind"),
    [
        ({}, NEW, Kind.NOT_RUN),
        ({NEW: (PASSED, None)}, NEW, Kind.NOT_AFFECTED),
        ({NEW: (PASSED, None), OLD: (PASSED, None)}, NEW, Kind.NOT_AFFECTED),
        ({NEW: (PASSED, None), OLD: (RED, PASSED)}, NEW, Kind.FIXED),
        ({NEW: (RED, PASSED), OLD: (PASSED, None)}, OLD, Kind.NOT_AFFECTED),
        ({OLD: (RED, PASSED)}, OLD, Kind.PATCHED),
        ({OLD: (RED, RED)}, OLD, Kind.NOT_CURED),
        ({OLD: (RED, None)}, OLD, Kind.OPEN),
        ({OLD: ("error: ImportError: no such name", None)}, OLD, Kind.UNCLEAR),
        ({OLD: ("failed: ImportError: no such name", PASSED)}, OLD, Kind.UNCLEAR),
        ({OLD: ("skipped", None)}, OLD, Kind.UNCLEAR),
        ({OLD: ("not run", None)}, OLD, Kind.UNCLEAR),
    ],
)
def test_verdict(ask, outcomes, release, kind):
    cell = ask(outcomes, release)
    assert cell.kind is kind
    assert cell.by == (("auth-manager-singleton",) if kind in (Kind.PATCHED, Kind.NOT_CURED) else ())


def test_what_was_run_with_another_patch_says_nothing(project: Series, pins: Pins):
    bug, release = project.bugs[RACE], pins.release(OLD)
    book: Book = {OLD: {RACE: Evidence("beside", "3.11", "0" * 64, RED, PASSED, now(project, bug, release))}}
    assert verdicts.judge(project, pins, book, bug, release).kind is Kind.PATCHED
    (patch,) = verdicts.cures(project, bug, release)
    edited = replace(patch, content=patch.content + b"\n")
    series = replace(project, patches=tuple(edited if p is patch else p for p in project.patches))
    cell = verdicts.judge(series, pins, book, bug, release)
    assert (cell.kind, cell.reason) == (Kind.NOT_RUN, "not since its patches changed")


def test_code_that_is_not_there_is_not_affected_where_the_bug_says_what_is_missing(ask):
    missing = {OLD: ("error: ModuleNotFoundError: No module named 'airflow.models.revoked_token'", None)}
    assert ask(missing, OLD).kind is Kind.UNCLEAR
    assert ask(missing, OLD, absent=r"'airflow\.models\.revoked_token'$").kind is Kind.NOT_AFFECTED


def test_what_is_open_says_why(ask):
    open_on = ((SpecifierSet("<3.1.3"), "upgrade"), (SpecifierSet(">=3.1.3"), "too large a change"))
    assert ask({OLD: (RED, None)}, OLD, open_on=open_on).reason == "too large a change"
    assert ask({OLD: (RED, None)}, OLD).reason == ""


def test_book_is_written_and_read(tmp_path: Path):
    assert verdicts.read(tmp_path) == {}
    book: Book = {OLD: {RACE: Evidence("beside", "3.11", "0" * 64, RED, PASSED, {"a-patch": "1"})}}
    verdicts.write(tmp_path, book)
    assert verdicts.read(tmp_path) == book
    assert [path.name for path in tmp_path.iterdir()] == [verdicts.FILE]
    (tmp_path / verdicts.FILE).write_text('{"x": 3}')
    with pytest.raises(Problem, match=r"verdicts\.json cannot be read"):
        verdicts.read(tmp_path)


def test_releases_with_one_verdict_are_one_row(project: Series, pins: Pins):
    book: Book = {
        str(release): {
            RACE: Evidence(
                "beside",
                "3.11",
                "0" * 64,
                *((RED, PASSED) if old else (PASSED, None)),
                now(project, project.bugs[RACE], release),
            )
        }
        for release in pins.releases
        if release.distribution is CORE
        for old in [release.version.minor == 1]
    }
    rows = [row for row in verdicts.as_rows(verdicts.matrix(project, pins, book), CORE) if row[0] == RACE]
    assert rows == [
        (RACE, "3.1.0 to 3.1.8", "patched", "auth-manager-singleton", "stock failed, patched passed"),
        (RACE, "3.2.0 to 3.3.2", "fixed upstream", "", "stock passed"),
    ]


def test_every_bug_is_judged_on_every_release_of_its_distribution(project: Series, pins: Pins):
    cells = verdicts.matrix(project, pins, {})
    assert len(cells) == len({(cell.bug, str(cell.release)) for cell in cells})
    assert {cell.bug for cell in cells} == set(project.bugs)
    assert {str(cell.release) for cell in cells} == {str(release) for release in pins.releases}


def test_faults_name_what_is_stale(project: Series, pins: Pins, root: Path, tmp_path: Path):
    release = pins.release(OLD)
    bug = project.bugs[RACE]
    fresh = Evidence(
        "beside",
        "3.11",
        verdicts.digest(root, bug),
        RED,
        PASSED,
        now(project, bug, release),
    )

    def told(evidence: Evidence) -> list[str]:
        found = verdicts.faults(root, project, pins, {OLD: {RACE: evidence}})
        return [line for line in found if line.startswith(f"{RACE} on {OLD} ")]

    assert told(fresh) == []
    assert told(replace(fresh, reproducer="0" * 64)) == [f"{RACE} on {OLD} was run with another reproducer."]
    assert told(replace(fresh, patches={})) == [f"{RACE} on {OLD} was run with other patches."]
    assert told(replace(fresh, patched=RED)) == [f"{RACE} on {OLD} is not cured: {RED}"]
    assert told(replace(fresh, patched=None)) == [f"{RACE} on {OLD} is open, and bugs.toml does not say why."]


def test_every_release_has_a_companion_of_its_day(pins: Pins):
    for release in pins.releases:
        pair = matrix.companion(pins, release)
        assert release in (pair.core, pair.fab)
        assert (pair.core.distribution, pair.fab.distribution) == (CORE, FAB)
        assert pair in pins.pairs or pair.exclude_newer > max(pair.core.date, pair.fab.date)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Have reproducers red on stock and passed on patched, without any Airflow; list what ran."""
    ran: list[str] = []

    def reproduced(root: Path, environment: Environment, bugs: list[Bug]) -> dict[str, str]:
        ran.extend(f"{environment.python} {bug.slug}" for bug in bugs)
        said = RED if environment.python == Path("stock") else PASSED
        return dict.fromkeys((bug.slug for bug in bugs), said)

    monkeypatch.setattr(reproduce, "reproduce", reproduced)
    monkeypatch.setattr(environments, "make", lambda *_: Environment(Path("stock")))
    monkeypatch.setattr(matrix, "patched_environment", lambda *_: Environment(Path("patched")))
    return ran


def test_what_holds_is_not_run_again(copy: Path, project: Series, pins: Pins, runs: list[str]):
    (copy / "docs").mkdir()
    (copy / "patches" / verdicts.FILE).unlink()
    series = replace(project, folder=copy / "patches")
    wanted = [pins.release(OLD)]

    def judged(**words) -> dict[str, Kind]:
        (cells,) = matrix.judge(copy, series, pins, "3.11", wanted, **words)
        return {cell.bug: cell.kind for cell in cells}

    first = judged()
    assert first[RACE] is Kind.PATCHED
    assert first["logout-not-revoked"] is Kind.OPEN  # no patch of it is for 3.1
    count = len(runs)
    assert count > len(first)
    assert judged() == first
    assert len(runs) == count
    judged(again=True)
    assert len(runs) == 2 * count
    book = verdicts.read(series.folder)
    book[OLD]["second-connection"] = replace(book[OLD]["second-connection"], stock="error: it did not start")
    verdicts.write(series.folder, book)
    assert judged() == first
    assert len(runs) == 2 * count + 2  # stock and patched
    book = verdicts.read(series.folder)
    page = (copy / verdict_page.FILE).read_text()
    assert page == verdict_page.render(series, pins, book)
    assert not verdict_page.stale(copy, series, pins, book)
    assert f"| `{RACE}` | 3.1.8 | patched | auth-manager-singleton | stock failed, patched passed |" in page
    del book[OLD][RACE]
    assert verdict_page.stale(copy, series, pins, book)


def test_the_page_has_a_cell_for_every_bug_and_release(project: Series, pins: Pins):
    page = verdict_page.render(project, pins, {}).splitlines()
    for bug in project.bugs.values():
        mine = [r for r in pins.releases if r.distribution is verdicts.distribution_of(bug)]
        assert f"| `{bug.slug}` | " + " | ".join(["not run"] * len(mine)) + " |" in page


def test_the_verdicts_are_of_what_is_here(root: Path, project: Series, pins: Pins):
    assert [str(fault) for fault in lint.check_verdicts(root, project, pins)] == []
