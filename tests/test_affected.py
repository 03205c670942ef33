"""The affected status of a bug comes from the runs of its reproducer alone."""

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
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Result, Results, Status
from airflow_auth_patches.series.series import Bug, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import affected_page, inputs, outdated, reproduce
from airflow_auth_patches.verification import check as lint
from airflow_auth_patches.verification import judge as matrix

RED, PASSED = "failed: assert 5 == 1", "passed"
OLD, NEW = "apache-airflow-core==3.1.8", "apache-airflow-core==3.3.2"
#: Cured on 3.1 by a patch of ours, and from 3.2.0 on by upstream.
RACE = "auth-manager-race"


def now(series: Series, bug: Bug, release: Release) -> dict[str, str]:
    """Give the patches that are to cure a bug on a release, as result has them."""
    return affected.edits(series, bug, release)


@pytest.fixture
def ask(project: Series, pins: Pins):
    """Judge a bug on a release, from outcomes given as ``{release: (stock, patched)}``."""

    def judge(outcomes: dict[str, tuple[str, str | None]], release: str, bug: str = RACE, **fields):
        entry = replace(project.bugs[bug], **fields)
        # Where none was to cure it, the series had none.
        series = project if any(patched for _, patched in outcomes.values()) else replace(project, patches=())
        results: Results = {
            name: {
                bug: Result(
                    "other",
                    "3.11",
                    "0" * 64,
                    stock,
                    patched,
                    now(series, entry, pins.release(name)),
                    "inputs",
                )
            }
            for name, (stock, patched) in outcomes.items()
        }
        return affected.judge(series, pins, results, entry, pins.release(release))

    return judge


@pytest.mark.parametrize(
    ("outcomes", "release", "status"),
    [
        ({}, NEW, Status.NOT_RUN),
        ({NEW: (PASSED, None)}, NEW, Status.NOT_AFFECTED),
        ({NEW: (PASSED, None), OLD: (PASSED, None)}, NEW, Status.NOT_AFFECTED),
        ({NEW: (PASSED, None), OLD: (RED, PASSED)}, NEW, Status.FIXED),
        ({NEW: (RED, PASSED), OLD: (PASSED, None)}, OLD, Status.NOT_AFFECTED),
        ({OLD: (RED, PASSED)}, OLD, Status.PATCHED),
        ({OLD: (RED, RED)}, OLD, Status.NOT_CURED),
        ({OLD: (RED, None)}, OLD, Status.KNOWN_ISSUE),
        ({OLD: ("error: ImportError: no such name", None)}, OLD, Status.UNCLEAR),
        ({OLD: ("failed: ImportError: no such name", PASSED)}, OLD, Status.UNCLEAR),
        ({OLD: ("skipped", None)}, OLD, Status.UNCLEAR),
        ({OLD: ("not run", None)}, OLD, Status.UNCLEAR),
    ],
)
def test_status(ask, outcomes, release, status):
    finding = ask(outcomes, release)
    assert finding.status is status
    assert finding.by == (("auth-manager-singleton",) if status in (Status.PATCHED, Status.NOT_CURED) else ())


def test_what_was_run_with_another_patch_says_nothing(project: Series, pins: Pins):
    bug, release = project.bugs[RACE], pins.release(OLD)
    patches = now(project, bug, release)
    results: Results = {OLD: {RACE: Result("other", "3.11", "0" * 64, RED, PASSED, patches, "inputs")}}
    assert affected.judge(project, pins, results, bug, release).status is Status.PATCHED
    (patch,) = affected.cures(project, bug, release)
    edited = replace(patch, content=patch.content + b"\n")
    series = replace(project, patches=tuple(edited if p is patch else p for p in project.patches))
    finding = affected.judge(series, pins, results, bug, release)
    assert (finding.status, finding.reason) == (Status.NOT_RUN, "its patches changed after the last run")


def test_code_that_is_not_there_is_not_affected_where_the_bug_says_what_is_missing(ask):
    missing = {OLD: ("error: ModuleNotFoundError: No module named 'airflow.models.revoked_token'", None)}
    assert ask(missing, OLD).status is Status.UNCLEAR
    assert ask(missing, OLD, absent=r"'airflow\.models\.revoked_token'$").status is Status.NOT_AFFECTED


def test_what_is_open_says_why(ask):
    open_on = ((SpecifierSet("<3.1.3"), "upgrade"), (SpecifierSet(">=3.1.3"), "too large a change"))
    assert ask({OLD: (RED, None)}, OLD, open_on=open_on).reason == "too large a change"
    assert ask({OLD: (RED, None)}, OLD).reason == ""


def test_book_is_written_and_read(tmp_path: Path):
    assert affected.read(tmp_path) == {}
    results: Results = {
        OLD: {RACE: Result("other", "3.11", "0" * 64, RED, PASSED, {"a-patch": "1"}, "inputs")}
    }
    affected.write(tmp_path, results)
    assert affected.read(tmp_path) == results
    assert [path.name for path in tmp_path.iterdir()] == [affected.FILE]
    (tmp_path / affected.FILE).write_text('{"x": 3}')
    with pytest.raises(Problem, match=r"affected\.json cannot be read"):
        affected.read(tmp_path)


