"""Derive the older forms of a patch from the newest one, with git, on pinned releases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from airflow_auth_patches.series import deriving, exporting, importing, series, tree
from airflow_auth_patches.series.project import load_project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import check as lint

NEWEST, OLDER = "auth-manager-purge-race", "auth-manager-purge-race~3.3.1"
BY_HAND, DERIVED = "request-session~3.1", "request-session~3.2"
PATH = "airflow-core/src/airflow/api_fastapi/app.py"
OLD = "    instance = _AuthManagerState.instance\n    if instance is not None"
NEW = "    found = _AuthManagerState.instance\n    if (instance := found) is not None"


def named(loaded: Series, name: str) -> Patch:
    return next(patch for patch in loaded.patches if patch.name == name)


@pytest.fixture
def small(copy: Path) -> Path:
    """Return a copy of the project in which the series of core has two patches."""
    slugs = (NEWEST, "request-session")
    (copy / "patches/airflow-core/series").write_text("".join(f"{slug}\n" for slug in slugs))
    for path in (copy / "patches/airflow-core").glob("*.patch"):
        if path.stem.partition("~")[0] not in slugs:
            path.unlink()
    return copy


def edit_and_refresh(small: Path, name: str, message: tuple[str, str] = ("", "")) -> set[str]:
    """Edit the first commit in the tree of a form, export it, and return the names of the written files."""
    project = load_project(small)
    release = tree.newest(named(project.series, name), project.releases)
    imported = importing.import_patches(project, release)
    file = imported.folder / PATH
    commit, *later = imported.git("rev-list", "--reverse", f"{tree.BASE}..{tree.IMPORTED}").split()
    imported.git("reset", "--quiet", "--hard", commit)
    assert OLD in file.read_text()
    file.write_text(file.read_text().replace(OLD, NEW))
    text = imported.git("log", "-1", "--format=%B").replace(*message)
    imported.git("commit", "--quiet", "--all", "--amend", "-F", "-", stdin=text)
    for each in later:
        imported.git("cherry-pick", each, date="2026-11-20T12:00:00+0000")
        note = imported.git("notes", f"--ref={tree.NOTES}", "show", each).strip()
        imported.git("notes", f"--ref={tree.NOTES}", "add", "--force", "-m", note, "HEAD")
    written = exporting.refresh(load_project(small), imported.release)
    return {path.stem for path in written}


def lines(patch: Patch) -> list[bytes]:
    """Return the lines that a patch adds and removes."""
    every = (line for edits in patch.edits.values() for hunk in edits for line in hunk.parsed.text)
    return [line for line in every if line[:1] != b" "]


def test_older_form_follows_an_edit_of_the_newest(small):
    written = edit_and_refresh(small, NEWEST, ("Test\nsuites", "Fast test\nsuites"))
    assert written >= {NEWEST, OLDER}
    again = series.load(small / "patches")
    newest, older = named(again, NEWEST), named(again, OLDER)
    assert b"+    found = _AuthManagerState.instance\n" in older.content
    assert lines(older) == lines(newest)
    assert "Fast test\nsuites" in newest.body
    assert older.body.replace(">=3.2.0,<=3.3.1", ">=3.3.2,<=3.4.0b2") == newest.body
    assert older.trailers["Applies-To"] == ("apache-airflow-core >=3.2.0,<=3.3.1",)
    assert exporting.refresh(load_project(small), None) == []


def test_refuses_edit_of_a_derived_form(small):
    before = {path: path.read_bytes() for path in (small / "patches/airflow-core").iterdir()}
    said = f"The edits of {OLDER} would be lost, because it is derived from {NEWEST}"
    with pytest.raises(Problem, match=said) as refused:
        edit_and_refresh(small, OLDER)
    assert "apache-airflow-core==3.4.0b2" in refused.value.remedy
    assert {path: path.read_bytes() for path in before} == before


def test_trailer_keeps_an_edit_of_an_older_form(small):
    written = edit_and_refresh(small, OLDER, ("Tests:", "By-Hand: for this test\nTests:"))
    assert OLDER in written
    again = series.load(small / "patches")
    assert b"+    found = _AuthManagerState.instance\n" in named(again, OLDER).content
    assert b"found" not in named(again, NEWEST).content
    forms = {form.patch.name: form.kind for form in deriving.derive(load_project(small), [NEWEST])}
    assert forms[OLDER] == "by hand: for this test"


def test_form_edited_by_hand_keeps_its_own_message(small):
    path = small / "patches/airflow-core/request-session.patch"
    path.write_text(path.read_text().replace("As many requests for", "So many requests for", 1))
    exporting.refresh(load_project(small), None)
    again = series.load(small / "patches")
    assert "So many requests for" in named(again, DERIVED).body
    assert "As many requests for" in named(again, BY_HAND).body
    assert named(again, BY_HAND).trailers["By-Hand"]


def test_conflict_leaves_the_edits_of_the_older_form(this_project, project):
    newest, older = "authorization-off-loop", named(project, "authorization-off-loop~3.3.1")
    forms = {form.patch.name: form for form in deriving.derive(this_project, [newest])}
    assert forms[newest].kind == "newest"
    assert forms[older.name].kind == "by hand: the merge conflicts in security.py"
    assert forms[older.name].content == older.content
    assert forms[f"{newest}~3.3.0"].kind == f"derived from {older.name}"


@pytest.mark.parametrize(
    ("ours", "base", "theirs", "merged"),
    [
        (b"import z\n\ncode\n", b"import b\n\ncode\n", b"import b\nimport c\n\ncode\n",
         b"import z\nimport c\n\ncode\n"),
        (b"a = 1\n", b"a = 0\n", b"a = 2\n", None),
    ],
    ids=["adjacent lines", "the same line"],
)  # fmt: skip
def test_merges_changes_except_of_the_same_line(tmp_path, ours, base, theirs, merged):
    assert tree.merge_file(tmp_path, ours, base, theirs) == merged


def test_check_finds_outdated_derived_form(small, pins):
    path = small / f"patches/airflow-core/{OLDER}.patch"
    line = "+    instance = _AuthManagerState.instance\n"
    path.write_text(path.read_text().replace(line, line.replace("_Auth", "(_Auth").replace("\n", ")\n"), 1))
    releases = tuple(r for r in pins.releases if str(r.version) in ("3.3.1", "3.3.2"))
    faults, _ = lint.check(small, dataclasses.replace(pins, releases=releases))
    assert any(fault.path == path and f"derived from {NEWEST}" in fault.what for fault in faults)
