"""What to do first: the smallest upgrade of the provider that cures, and then the patches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from airflow_auth_patches.installation import advice
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import verdicts
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.series.verdicts import Book, Evidence, Kind

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
def book(project: Series, pins: Pins) -> Book:
    def evidence(bug: str, release: Release) -> Evidence:
        patches = verdicts.edits(project, project.bugs[bug], release)
        red = release.version in SpecifierSet(BUGS[bug])
        return Evidence(
            "beside", "3.11", "0" * 64, RED if red else PASSED, PASSED if patches else None, patches, "basis"
        )

    assert BUGS.keys() <= project.bugs.keys()
    return {
        str(release): {bug: evidence(bug, release) for bug in BUGS}
        for release in pins.releases
        if release.distribution is FAB
    }


def told(project: Series, pins: Pins, book: Book, version: str, *applied: str):
    """Return the advice for a provider with patches in it, core 3.1.6 and Python 3.11."""
    provider = pins.release(f"{FAB.name}=={version}")
    has = [cell.bug for cell in advice.held(project, advice.cells_of(project, pins, book, provider), applied)]
    found = advice.upgrade(project, pins, book, provider, Version("3.1.6"), "3.11", has)
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
def test_the_smallest_upgrade_that_cures_most(project, pins, book, version, best):
    assert told(project, pins, book, version) == best


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
def test_an_upgrade_takes_the_patches_away(project, pins, book, version, applied, best):
    assert told(project, pins, book, version, *applied) == best


def test_an_upgrade_that_was_not_run_cures_nothing(project, pins, book):
    for name in book:
        if not name.endswith("==3.3.0"):
            book[name] = {}
    assert told(project, pins, book, "3.3.0") is None


@pytest.mark.parametrize("limit", [{"pythons": ("3.10",)}, {"core": SpecifierSet(">=3.2")}])
def test_python_and_core_must_allow_it(project, pins, book, limit):
    releases = tuple(
        replace(r, **limit) if r.distribution is FAB and r.version < Version("3.8") else r
        for r in pins.releases
    )
    assert told(project, replace(pins, releases=releases), book, "3.3.0") == ("3.8.0", *FIRST[1:])


def test_whether_the_pair_was_tested(project, pins, book):
    provider = pins.release(f"{FAB.name}==3.3.0")
    for core, tested in (("3.1.6", False), ("3.3.0", True)):
        found = advice.upgrade(
            project, pins, book, provider, Version(core), "3.11", [DEAD, RACE, WEDGED, CACHE]
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


def test_what_an_applied_patch_cures_is_not_held(project, pins, book):
    release = pins.release(f"{FAB.name}==3.3.0")
    cells = advice.cells_of(project, pins, book, release)
    every = [cell.bug for cell in advice.held(project, cells, ())]
    assert every == [bug for bug in project.bugs if bug in BUGS and bug != "security-manager-reader"]
    assert [cell.bug for cell in advice.held(project, cells, ["session-cleanup"])] == [
        bug for bug in every if bug != "dead-connection-500"
    ]
    open_ = [replace(cell, kind=Kind.OPEN, by=()) for cell in cells if cell.bug == "dead-connection-500"]
    assert advice.held(project, open_, ["session-cleanup"]) == open_


def test_bug_that_another_patch_avoids_is_not_held(project, pins):
    recorded = verdicts.read(project.folder)
    cells = advice.cells_of(project, pins, recorded, pins.release(f"{CORE.name}==3.3.2"))
    every = {cell.bug for cell in advice.held(project, cells, ())}
    left = {cell.bug for cell in advice.held(project, cells, ["request-admission"])}
    assert every - left == {"pool-hold-and-wait", *(bug for bug in every if "second-connection" in bug)}
    assert "second-connection-grid" in every


def test_a_cure_that_takes_a_patch_of_core_too_is_none_without(project, pins, book):
    release, bug = pins.release(f"{FAB.name}==3.10.2"), "user-look-up-freeze"
    assert project.bugs[bug].needs == ("user-from-token-hook",)
    patches = verdicts.edits(project, project.bugs[bug], release)
    book[str(release)][bug] = Evidence("beside", "3.11", "0" * 64, RED, PASSED, patches, "basis")
    cells = [cell for cell in advice.cells_of(project, pins, book, release) if cell.bug == bug]
    assert advice.held(project, cells, ["user-cache"]) == cells
    assert advice.held(project, cells, ["user-cache", "user-from-token-hook"]) == []


def test_a_bug_that_does_not_show_beside_a_core_is_not_told(project, pins, book):
    release, bug = pins.release(f"{FAB.name}==3.6.5"), "public-user-freeze"
    told = {
        core: bug in [cell.bug for cell in advice.cells_of(project, pins, book, release, Version(core))]
        for core in ("3.2.2", "3.3.0")
    }
    assert told == {"3.2.2": False, "3.3.0": True}
