"""Advise which upgrade of the provider comes before the patches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from airflow_auth_patches.installation import advice
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding, Result, Results, Status
from airflow_auth_patches.series.bugs import Severity
from airflow_auth_patches.series.series import Series

FAILED, PASSED = "failed: assert 5 == 1", "passed"
#: Bugs, and the versions of the provider that have them in these tests.
BUGS = {
    "dead-connection-500": "==3.3.0",
    "appbuilder-race": "<3.5",
    "wedged-session": "<3.7",
    "security-manager-reader": ">=3.5,<3.7",
    "user-cache-race": ">=3.3",
}


@pytest.fixture
def results(project: Series, pins: Pins, recorded) -> Results:
    def result(bug: str, release: Release) -> Result:
        stock = FAILED if release.version in SpecifierSet(BUGS[bug]) else PASSED
        found = recorded(project.bugs[bug], release, stock, None)
        return replace(found, patched=PASSED if found.patches else None)

    providers = [release for release in pins.releases if release.distribution is FAB]
    return {str(release): {bug: result(bug, release) for bug in BUGS} for release in providers}


@pytest.fixture
def findings(project, pins, results):
    """Return a function that gives the findings on a provider."""

    def found(version: str, *core: Version) -> list[Finding]:
        return advice.findings_of(project, pins, results, pins.release(f"{FAB.name}=={version}"), *core)

    return found


@pytest.fixture
def best(project, pins, results, findings):
    """Return a function that gives the advice for a provider with patches, core 3.1.6 and Python 3.11."""

    def found(version: str, *applied: str, pins: Pins = pins, core: str = "3.1.6"):
        held = [finding.bug for finding in advice.held(project, findings(version), applied)]
        provider = pins.release(f"{FAB.name}=={version}")
        found = advice.upgrade(project, pins, results, provider, Version(core), "3.11", held)
        return found and (str(found.release.version), found.cures, found.leaves, found.brings, found.tested)

    return found


DEAD, RACE, WEDGED, READER, CACHE = BUGS.keys()
FIRST = ((DEAD, RACE, WEDGED), (CACHE,), ())


@pytest.mark.parametrize(
    ("version", "applied", "advised"),
    [
        ("3.3.0", [], FIRST),
        ("3.4.0", [], ((RACE, WEDGED), (CACHE,), ())),
        ("3.6.0", [], ((READER, WEDGED), (CACHE,), ())),
        ("3.7.0", [], None),
        ("3.10.2", [], None),
        # An upgrade removes the patches.
        ("3.3.0", ["session-cleanup"], ((RACE, WEDGED), (CACHE,), ())),
        ("3.3.0", ["user-session", "user-cache"], ((DEAD, RACE), (), (CACHE,))),
        ("3.3.0", ["appbuilder-init-lock", "user-session", "user-cache"], None),
        ("3.6.0", ["security-manager-swap", "user-cache"], None),
        ("3.6.0", ["user-session", "security-manager-swap", "user-cache"], None),
    ],
)
def test_advises_the_smallest_upgrade_that_cures_most(best, version, applied, advised):
    assert best(version, *applied) == (advised and ("3.7.0", *advised, False))


def test_upgrade_without_results_cures_nothing(best, results):
    for name in results:
        if not name.endswith("==3.3.0"):
            results[name] = {}
    assert best("3.3.0") is None


@pytest.mark.parametrize("limit", [{"pythons": ("3.10",)}, {"core": SpecifierSet(">=3.2")}])
def test_upgrade_must_support_the_python_and_the_core(best, pins, limit):
    releases = tuple(
        replace(r, **limit) if r.distribution is FAB and r.version < Version("3.8") else r
        for r in pins.releases
    )
    assert best("3.3.0", pins=replace(pins, releases=releases)) == ("3.8.0", *FIRST, False)


def test_upgrade_is_tested_when_its_pair_with_the_core_is_pinned(best):
    assert best("3.3.0", core="3.3.0") == ("3.7.0", *FIRST, True)


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
def test_core_may_need_a_patch_of_the_provider(project, pins, core, applied, provider, has, pairs):
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
def test_oldest_provider_that_works_with_a_core(project, pins, core, python, first):
    releases = advice.allowed(project, pins, Version(core) if core else None, python)
    assert str(releases[0].version) == first


def test_bug_that_an_applied_patch_cures_is_not_held(project, findings):
    found = findings("3.3.0")
    every = [finding.bug for finding in advice.held(project, found, ())]
    assert every == [bug for bug in project.bugs if bug in BUGS and bug != READER]
    left = [finding.bug for finding in advice.held(project, found, ["session-cleanup"])]
    assert left == [bug for bug in every if bug != DEAD]
    open_ = [replace(each, status=Status.KNOWN_ISSUE, by=()) for each in found if each.bug == DEAD]
    assert advice.held(project, open_, ["session-cleanup"]) == open_


def test_bugs_that_users_meet_are_in_the_order_of_their_severity(project, findings):
    severities = {DEAD: "error", RACE: "outage", WEDGED: "security", CACHE: "none"}
    bugs = {slug: replace(project.bugs[slug], severity=Severity(each)) for slug, each in severities.items()}
    held = advice.held(project, findings("3.3.0"), ())
    risks = advice.risks(replace(project, bugs={**project.bugs, **bugs}), held)
    assert [finding.bug for finding in risks] == [RACE, WEDGED, DEAD]


def test_bug_that_another_patch_avoids_is_not_held(project, pins):
    recorded = affected.read(project.folder)
    findings = advice.findings_of(project, pins, recorded, pins.release(f"{CORE.name}==3.3.2"))
    every = {finding.bug for finding in advice.held(project, findings, ())}
    left = {finding.bug for finding in advice.held(project, findings, ["request-admission"])}
    assert every - left == {"pool-hold-and-wait", *(bug for bug in every if "second-connection" in bug)}
    assert "second-connection-grid" in every


def test_cure_that_needs_a_patch_of_core_is_none_without_it(project, pins, results, findings, recorded):
    release, bug = pins.release(f"{FAB.name}==3.10.2"), "user-look-up-freeze"
    assert project.bugs[bug].needs == ("user-from-token-hook",)
    results[str(release)][bug] = recorded(project.bugs[bug], release, FAILED, PASSED)
    found = [finding for finding in findings("3.10.2") if finding.bug == bug]
    assert advice.held(project, found, ["user-cache"]) == found
    assert advice.held(project, found, ["user-cache", "user-from-token-hook"]) == []


@pytest.mark.parametrize(("core", "shows"), [("3.2.2", False), ("3.3.0", True)])
def test_bug_is_reported_only_with_the_cores_that_show_it(findings, core, shows):
    bugs = [finding.bug for finding in findings("3.6.5", Version(core))]
    assert ("public-user-freeze" in bugs) is shows
