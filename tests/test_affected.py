"""The affected status of a bug comes from the recorded results of its reproducer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches.installation import environments
from airflow_auth_patches.installation.environments import Environment
from airflow_auth_patches.releases.releases import CORE, Pins
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Result, Results, Status
from airflow_auth_patches.series.bugs import Bug
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import affected_page, inputs, judge, outdated, reproduce, run_pytest
from airflow_auth_patches.verification import check as lint

FAILED, PASSED = "failed: assert 5 == 1", "passed"
OLD, NEW = "apache-airflow-core==3.1.8", "apache-airflow-core==3.3.2"
#: A bug that a patch cures on 3.1, and that upstream fixed in 3.2.0.
RACE, CURE = "auth-manager-race", "auth-manager-singleton"
OTHER_INPUTS = ["was run with another series, another pytest plugin stub, or in another environment."]


def edited(series: Series, slug: str, old: bytes = b"", new: bytes = b"\n") -> Series:
    """Edit a patch: replace text, or append a line."""

    def edit(content: bytes) -> bytes:
        return content.replace(old, new) if old else content + new

    patches = (replace(p, content=edit(p.content)) if p.slug == slug else p for p in series.patches)
    return replace(series, patches=tuple(patches))


@pytest.fixture
def finding(this_project: Project, project: Series, pins: Pins, recorded):
    """Judge the race on a release, from outcomes given as ``{release: (stock, patched)}``."""

    def judged(outcomes: dict[str, tuple[str, str | None]], release: str, **fields: object):
        bug = replace(project.bugs[RACE], **fields)
        cured = any(patched for _, patched in outcomes.values())
        series = project if cured else replace(project, patches=())
        results = {
            name: {RACE: recorded(bug, pins.release(name), *outcome, series)}
            for name, outcome in outcomes.items()
        }
        return affected.judge(replace(this_project, series=series), results, bug, pins.release(release))

    return judged


@pytest.mark.parametrize(
    ("outcomes", "release", "status"),
    [
        ({}, NEW, Status.NOT_RUN),
        ({NEW: (PASSED, None)}, NEW, Status.NOT_AFFECTED),
        ({NEW: (PASSED, None), OLD: (PASSED, None)}, NEW, Status.NOT_AFFECTED),
        ({NEW: (PASSED, None), OLD: (FAILED, PASSED)}, NEW, Status.FIXED),
        ({NEW: (FAILED, PASSED), OLD: (PASSED, None)}, OLD, Status.NOT_AFFECTED),
        ({OLD: (FAILED, PASSED)}, OLD, Status.PATCHED),
        ({OLD: (FAILED, FAILED)}, OLD, Status.NOT_CURED),
        ({OLD: (FAILED, None)}, OLD, Status.KNOWN_ISSUE),
        ({OLD: ("error: ImportError: no such name", None)}, OLD, Status.UNCLEAR),
        ({OLD: ("failed: ImportError: no such name", PASSED)}, OLD, Status.UNCLEAR),
        ({OLD: ("skipped", None)}, OLD, Status.UNCLEAR),
        ({OLD: ("not run", None)}, OLD, Status.UNCLEAR),
    ],
)
def test_status_follows_from_the_outcomes(finding, outcomes, release, status):
    found = finding(outcomes, release)
    assert found.status is status
    assert found.by == ((CURE,) if status in (Status.PATCHED, Status.NOT_CURED) else ())


def test_result_with_another_edit_of_the_patch_is_not_used(
    this_project: Project, project: Series, pins: Pins, recorded
):
    bug, release = project.bugs[RACE], pins.release(OLD)
    results = {OLD: {RACE: recorded(bug, release, FAILED, PASSED)}}
    assert affected.judge(this_project, results, bug, release).status is Status.PATCHED
    found = affected.judge(replace(this_project, series=edited(project, CURE)), results, bug, release)
    assert (found.status, found.reason) == (Status.NOT_RUN, "its patches changed after the last run")


def test_missing_code_is_not_affected_only_if_the_bug_names_it(finding):
    missing = {OLD: ("error: ModuleNotFoundError: No module named 'airflow.models.revoked_token'", None)}
    assert finding(missing, OLD).status is Status.UNCLEAR
    named = finding(missing, OLD, absent=r"'airflow\.models\.revoked_token'$")
    assert named.status is Status.NOT_AFFECTED


def test_known_issue_has_the_reason_of_its_release(finding):
    open_on = ((SpecifierSet("<3.1.3"), "upgrade"), (SpecifierSet(">=3.1.3"), "too large a change"))
    assert finding({OLD: (FAILED, None)}, OLD, open_on=open_on).reason == "too large a change"
    assert finding({OLD: (FAILED, None)}, OLD).reason == ""


def test_results_are_written_and_read(tmp_path: Path, project: Series, pins: Pins, recorded):
    assert affected.read(tmp_path) == {}
    results = {OLD: {RACE: recorded(project.bugs[RACE], pins.release(OLD), FAILED, PASSED)}}
    affected.write(tmp_path, results)
    assert affected.read(tmp_path) == results
    assert [path.name for path in tmp_path.iterdir()] == [affected.FILE]
    (tmp_path / affected.FILE).write_text('{"x": 3}')
    with pytest.raises(Problem, match=r"affected\.json cannot be read"):
        affected.read(tmp_path)


def test_releases_with_the_same_status_are_one_row(
    this_project: Project, project: Series, pins: Pins, recorded
):
    results: Results = {
        str(release): {RACE: recorded(project.bugs[RACE], release, *outcomes)}
        for release in pins.releases
        if release.distribution is CORE
        for outcomes in [(FAILED, PASSED) if release.version.minor == 1 else (PASSED, None)]
    }
    rows = affected.as_rows(affected.matrix(this_project, results), CORE)
    assert [row for row in rows if row[0] == RACE] == [
        (RACE, "3.1.0 to 3.1.8", "patched", CURE, "stock failed, patched passed"),
        (RACE, "3.2.0 to 3.4.0b2", "fixed upstream", "", "stock passed"),
    ]


def test_matrix_and_page_have_every_bug_on_every_release(this_project: Project, project: Series, pins: Pins):
    findings = affected.matrix(this_project, {})
    assert len(findings) == len({(found.bug, str(found.release)) for found in findings})
    page = affected_page.render(this_project, {}).splitlines()
    for bug in project.bugs.values():
        mine = [r for r in pins.releases if r.distribution is affected.distribution_of(bug)]
        assert [found.release for found in findings if found.bug == bug.slug] == mine
        assert f"| `{bug.slug}` | " + " | ".join(["not run"] * len(mine)) + " |" in page


@pytest.fixture
def fresh(this_project: Project, project: Series, pins: Pins, root: Path, recorded) -> Result:
    """Return a result of the race on core 3.1.8 that is up to date."""
    release, bug = pins.release(OLD), project.bugs[RACE]
    pair = inputs.companion(pins, bug, release)
    return replace(
        recorded(bug, release, FAILED, PASSED),
        installed_with=str(pair.fab),
        reproducer=inputs.digest(root, bug),
        inputs=inputs.fingerprint(this_project, pair, "3.11", patched=True),
    )


@pytest.fixture
def faults(project: Series, pins: Pins, root: Path, fresh: Result) -> Callable[..., list[str]]:
    """Return a function that gives the faults of a result of the race on core 3.1.8."""

    def found(root: Path = root, series: Series = project, pins: Pins = pins, **fields: object) -> list[str]:
        every = outdated.faults(Project(root, series, pins), {OLD: {RACE: replace(fresh, **fields)}})
        start = f"{RACE} on {OLD} "
        return [line.removeprefix(start) for line in every if line.startswith(start)]

    return found


def test_faults_of_a_recorded_result(faults):
    assert faults() == []
    assert faults(reproducer="0" * 64) == ["was run with another reproducer."]
    assert faults(patches={}) == ["was run with other patches."]
    assert faults(patched=FAILED) == [f"is not cured: {FAILED}"]
    assert faults(patched=None) == ["is a known issue, but bugs.toml gives no reason."]
    assert faults(stock=PASSED) == [f"is not affected, but {CURE} claims to cure it."]
    assert f"is not affected, but when patched: {FAILED}" in faults(stock=PASSED, patched=FAILED)


def test_result_from_another_environment_is_outdated(faults, project: Series, pins: Pins):
    pair = inputs.companion(pins, project.bugs[RACE], pins.release(OLD))
    day = replace(pair, exclude_newer=pair.exclude_newer + timedelta(days=1))
    bounded = replace(pair, fab=replace(pair.fab, constraints=("fastapi<0.118",)))
    for changed in (day, bounded):
        pairs = tuple(changed if each is pair else each for each in pins.pairs)
        assert faults(pins=replace(pins, pairs=pairs)) == OTHER_INPUTS
    assert faults(python="3.12") == OTHER_INPUTS
    other = "apache-airflow-providers-fab==3.3.0"
    assert faults(installed_with=other) == [f"was run with {other}, not with {pair.fab}."]


def test_result_with_another_series_is_outdated_except_for_its_messages(faults, project: Series):
    slug = "appbuilder-init-lock"  # not the patch that cures the race
    without = tuple(patch for patch in project.patches if patch.slug != slug)
    assert faults(series=replace(project, patches=without)) == OTHER_INPUTS
    assert faults(series=edited(project, slug)) == OTHER_INPUTS
    assert faults(series=edited(project, slug, b"Subject: ", b"Subject:  ")) == []


def test_result_with_another_plugin_stub_is_outdated(faults, copy: Path):
    assert faults(root=copy) == []
    with (copy / run_pytest.PLUGIN_STUB / "pytest.ini").open("a") as file:
        file.write("# changed\n")
    assert faults(root=copy) == OTHER_INPUTS


def test_results_of_unknown_bugs_and_releases_are_faults(this_project: Project, fresh: Result):
    results = {OLD: {"no-such-bug": fresh}, "apache-airflow-core==3.0.0": {RACE: fresh}, NEW: {RACE: fresh}}
    found = set(outdated.faults(this_project, results))
    assert f"no-such-bug on {OLD} is in affected.json, but not in the series." in found
    assert f"{RACE} on apache-airflow-core==3.0.0 is in affected.json, but not in the series." in found
    assert outdated.of_the_series(this_project, results) == {OLD: {}, NEW: {RACE: fresh}}


@pytest.mark.parametrize(
    ("stock", "said"),
    [(FAILED, []), (PASSED, [f"{RACE} is not a known issue of any release of ==3.1.8: correct bugs.toml."])],
)
def test_reason_without_a_known_issue_is_a_fault(
    this_project: Project, fresh: Result, project: Series, stock, said
):
    bug = replace(project.bugs[RACE], open_on=((SpecifierSet("==3.1.8"), "a reason"),))
    series = replace(project, bugs={**project.bugs, RACE: bug}, patches=())
    result = replace(fresh, stock=stock, patched=None, patches={})
    found = outdated.faults(replace(this_project, series=series), {OLD: {RACE: result}})
    assert [line for line in found if "correct bugs.toml" in line and line.startswith(RACE)] == said


def test_reproducer_runs_on_a_pinned_pair_that_shows_the_bug(project: Series, pins: Pins):
    for release in pins.releases:
        for bug in project.bugs.values():
            if affected.distribution_of(bug) is release.distribution:
                pair = inputs.companion(pins, bug, release)
                assert release in (pair.core, pair.fab)
                assert pair in pins.pairs
    release, bug = pins.release("apache-airflow-providers-fab==3.6.5"), project.bugs["public-user-freeze"]
    assert inputs.companion(pins, bug, release).core.version in bug.shows_with
    assert inputs.companion(pins, project.bugs["wedged-session"], release).core.version not in bug.shows_with
    with pytest.raises(Problem, match="No pair is available to run the reproducer of public-user-freeze"):
        inputs.companion(pins, replace(bug, shows_with=SpecifierSet(">4")), release)


def test_release_without_a_pair_runs_with_the_newest_release_of_its_day(project: Series, pins: Pins):
    for release in pins.releases:
        pair = inputs.companion(replace(pins, pairs=()), project.bugs[RACE], release)
        other = pair.fab if pair.core is release else pair.core
        assert release in (pair.core, pair.fab)
        assert other.distribution is not release.distribution
        assert pair.exclude_newer > max(pair.core.date, pair.fab.date)
        older = [each for each in pins.releases if each.distribution is other.distribution]
        assert not any(other.date < each.date <= release.date for each in older)


class Judge:
    """`judge` on core 3.1.8, in a copy of the project, with a replacement for the runs of reproducers."""

    def __init__(self, root: Path, project: Series, pins: Pins) -> None:
        self.root, self.pins, self.runs = root, pins, list[str]()
        self.series = replace(project, folder=root / "patches")
        self.project = Project(root, self.series, pins)
        (root / "docs").mkdir()
        (root / "patches" / affected.FILE).unlink()

    def reproduce(self, root: Path, environment: Environment, bugs: list[Bug]) -> dict[str, str]:
        kind = environment.python.name
        self.runs += [f"{kind} {bug.slug}" for bug in bugs]
        return dict.fromkeys((bug.slug for bug in bugs), FAILED if kind == "stock" else PASSED)

    def __call__(self, series: Series | None = None, *, again: bool = False) -> dict[str, Status]:
        self.runs.clear()
        wanted = [self.pins.release(OLD)]
        project = replace(self.project, series=series or self.series)
        (found,) = judge.judge(project, "3.11", wanted, again=again)
        return {finding.bug: finding.status for finding in found}


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch, copy: Path, project: Series, pins: Pins) -> Judge:
    judging = Judge(copy, project, pins)
    monkeypatch.setattr(reproduce, "reproduce", judging.reproduce)
    monkeypatch.setattr(environments, "make", lambda *_: Environment(Path("stock")))
    monkeypatch.setattr(judge, "patched_environment", lambda *_: Environment(Path("patched")))
    return judging


def test_judge_runs_again_only_what_is_inconclusive_or_asked_for(judging: Judge):
    first = judging()
    assert first[RACE] is Status.PATCHED
    assert first["logout-not-revoked"] is Status.KNOWN_ISSUE  # no patch of it is for 3.1
    count = len(judging.runs)
    assert count > len(first)
    assert judging() == first
    assert judging.runs == []
    judging(again=True)
    assert len(judging.runs) == count

    results = affected.read(judging.series.folder)
    unclear = "second-connection-pools"
    results[OLD][unclear] = replace(results[OLD][unclear], stock="error: it did not start")
    results[OLD][RACE] = replace(results[OLD][RACE], patched=FAILED)
    results[OLD]["no-such-bug"] = results[OLD][RACE]
    affected.write(judging.series.folder, results)
    assert judging() == first
    assert sorted(judging.runs) == sorted(
        f"{kind} {b}" for kind in ("stock", "patched") for b in (unclear, RACE)
    )

    results = affected.read(judging.series.folder)
    page = (judging.root / affected_page.FILE).read_text()
    assert page == affected_page.render(judging.project, results)
    assert not affected_page.outdated(judging.project, results)
    assert f"| `{RACE}` | 3.1.8 | patched | {CURE} | stock failed, patched passed |" in page
    del results[OLD][RACE]
    assert affected_page.outdated(judging.project, results)


def test_judge_keeps_the_outcome_on_stock_when_only_patches_change(judging: Judge):
    first = judging()
    changed = edited(judging.series, "request-admission")
    assert judging(changed) == first
    assert f"patched {RACE}" in judging.runs
    assert not [run for run in judging.runs if run.startswith("stock")]
    file = judging.root / judging.series.bugs[RACE].reproducer.partition("::")[0]
    file.write_text(file.read_text() + "\n")
    judging(changed)
    assert {f"stock {RACE}", f"patched {RACE}"} <= set(judging.runs)
    assert "stock second-connection-pools" not in judging.runs


def test_recorded_results_are_up_to_date(this_project: Project):
    assert [str(fault) for fault in lint.check_affected(this_project)] == []
