"""The tables that cog writes into the README have every patch and every pair."""

from __future__ import annotations

import dataclasses
import re

from packaging.specifiers import SpecifierSet

from airflow_auth_patches.series import tables


def test_every_patch_has_one_row_that_links_to_its_newest_form(root, project, this_project):
    rows = re.findall(r"^\| \[`([\w-]+)`\]\((\S+)\)", tables.patches(this_project), re.MULTILINE)
    assert [slug for slug, _ in rows] == list(dict.fromkeys(patch.slug for patch in project.patches))
    assert all((root / path).is_file() and "~" not in path for _, path in rows)


def test_releases_of_a_patch_are_a_range_or_one_version(this_project, project):
    patch = next(p for p in project.patches if p.slug == "delete-role")
    for wanted, said in ((">=3.3.0,<=3.5.0", "fab 3.3.0-3.5.0"), ("==3.4.0", "fab 3.4.0")):
        changed = dataclasses.replace(patch, applies_to=SpecifierSet(wanted))
        series = dataclasses.replace(project, patches=(changed,))
        table = tables.patches(dataclasses.replace(this_project, series=series))
        assert table.splitlines()[2:] == [
            f"| [`delete-role`](patches/providers-fab/delete-role.patch) | {said} | {patch.subject} |"
        ]


def test_trade_off_and_optional_patches_are_marked(this_project):
    table = tables.patches(this_project)
    marks = dict(re.findall(r"^\| \[`([\w-]+)`\]\(\S+\) \((.*?)\)", table, re.MULTILINE))
    assert marks["revoked-token-cache"] == "trade-off"
    assert marks["request-session"] == "optional"
    assert "request-admission" not in marks


def test_every_pair_is_counted_once(pins):
    rows = [row.strip("| ").split(" | ") for row in tables.pairs(pins).splitlines()]
    counts = [int(cell) for row in rows[2:] for cell in row[1:] if cell != "-"]
    assert sum(counts) == len(pins.pairs)
    assert rows[0][0] == "core"
    assert [row[0] for row in rows[2:]] == ["3.1", "3.2", "3.3", "3.4"]


def test_patch_has_its_symptoms_and_its_first_files(this_project, project):
    table = tables.symptoms(this_project)
    rows = dict(re.findall(r"^\| \[`([\w-]+)`\].*? \| .*? \| (.* \| .*) \|$", table, re.MULTILINE))
    bug = project.bugs["delete-role-500"]
    assert rows["delete-role"] == (
        f"{bug.sees} ([why](bugs/delete-role.md)) | `auth_manager/api_fastapi/services/roles.py`"
    )
    assert rows["user-from-token-hook"].startswith("- | ")
    assert re.search(r"`, `[^,]*`, `[^,]*`, `[^,]*` and \d+ more$", rows["response-fields-lists"])


def test_every_bug_has_the_patches_that_cure_it(this_project, project):
    rows = tables.bugs(this_project).splitlines()[2:]
    assert len(rows) == len(project.bugs)
    for bug, row in zip(project.bugs.values(), rows, strict=True):
        cures = {patch.slug for patch in project.patches if bug.slug in patch.cures}
        assert set(re.findall(r"\[`([\w-]+)`\]\(\.\./patches", row)) == cures
