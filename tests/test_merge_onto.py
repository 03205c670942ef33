"""A patch that does not apply to a new release is merged three-way, by `add-release` and `tree`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from packaging.specifiers import SpecifierSet

from airflow_auth_patches.releases import fetching
from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series import compatibility, exporting, importing
from airflow_auth_patches.series.compatibility import Compatibility
from airflow_auth_patches.series.deriving import merge_onto
from airflow_auth_patches.series.project import Project, load_project
from airflow_auth_patches.series.series import Patch

SLUG, RELEASE = "auth-manager-purge-race", "apache-airflow-core==3.3.2"


def with_patches(project: Project, patches: Iterable[Patch]) -> Project:
    return dataclasses.replace(project, series=dataclasses.replace(project.series, patches=tuple(patches)))


def unported(project: Project) -> Project:
    """Return the project without the form of the patch for the newest release."""
    return with_patches(project, (patch for patch in project.series.patches if patch.name != SLUG))


def test_merges_the_nearest_form_onto_a_release_that_none_applies_to(
    this_project: Project, pins: Pins
) -> None:
    release = pins.release(RELEASE)
    found = {
        fit.slug: fit
        for fit in compatibility.judge(unported(this_project), release, fetching.sources(release))
    }
    assert found[SLUG].compatibility is Compatibility.MERGES
    assert (found[SLUG].form, found[SLUG].in_range) == (f"{SLUG}~3.3.1", False)


def test_finds_no_merge_if_every_form_conflicts(this_project: Project, pins: Pins) -> None:
    release = pins.release(RELEASE)
    files = dict(fetching.sources(release))
    (patch,) = (each for each in this_project.series.patches if each.name == SLUG)
    files.update(dict.fromkeys(patch.edits, b"another file\n"))
    assert merge_onto(unported(this_project), SLUG, release, files) is None


def test_finds_no_merge_for_a_patch_without_another_release(this_project: Project, pins: Pins) -> None:
    release = pins.release(RELEASE)
    (patch,) = (each for each in this_project.series.patches if each.name == SLUG)
    only = with_patches(this_project, [dataclasses.replace(patch, applies_to=SpecifierSet("==3.3.2"))])
    assert merge_onto(only, SLUG, release, fetching.sources(release)) is None


def test_tree_merges_a_patch_in_range_and_refresh_writes_it(pins: Pins, copy: Path) -> None:
    """The form for 3.3.1, whose range is widened to 3.3.2, becomes the form for 3.3.2 byte for byte."""
    path = copy / f"patches/airflow-core/{SLUG}.patch"
    wanted = path.read_bytes()
    older = path.with_name(f"{SLUG}~3.3.1.patch").read_text()
    (ranged,) = (line for line in wanted.decode().splitlines() if line.startswith("Applies-To: "))
    (old_range,) = (line for line in older.splitlines() if line.startswith("Applies-To: "))
    path.write_text(older.replace(old_range, ranged))
    project, release = load_project(copy), pins.release(RELEASE)
    imported = importing.import_patches(project, release)
    assert imported.merged == {SLUG: f"{SLUG}~3.3.1"}
    assert exporting.refresh(project, release) == [path]
    assert path.read_bytes() == wanted
