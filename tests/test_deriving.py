"""The older forms of a patch follow the newest one, with real git on pinned releases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from airflow_auth_patches.series import deriving, exporting, importing, series, tree
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import check as lint

NEWEST, OLDER = "auth-manager-purge-race", "auth-manager-purge-race~3.3.1"
BY_HAND = "request-session~3.1"
PATH = "airflow-core/src/airflow/api_fastapi/app.py"


def named(loaded: Series, name: str) -> Patch:
    return next(patch for patch in loaded.patches if patch.name == name)


def edited(copy: Path, pins, name: str, old: str, new: str, *, message: tuple[str, str] | None = None):
    """Edit the commit of a patch in the tree of its newest release, and return the tree."""
    loaded = series.load(copy / "patches")
    patch = named(loaded, name)
    imported = importing.import_patches(copy, loaded, pins, tree.newest(patch, pins))
    commits = imported.git("rev-list", "--reverse", f"{tree.BASE}..HEAD").split()
    commit = next(
        c for c in commits if imported.git("notes", f"--ref={tree.NOTES}", "show", c).strip() == name
    )
    later = commits[commits.index(commit) + 1 :]
    imported.git("reset", "--quiet", "--hard", commit)
    file = imported.folder / PATH
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    text = imported.git("log", "-1", "--format=%B")
    imported.git(
        "commit", "--quiet", "--all", "--amend", "-F", "-", stdin=text.replace(*(message or ("", "")))
    )
    imported.git("notes", f"--ref={tree.NOTES}", "add", "--force", "-m", name, "HEAD")
    for each in later:
        imported.git("cherry-pick", "--no-commit", each)
        imported.commit(imported.git("log", "-1", "--format=%B", each), date="2026-11-20T12:00:00+0000")
        which = imported.git("notes", f"--ref={tree.NOTES}", "show", each).strip()
        imported.git("notes", f"--ref={tree.NOTES}", "add", "-m", which, "HEAD")
    return imported


def refresh(copy: Path, pins, imported) -> set[str]:
    written = exporting.refresh(copy, series.load(copy / "patches"), pins, imported.release)
    return {path.stem for path in written}


def lines(patch: Patch) -> list[bytes]:
    return [
        line
        for edits in patch.edits.values()
        for hunk in edits
        for line in hunk.parsed.text
        if line[:1] != b" "
    ]


LOCAL = (
    "    instance = _AuthManagerState.instance\n    if instance is not None",
    "    found = _AuthManagerState.instance\n    if (instance := found) is not None",
)


def test_older_form_follows_an_edit_of_the_newest(copy, pins):
    imported = edited(copy, pins, NEWEST, *LOCAL, message=("Test\nsuites", "Fast test\nsuites"))

    assert {NEWEST, OLDER} <= refresh(copy, pins, imported)

    again = series.load(copy / "patches")
    newest, older = named(again, NEWEST), named(again, OLDER)
    assert b"+    found = _AuthManagerState.instance\n" in older.content
    assert lines(older) == lines(newest)
    assert older.body.replace(">=3.2.0,<=3.3.1", "==3.3.2") == newest.body
    assert older.trailers["Applies-To"] == ("apache-airflow-core >=3.2.0,<=3.3.1",)
    assert exporting.refresh(copy, again, pins, None) == []


def test_edit_of_a_derived_form_is_refused(copy, pins):
    before = {path: path.read_bytes() for path in (copy / "patches/airflow-core").iterdir()}
    imported = edited(copy, pins, OLDER, *LOCAL)

    with pytest.raises(
        Problem, match=f"The edits of {OLDER} would be lost, because it is derived from {NEWEST}"
    ) as refused:
        refresh(copy, pins, imported)

    assert "apache-airflow-core==3.3.2" in refused.value.remedy
    assert {path: path.read_bytes() for path in before} == before


def test_trailer_keeps_an_edit_of_an_older_form(copy, pins):
    imported = edited(copy, pins, OLDER, *LOCAL, message=("Tests:", "By-Hand: for this test\nTests:"))

    assert OLDER in refresh(copy, pins, imported)

    again = series.load(copy / "patches")
    assert b"+    found = _AuthManagerState.instance\n" in named(again, OLDER).content
    assert b"found" not in named(again, NEWEST).content
    forms = {form.patch.name: form.kind for form in deriving.derive(again, pins, [NEWEST])}
    assert forms[OLDER] == "by hand: for this test"


def test_form_edited_by_hand_keeps_its_own_message(copy, pins):
    name, derived = BY_HAND, "request-session~3.2"
    path = copy / "patches/airflow-core/request-session.patch"
    path.write_text(path.read_text().replace("As many requests for", "So many requests for", 1))

    exporting.refresh(copy, series.load(copy / "patches"), pins, None)

    again = series.load(copy / "patches")
    assert "So many requests for" in named(again, derived).body
    assert "As many requests for" in named(again, name).body
    assert named(again, name).trailers["By-Hand"]


def test_conflict_leaves_the_edits_of_the_older_form(project, pins):
    older = named(project, "authorization-off-loop~3.3.1")
    forms = {form.patch.name: form for form in deriving.derive(project, pins, [older.slug])}

    assert forms[older.name].kind == "by hand: the merge conflicts in security.py"
    assert forms[older.name].content == older.content
    assert forms["authorization-off-loop~3.3.0"].kind == f"derived from {older.name}"


def test_changes_of_adjacent_lines_are_merged(tmp_path):
    base, theirs = b"import a\nimport b\n\ncode\n", b"import a\nimport b\nimport c\n\ncode\n"
    assert tree.merge_file(tmp_path, b"import a\nimport z\n\ncode\n", base, theirs) == (
        b"import a\nimport z\nimport c\n\ncode\n"
    )


def test_changes_of_one_line_conflict(tmp_path):
    assert tree.merge_file(tmp_path, b"a = 1\n", b"a = 0\n", b"a = 2\n") is None


def test_every_form_is_as_refresh_writes_it(project, pins):
    forms = deriving.derive(project, pins)
    assert [form.patch.name for form in forms if form.content != form.patch.content] == []
    assert {form.kind for form in forms if form.source is None} == {"newest"}
    assert next(form for form in forms if form.patch.name == OLDER).kind == f"derived from {NEWEST}"


def test_check_names_a_derived_form_that_is_outdated(copy, pins):
    path = copy / f"patches/airflow-core/{OLDER}.patch"
    path.write_text(
        path.read_text().replace(
            "+    instance = _AuthManagerState.instance\n",
            "+    instance = (_AuthManagerState.instance)\n",
            1,
        )
    )
    few = dataclasses.replace(
        pins, releases=tuple(r for r in pins.releases if str(r.version) in ("3.3.1", "3.3.2"))
    )

    faults, _ = lint.check(copy, copy / "patches", few)

    assert any(fault.path == path and f"derived from {NEWEST}" in fault.what for fault in faults)
