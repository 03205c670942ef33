"""What to do first: the smallest upgrade of the provider that cures, and then the patches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from airflow_auth_patches.installation import advice
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Result, Results, Status
from airflow_auth_patches.series.series import Series

RED, PASSED = "failed: assert 5 == 1", "passed"
#: Versions on which each bug is, in these tests.
BUGS = {
    "dead-connection-500": "==3.3.0",
    "appbuilder-race": "<3.5",
    "wedged-session": "<3.7",
    "security-manager-reader": ">=3.5,<3.7",
    "user-cache-race": ">=3.3",
}


@pytest.fixture
def results(project: Series, pins: Pins) -> Results:
    def result(bug: str, release: Release) -> Result:
        patches = affected.edits(project, project.bugs[bug], release)
        red = release.version in SpecifierSet(BUGS[bug])
        return Result(
            "other", "3.11", "0" * 64, RED if red else PASSED, PASSED if patches else None, patches, "inputs"
        )

    assert BUGS.keys() <= project.bugs.keys()
    return {
        str(release): {bug: result(bug, release) for bug in BUGS}
        for release in pins.releases
        if release.distribution is FAB
    }


def told(project: Series, pins: Pins, results: Results, version: str, *applied: str):
    """Return the advice for a provider with patches in it, core 3.1.6 and Python 3.11."""
    provider = pins.release(f"{FAB.name}=={version}")
    has = [
        finding.bug
        for finding in advice.held(project, advice.findings_of(project, pins, results, provider), applied)
    ]
    found = advice.upgrade(project, pins, results, provider, Version("3.1.6"), "3.11", has)
    return found and (str(found.release.version), found.cures, found.leaves, found.brings)


DEAD, RACE, WEDGED, READER, CACHE = BUGS.keys()
FIRST = ("3.7.0", (DEAD, RACE, WEDGED), (CACHE,), ())


@pytest.mark.parametrize(
    ("version", "best"),
    [
        ("3.3.0", FIRST),
        ("3.4.0", ("3.7.0", (RACE, WEDGED), (CACHE,), ())),
        ("3.6.0", ("3.7.0", (READER, WEDGED), (CACHE,), ())),
        ("3.7.0", None),
        ("3.10.2", None),
    ],
)
def test_the_smallest_upgrade_that_cures_most(project, pins, results, version, best):
    assert told(project, pins, results, version) == best


@pytest.mark.parametrize(
    ("version", "applied", "best"),
    [
        ("3.3.0", ["session-cleanup"], ("3.7.0", (RACE, WEDGED), (CACHE,), ())),
        ("3.3.0", ["user-session", "user-cache"], ("3.7.0", (DEAD, RACE), (), (CACHE,))),
        ("3.3.0", ["appbuilder-init-lock", "user-session", "user-cache"], None),
        ("3.6.0", ["security-manager-swap", "user-cache"], None),
        ("3.6.0", ["user-session", "security-manager-swap", "user-cache"], None),
    ],
)
def test_an_upgrade_takes_the_patches_away(project, pins, results, version, applied, best):
    assert told(project, pins, results, version, *applied) == best


def test_an_upgrade_that_was_not_run_cures_nothing(project, pins, results):
    for name in results:
        if not name.endswith("==3.3.0"):
            results[name] = {}
    assert told(project, pins, results, "3.3.0") is None


@pytest.mark.parametrize("limit", [{"pythons": ("3.10",)}, {"core": SpecifierSet(">=3.2")}])
def test_python_and_core_must_allow_it(project, pins, results, limit):
    releases = tuple(
        replace(r, **limit) if r.distribution is FAB and r.version < Version("3.8") else r
        for r in pins.releases
    )
    assert told(project, replace(pins, releases=releases), results, "3.3.0") == ("3.8.0", *FIRST[1:])


def test_whether_the_pair_was_tested(project, pins, results):
    provider = pins.release(f"{FAB.name}==3.3.0")
    for core, tested in (("3.1.6", False), ("3.3.0", True)):
        found = advice.upgrade(
            project, pins, results, provider, Version(core), "3.11", [DEAD, RACE, WEDGED, CACHE]
        )
        assert found is not None
        assert (str(found.release.version), found.tested) == ("3.7.0", tested)


@pytest.mark.parametrize(
    ("core", "applied", "provider", "has", "pairs"),
    [
        ("3.1.6", [], "3.4.0", [], []),
        (
            "3.1.6",
            ["auth-manager-singleton"],
            "3.4.0",
            [],
            [("auth-manager-singleton", "appbuilder-init-lock")],
        ),
        ("3.1.6", ["auth-manager-singleton"], "3.4.0", ["appbuilder-init-lock"], []),
        ("3.1.6", ["auth-manager-singleton"], "3.5.0", [], []),
        ("3.2.0", [], "3.3.0", [], [("auth-manager-singleton", "appbuilder-init-lock")]),
        ("3.3.2", ["revoked-token-off-loop"], "3.6.5", [], [("revoked-token-off-loop", "user-session")]),
        ("3.3.2", ["revoked-token-off-loop"], "3.7.0", [], []),
    ],
)
def test_what_a_core_has_may_need_the_providers_half(project, pins, core, applied, provider, has, pairs):
    release = pins.release(f"{FAB.name}=={provider}")
    assert advice.unmet(project, Version(core), applied, release, has) == pairs


@pytest.mark.parametrize(
    ("core", "python", "first"),
    [
        ("3.1.6", "3.11", "3.3.0"),
        ("3.3.2", "3.11", "3.5.0"),
        ("3.3.2", "3.14", "3.6.0"),
        (None, "3.11", "3.3.0"),
    ],
)
def test_the_oldest_provider_that_works_with_a_core(project, pins, core, python, first):
    releases = advice.allowed(project, pins, Version(core) if core else None, python)
    assert str(releases[0].version) == first


def test_what_an_applied_patch_cures_is_not_held(project, pins, results):
    release = pins.release(f"{FAB.name}==3.3.0")
    findings = advice.findings_of(project, pins, results, release)
    every = [finding.bug for finding in advice.held(project, findings, ())]
    assert every == [bug for bug in project.bugs if bug in BUGS and bug != "security-manager-reader"]
    assert [finding.bug for finding in advice.held(project, findings, ["session-cleanup"])] == [
        bug for bug in every if bug != "dead-connection-500"
    ]
    open_ = [
        replace(finding, status=Status.KNOWN_ISSUE, by=())
        for finding in findings
        if finding.bug == "dead-connection-500"
    ]
    assert advice.held(project, open_, ["session-cleanup"]) == open_


def test_bug_that_another_patch_avoids_is_not_held(project, pins):
    recorded = affected.read(project.folder)
    findings = advice.findings_of(project, pins, recorded, pins.release(f"{CORE.name}==3.3.2"))
    every = {finding.bug for finding in advice.held(project, findings, ())}
    left = {finding.bug for finding in advice.held(project, findings, ["request-admission"])}
    assert every - left == {"pool-hold-and-wait", *(bug for bug in every if "second-connection" in bug)}
    assert "second-connection-grid" in every


def test_a_cure_that_takes_a_patch_of_core_too_is_none_without(project, pins, results):
    release, bug = pins.release(f"{FAB.name}==3.10.2"), "user-look-up-freeze"
    assert project.bugs[bug].needs == ("user-from-token-hook",)
    patches = affected.edits(project, project.bugs[bug], release)
    results[str(release)][bug] = Result("other", "3.11", "0" * 64, RED, PASSED, patches, "inputs")
    findings = [
        finding for finding in advice.findings_of(project, pins, results, release) if finding.bug == bug
    ]
    assert advice.held(project, findings, ["user-cache"]) == findings
    assert advice.held(project, findings, ["user-cache", "user-from-token-hook"]) == []


def test_a_bug_that_does_not_show_with_a_core_is_not_reported(project, pins, results):
    release, bug = pins.release(f"{FAB.name}==3.6.5"), "public-user-freeze"
    told = {
        core: bug
        in [finding.bug for finding in advice.findings_of(project, pins, results, release, Version(core))]
        for core in ("3.2.2", "3.3.0")
    }
    assert told == {"3.2.2": False, "3.3.0": True}