def test_releases_with_one_status_are_one_row(project: Series, pins: Pins):
    results: Results = {
        str(release): {
            RACE: Result(
                "other",
                "3.11",
                "0" * 64,
                *((RED, PASSED) if old else (PASSED, None)),
                now(project, project.bugs[RACE], release),
                "inputs",
            )
        }
        for release in pins.releases
        if release.distribution is CORE
        for old in [release.version.minor == 1]
    }
    rows = [row for row in affected.as_rows(affected.matrix(project, pins, results), CORE) if row[0] == RACE]
    assert rows == [
        (RACE, "3.1.0 to 3.1.8", "patched", "auth-manager-singleton", "stock failed, patched passed"),
        (RACE, "3.2.0 to 3.3.2", "fixed upstream", "", "stock passed"),
    ]


def test_every_bug_is_judged_on_every_release_of_its_distribution(project: Series, pins: Pins):
    findings = affected.matrix(project, pins, {})
    assert len(findings) == len({(finding.bug, str(finding.release)) for finding in findings})
    assert {finding.bug for finding in findings} == set(project.bugs)
    assert {str(finding.release) for finding in findings} == {str(release) for release in pins.releases}


@pytest.fixture
def fresh(project: Series, pins: Pins, root: Path) -> Result:
    """Return a result on the race and core 3.1.8 that is up to date."""
    release, bug = pins.release(OLD), project.bugs[RACE]
    pair = inputs.companion(pins, bug, release)
    return Result(
        str(pair.fab),
        "3.11",
        inputs.digest(root, bug),
        RED,
        PASSED,
        now(project, bug, release),
        inputs.fingerprint(root, project, pair, "3.11", patched=True),
    )


@pytest.fixture
def told(project: Series, pins: Pins, root: Path):
    """Return what is wrong with a result on the race and core 3.1.8."""

    def told(result: Result, root: Path = root, series: Series = project, pins: Pins = pins) -> list[str]:
        found = outdated.faults(root, series, pins, {OLD: {RACE: result}})
        start = f"{RACE} on {OLD} "
        return [line.removeprefix(start) for line in found if line.startswith(start)]

    return told


def test_faults_name_what_is_wrong(told, fresh: Result):
    assert told(fresh) == []
    assert told(replace(fresh, reproducer="0" * 64)) == ["was run with another reproducer."]
    assert told(replace(fresh, patches={})) == ["was run with other patches."]
    assert told(replace(fresh, patched=RED)) == [f"is not cured: {RED}"]
    assert told(replace(fresh, patched=None)) == ["is a known issue, but bugs.toml gives no reason."]
    assert told(replace(fresh, stock=PASSED)) == [
        "is not affected, but auth-manager-singleton claims to cure it."
    ]
    assert f"is not affected, but when patched: {RED}" in told(replace(fresh, stock=PASSED, patched=RED))


def test_what_was_run_in_another_environment_is_outdated(told, fresh: Result, project: Series, pins: Pins):
    other = ["was run with another series, another pytest plugin stub, or in another environment."]
    (pair,) = (
        each for each in pins.pairs if each is inputs.companion(pins, project.bugs[RACE], pins.release(OLD))
    )
    day = replace(pair, exclude_newer=pair.exclude_newer + timedelta(days=1))
    bounded = replace(pair, fab=replace(pair.fab, constraints=("fastapi<0.118",)))
    for changed in (day, bounded):
        pairs = tuple(changed if each is pair else each for each in pins.pairs)
        assert told(fresh, pins=replace(pins, pairs=pairs)) == other
    assert told(replace(fresh, python="3.12")) == other
    assert told(replace(fresh, installed_with="apache-airflow-providers-fab==3.3.0")) == [
        f"was run with apache-airflow-providers-fab==3.3.0, not with {pair.fab}."
    ]


def test_what_was_run_with_another_series_is_outdated(told, fresh: Result, project: Series):
    """The race is cured by a patch of core; it ran with all others too."""
    other = ["was run with another series, another pytest plugin stub, or in another environment."]
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


def test_what_was_run_with_another_plugin_stub_is_outdated(told, fresh: Result, root: Path, tmp_path: Path):
    shutil.copytree(root / "tests/standin", tmp_path / "tests/standin")
    for dist in (CORE, FAB):
        shutil.copytree(root / dist.root / "tests", tmp_path / dist.root / "tests")
    assert told(fresh, root=tmp_path) == []
    with (tmp_path / "tests/standin/pytest.ini").open("a") as file:
        file.write("# changed\n")
    assert told(fresh, root=tmp_path) == [
        "was run with another series, another pytest plugin stub, or in another environment."
    ]


def test_what_is_left_over_is_a_fault(fresh: Result, project: Series, pins: Pins, root: Path):
    results = {OLD: {"no-such-bug": fresh}, "apache-airflow-core==3.0.0": {RACE: fresh}}
    found = set(outdated.faults(root, project, pins, results))
    assert f"no-such-bug on {OLD} is in affected.json, but not in the series." in found
    assert f"{RACE} on apache-airflow-core==3.0.0 is in affected.json, but not in the series." in found
    assert outdated.of_the_series(project, pins, {**results, NEW: {RACE: fresh}}) == {
        OLD: {},
        NEW: {RACE: fresh},
    }


