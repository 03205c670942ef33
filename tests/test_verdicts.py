"""A verdict comes from the runs of a bug's reproducer, and from nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import verdicts
from airflow_auth_patches.series.series import Bug, Series
from airflow_auth_patches.series.verdicts import Book, Evidence, Kind
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import basis, reproduce, staleness, verdict_page
from airflow_auth_patches.verification import check as lint
from airflow_auth_patches.verification import judge as matrix

RED, PASSED = "failed: assert 5 == 1", "passed"
OLD, NEW = "apache-airflow-core==3.1.8", "apache-airflow-core==3.3.2"
#: Cured on 3.1 by a patch of ours, and from 3.2.0 on by upstream.
RACE = "auth-manager-race"


def now(series: Series, bug: Bug, release: Release) -> dict[str, str]:
    """Give the patches that are to cure a bug on a release, as evidence has them."""
    return verdicts.edits(series, bug, release)


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
                    "beside",
                    "3.11",
                    "0" * 64,
                    stock,
                    patched,
                    now(series, entry, pins.release(name)),
                    "basis",
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
    patches = now(project, bug, release)
    book: Book = {OLD: {RACE: Evidence("beside", "3.11", "0" * 64, RED, PASSED, patches, "basis")}}
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
    book: Book = {OLD: {RACE: Evidence("beside", "3.11", "0" * 64, RED, PASSED, {"a-patch": "1"}, "basis")}}
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
                "basis",
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


@pytest.fixture
def fresh(project: Series, pins: Pins, root: Path) -> Evidence:
    """Return evidence on the race and core 3.1.8 of which nothing is stale."""
    release, bug = pins.release(OLD), project.bugs[RACE]
    pair = basis.companion(pins, bug, release)
    return Evidence(
        str(pair.fab),
        "3.11",
        basis.digest(root, bug),
        RED,
        PASSED,
        now(project, bug, release),
        basis.fingerprint(root, project, pair, "3.11", patched=True),
    )


@pytest.fixture
def told(project: Series, pins: Pins, root: Path):
    """Return what is wrong with some evidence on the race and core 3.1.8."""

    def told(evidence: Evidence, root: Path = root, series: Series = project, pins: Pins = pins) -> list[str]:
        found = staleness.faults(root, series, pins, {OLD: {RACE: evidence}})
        start = f"{RACE} on {OLD} "
        return [line.removeprefix(start) for line in found if line.startswith(start)]

    return told


def test_faults_name_what_is_wrong(told, fresh: Evidence):
    assert told(fresh) == []
    assert told(replace(fresh, reproducer="0" * 64)) == ["was run with another reproducer."]
    assert told(replace(fresh, patches={})) == ["was run with other patches."]
    assert told(replace(fresh, patched=RED)) == [f"is not cured: {RED}"]
    assert told(replace(fresh, patched=None)) == ["is open, and bugs.toml does not say why."]
    assert told(replace(fresh, stock=PASSED)) == [
        "is not affected, and auth-manager-singleton is to cure it."
    ]
    assert f"is not affected, and when patched: {RED}" in told(replace(fresh, stock=PASSED, patched=RED))


def test_what_was_run_in_another_environment_is_stale(told, fresh: Evidence, project: Series, pins: Pins):
    other = ["was run with another series, another stand-in, or in another environment."]
    (pair,) = (
        each for each in pins.pairs if each is basis.companion(pins, project.bugs[RACE], pins.release(OLD))
    )
    day = replace(pair, exclude_newer=pair.exclude_newer + timedelta(days=1))
    bounded = replace(pair, fab=replace(pair.fab, constraints=("fastapi<0.118",)))
    for changed in (day, bounded):
        pairs = tuple(changed if each is pair else each for each in pins.pairs)
        assert told(fresh, pins=replace(pins, pairs=pairs)) == other
    assert told(replace(fresh, python="3.12")) == other
    assert told(replace(fresh, beside="apache-airflow-providers-fab==3.3.0")) == [
        f"was run beside apache-airflow-providers-fab==3.3.0, and not {pair.fab}."
    ]


def test_what_was_run_with_another_series_is_stale(told, fresh: Evidence, project: Series):
    """The race is cured by a patch of core; it ran with all others too."""
    other = ["was run with another series, another stand-in, or in another environment."]
    fab = [patch for patch in project.patches if patch.slug == "appbuilder-init-lock"]
    assert (
        told(fresh, series=replace(project, patches=tuple(p for p in project.patches if p not in fab)))
        == other
    )
    edited = replace(fab[0], content=fab[0].content + b"\n")
    patches = tuple(edited if patch is fab[0] else patch for patch in project.patches)
    assert told(fresh, series=replace(project, patches=patches)) == other
    worded = replace(fab[0], content=fab[0].content.replace(b"Subject: ", b"Subject:  "))
    patches = tuple(worded if patch is fab[0] else patch for patch in project.patches)
    assert told(fresh, series=replace(project, patches=patches)) == []


def test_what_was_run_with_another_stand_in_is_stale(told, fresh: Evidence, root: Path, tmp_path: Path):
    shutil.copytree(root / "tests/standin", tmp_path / "tests/standin")
    for dist in (CORE, FAB):
        shutil.copytree(root / dist.root / "tests", tmp_path / dist.root / "tests")
    assert told(fresh, root=tmp_path) == []
    with (tmp_path / "tests/standin/pytest.ini").open("a") as file:
        file.write("# changed\n")
    assert told(fresh, root=tmp_path) == [
        "was run with another series, another stand-in, or in another environment."
    ]


def test_what_is_left_over_is_a_fault(fresh: Evidence, project: Series, pins: Pins, root: Path):
    book = {OLD: {"no-such-bug": fresh}, "apache-airflow-core==3.0.0": {RACE: fresh}}
    found = set(staleness.faults(root, project, pins, book))
    assert f"no-such-bug on {OLD} is in verdicts.json, and is none of the series." in found
    assert f"{RACE} on apache-airflow-core==3.0.0 is in verdicts.json, and is none of the series." in found
    assert staleness.of_the_series(project, pins, {**book, NEW: {RACE: fresh}}) == {
        OLD: {},
        NEW: {RACE: fresh},
    }


def test_a_reason_outlives_no_open_verdict(fresh: Evidence, project: Series, pins: Pins, root: Path):
    bug = replace(project.bugs[RACE], open_on=((SpecifierSet("==3.1.8"), "a reason"),))
    series = replace(project, bugs={**project.bugs, RACE: bug}, patches=())

    def reasons(evidence: Evidence) -> list[str]:
        found = staleness.faults(root, series, pins, {OLD: {RACE: evidence}})
        return [line for line in found if "take it out of bugs.toml" in line and line.startswith(RACE)]

    unpatched = replace(fresh, patched=None, patches={})
    assert reasons(unpatched) == []
    assert reasons(replace(unpatched, stock=PASSED)) == [
        f"{RACE} is open on no release of ==3.1.8: take it out of bugs.toml."
    ]


def test_every_release_has_a_companion_that_is_pinned(project: Series, pins: Pins):
    for release in pins.releases:
        for bug in project.bugs.values():
            if verdicts.distribution_of(bug) is release.distribution:
                pair = basis.companion(pins, bug, release)
                assert release in (pair.core, pair.fab)
                assert pair in pins.pairs


def test_a_bug_that_shows_beside_some_releases_is_judged_beside_one(project: Series, pins: Pins):
    release, bug = pins.release("apache-airflow-providers-fab==3.6.5"), project.bugs["public-user-freeze"]
    assert basis.companion(pins, bug, release).core.version in bug.beside
    assert basis.companion(pins, project.bugs["wedged-session"], release).core.version not in bug.beside
    with pytest.raises(Problem, match="nothing to judge public-user-freeze on"):
        basis.companion(pins, replace(bug, beside=SpecifierSet(">4")), release)


def test_a_release_in_no_pair_is_judged_beside_one_of_its_day(project: Series, pins: Pins):
    alone = replace(pins, pairs=())
    for release in pins.releases:
        pair = basis.companion(alone, project.bugs[RACE], release)
        beside = pair.fab if pair.core is release else pair.core
        assert release in (pair.core, pair.fab)
        assert beside.distribution is not release.distribution
        assert pair.exclude_newer > max(pair.core.date, pair.fab.date)
        older = [each for each in pins.releases if each.distribution is beside.distribution]
        assert not any(beside.date < each.date <= release.date for each in older)


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
    unclear, not_cured = "second-connection-pools", RACE
    book[OLD][unclear] = replace(book[OLD][unclear], stock="error: it did not start")
    book[OLD][not_cured] = replace(book[OLD][not_cured], patched=RED)
    book[OLD]["no-such-bug"] = book[OLD][RACE]
    verdicts.write(series.folder, book)
    assert judged() == first
    assert len(runs) == 2 * count + 4  # stock and patched, of two
    book = verdicts.read(series.folder)
    page = (copy / verdict_page.FILE).read_text()
    assert page == verdict_page.render(series, pins, book)
    assert not verdict_page.stale(copy, series, pins, book)
    assert f"| `{RACE}` | 3.1.8 | patched | auth-manager-singleton | stock failed, patched passed |" in page
    del book[OLD][RACE]
    assert verdict_page.stale(copy, series, pins, book)


def test_outcome_on_stock_is_kept_when_only_patches_change(
    copy: Path, project: Series, pins: Pins, runs: list[str]
):
    (copy / "docs").mkdir()
    (copy / "patches" / verdicts.FILE).unlink()
    series = replace(project, folder=copy / "patches")

    def judged(series: Series) -> dict[str, Kind]:
        (cells,) = matrix.judge(copy, series, pins, "3.11", [pins.release(OLD)])
        return {cell.bug: cell.kind for cell in cells}

    first = judged(series)
    runs.clear()
    edited = tuple(
        replace(patch, content=patch.content + b"\n") if patch.slug == "request-admission" else patch
        for patch in series.patches
    )
    assert judged(replace(series, patches=edited)) == first
    assert f"patched {RACE}" in runs
    assert not [run for run in runs if run.startswith("stock")]
    runs.clear()
    file = copy / project.bugs[RACE].reproducer.partition("::")[0]
    file.write_text(file.read_text() + "\n")
    judged(replace(series, patches=edited))
    assert {f"stock {RACE}", f"patched {RACE}"} <= set(runs)
    assert "stock second-connection-pools" not in runs


def test_the_page_has_a_cell_for_every_bug_and_release(project: Series, pins: Pins):
    page = verdict_page.render(project, pins, {}).splitlines()
    for bug in project.bugs.values():
        mine = [r for r in pins.releases if r.distribution is verdicts.distribution_of(bug)]
        assert f"| `{bug.slug}` | " + " | ".join(["not run"] * len(mine)) + " |" in page


def test_the_verdicts_are_of_what_is_here(root: Path, project: Series, pins: Pins):
    assert [str(fault) for fault in lint.check_verdicts(root, project, pins)] == []
