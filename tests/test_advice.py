"""What to do first: the smallest upgrade of the provider that cures, and then the patches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from packaging.specifiers import SpecifierSet

from airflow_auth_patches import advice, verdicts
from airflow_auth_patches.releases import FAB, Pins, Release
from airflow_auth_patches.series import Series
from airflow_auth_patches.verdicts import Book, Evidence, Kind

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
        patches = {p.name: p.sha256 for p in verdicts.cures(project, project.bugs[bug], release)}
        red = release.version in SpecifierSet(BUGS[bug])
        return Evidence(
            "beside", "3.11", "0" * 64, RED if red else PASSED, PASSED if patches else None, patches
        )

    assert BUGS.keys() <= project.bugs.keys()
    return {
        str(release): {bug: evidence(bug, release) for bug in BUGS}
        for release in pins.releases
        if release.distribution is FAB
    }


def told(project: Series, pins: Pins, book: Book, version: str, has: list[str], python: str = "3.11"):
    core = pins.release("apache-airflow-core==3.1.6")
    provider = pins.release(f"{FAB.name}=={version}")
    found = advice.upgrade(project, pins, book, provider, core, python, has)
    return found and (str(found.release.version), found.cures, found.leaves, found.brings)


@pytest.mark.parametrize(
    ("version", "has", "best"),
    [
        ("3.3.0", ["dead-connection-500"], ("3.4.0", ("dead-connection-500",), (), ())),
        (
            "3.3.0",
            ["dead-connection-500", "appbuilder-race"],
            ("3.5.0", ("dead-connection-500", "appbuilder-race"), (), ("security-manager-reader",)),
        ),
        (
            "3.3.0",
            ["dead-connection-500", "wedged-session", "user-cache-race"],
            ("3.7.0", ("dead-connection-500", "wedged-session"), ("user-cache-race",), ()),
        ),
        (
            "3.6.0",
            ["wedged-session", "security-manager-reader"],
            ("3.7.0", ("wedged-session", "security-manager-reader"), (), ()),
        ),
        ("3.7.0", ["user-cache-race"], None),
        ("3.10.2", ["user-cache-race"], None),
    ],
)
def test_the_smallest_upgrade_that_cures_most(project, pins, book, version, has, best):
    assert told(project, pins, book, version, has) == best


def test_an_upgrade_that_was_not_run_cures_nothing(project, pins, book):
    for name in book:
        if not name.endswith("==3.3.0"):
            book[name] = {}
    assert told(project, pins, book, "3.3.0", ["dead-connection-500"]) is None


def test_python_and_core_must_allow_it(project, pins, book):
    dead = "dead-connection-500"
    assert told(project, pins, book, "3.3.0", [dead], "3.13") == (
        "3.5.0", (dead,), (), ("security-manager-reader",),
    )  # fmt: skip
    asking = tuple(
        replace(r, core=SpecifierSet(">=3.2")) if r.distribution is FAB and r.version.minor < 7 else r
        for r in pins.releases
    )
    assert told(project, replace(pins, releases=asking), book, "3.3.0", [dead]) == ("3.7.0", (dead,), (), ())


def test_what_an_applied_patch_cures_is_not_held(project, pins, book):
    release = pins.release(f"{FAB.name}==3.3.0")
    cells = advice.cells_of(project, pins, book, release)
    every = [cell.bug for cell in advice.held(cells, ())]
    assert every == [bug for bug in project.bugs if bug in BUGS and bug != "security-manager-reader"]
    assert [cell.bug for cell in advice.held(cells, ["session-cleanup"])] == [
        bug for bug in every if bug != "dead-connection-500"
    ]
    open_ = [replace(cell, kind=Kind.OPEN, by=()) for cell in cells if cell.bug == "dead-connection-500"]
    assert advice.held(open_, ["session-cleanup"]) == open_