def test_a_reason_outlives_no_known_issue(fresh: Result, project: Series, pins: Pins, root: Path):
    bug = replace(project.bugs[RACE], open_on=((SpecifierSet("==3.1.8"), "a reason"),))
    series = replace(project, bugs={**project.bugs, RACE: bug}, patches=())

    def reasons(result: Result) -> list[str]:
        found = outdated.faults(root, series, pins, {OLD: {RACE: result}})
        return [line for line in found if "correct bugs.toml" in line and line.startswith(RACE)]

    unpatched = replace(fresh, patched=None, patches={})
    assert reasons(unpatched) == []
    assert reasons(replace(unpatched, stock=PASSED)) == [
        f"{RACE} is not a known issue of any release of ==3.1.8: correct bugs.toml."
    ]


def test_every_release_has_a_companion_that_is_pinned(project: Series, pins: Pins):
    for release in pins.releases:
        for bug in project.bugs.values():
            if affected.distribution_of(bug) is release.distribution:
                pair = inputs.companion(pins, bug, release)
                assert release in (pair.core, pair.fab)
                assert pair in pins.pairs


def test_a_bug_that_shows_with_some_releases_is_run_with_one(project: Series, pins: Pins):
    release, bug = pins.release("apache-airflow-providers-fab==3.6.5"), project.bugs["public-user-freeze"]
    assert inputs.companion(pins, bug, release).core.version in bug.shows_with
    assert inputs.companion(pins, project.bugs["wedged-session"], release).core.version not in bug.shows_with
    with pytest.raises(Problem, match="No pair is available to run the reproducer of public-user-freeze"):
        inputs.companion(pins, replace(bug, shows_with=SpecifierSet(">4")), release)


def test_a_release_in_no_pair_is_run_with_one_of_its_day(project: Series, pins: Pins):
    alone = replace(pins, pairs=())
    for release in pins.releases:
        pair = inputs.companion(alone, project.bugs[RACE], release)
        other = pair.fab if pair.core is release else pair.core
        assert release in (pair.core, pair.fab)
        assert other.distribution is not release.distribution
        assert pair.exclude_newer > max(pair.core.date, pair.fab.date)
        older = [each for each in pins.releases if each.distribution is other.distribution]
        assert not any(other.date < each.date <= release.date for each in older)


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
    (copy / "patches" / affected.FILE).unlink()
    series = replace(project, folder=copy / "patches")
    wanted = [pins.release(OLD)]

    def judged(**words) -> dict[str, Status]:
        (findings,) = matrix.judge(copy, series, pins, "3.11", wanted, **words)
        return {finding.bug: finding.status for finding in findings}

    first = judged()
    assert first[RACE] is Status.PATCHED
    assert first["logout-not-revoked"] is Status.KNOWN_ISSUE  # no patch of it is for 3.1
    count = len(runs)
    assert count > len(first)
    assert judged() == first
    assert len(runs) == count
    judged(again=True)
    assert len(runs) == 2 * count
    results = affected.read(series.folder)
    unclear, not_cured = "second-connection-pools", RACE
    results[OLD][unclear] = replace(results[OLD][unclear], stock="error: it did not start")
    results[OLD][not_cured] = replace(results[OLD][not_cured], patched=RED)
    results[OLD]["no-such-bug"] = results[OLD][RACE]
    affected.write(series.folder, results)
    assert judged() == first
    assert len(runs) == 2 * count + 4  # stock and patched, of two
    results = affected.read(series.folder)
    page = (copy / affected_page.FILE).read_text()
    assert page == affected_page.render(series, pins, results)
    assert not affected_page.outdated(copy, series, pins, results)
    assert f"| `{RACE}` | 3.1.8 | patched | auth-manager-singleton | stock failed, patched passed |" in page
    del results[OLD][RACE]
    assert affected_page.outdated(copy, series, pins, results)


def test_outcome_on_stock_is_kept_when_only_patches_change(
    copy: Path, project: Series, pins: Pins, runs: list[str]
):
    (copy / "docs").mkdir()
    (copy / "patches" / affected.FILE).unlink()
    series = replace(project, folder=copy / "patches")

    def judged(series: Series) -> dict[str, Status]:
        (findings,) = matrix.judge(copy, series, pins, "3.11", [pins.release(OLD)])
        return {finding.bug: finding.status for finding in findings}

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
    page = affected_page.render(project, pins, {}).splitlines()
    for bug in project.bugs.values():
        mine = [r for r in pins.releases if r.distribution is affected.distribution_of(bug)]
        assert f"| `{bug.slug}` | " + " | ".join(["not run"] * len(mine)) + " |" in page


def test_recorded_results_are_up_to_date(root: Path, project: Series, pins: Pins):
    assert [str(fault) for fault in lint.check_affected(root, project, pins)] == []
