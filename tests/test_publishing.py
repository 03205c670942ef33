"""Two editions of the series that differ have different labels."""

from __future__ import annotations

import dataclasses

import pytest

from airflow_auth_patches.releases.releases import Pins
from airflow_auth_patches.series import published
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.verification import publishing

CORE, FAB = "apache-airflow-core==3.1.6", "apache-airflow-providers-fab==3.3.0"


@pytest.fixture
def small(root, project, pins, tmp_path) -> Project:
    """Return a project with two releases whose wheels are published."""
    releases = tuple(pins.release(name) for name in (CORE, FAB))
    loaded = Project(
        root, dataclasses.replace(project, folder=tmp_path), Pins(pins.label, releases, pins.pairs)
    )
    publishing.publish(loaded)
    return loaded


def edited(series: Series, slug: str, old: bytes, new: bytes) -> Series:
    def edit(patch: Patch) -> Patch:
        if patch.slug != slug:
            return patch
        return dataclasses.replace(patch, content=patch.content.replace(old, new, 1))

    return dataclasses.replace(series, patches=tuple(map(edit, series.patches)))


def faults(project: Project, **changes: object) -> list[str]:
    return [fault.what for fault in publishing.faults(dataclasses.replace(project, **changes))]


def test_changed_edits_of_a_default_patch_need_another_label(small):
    assert faults(small) == []
    (what,) = faults(small, series=edited(small.series, "users-route", b"\n+", b"\n+  "))
    assert what.startswith(
        f"The default patches of {FAB} changed, and the label is still authpatches.2: raise"
    )
    removed = tuple(patch for patch in small.series.patches if patch.slug != "request-admission")
    (what,) = faults(small, series=dataclasses.replace(small.series, patches=removed))
    assert CORE in what


def test_changed_messages_and_patches_that_are_not_default_need_no_other_label(small):
    assert faults(small, series=edited(small.series, "users-route", b"\n\n", b"\n\nMore.\n\n")) == []
    assert faults(small, series=edited(small.series, "request-session", b"\n+", b"\n+  ")) == []


def test_new_label_and_new_release_must_be_published(small, pins):
    raised = dataclasses.replace(small.releases, label="authpatches.3")
    (what,) = faults(small, releases=raised)
    assert what.startswith("The label authpatches.3 is not published for each release: run ")
    publishing.publish(dataclasses.replace(small, releases=raised))
    assert faults(small, releases=raised) == []
    more = dataclasses.replace(raised, releases=pins.releases)
    assert len(faults(small, releases=more)) == 1


def test_publish_refuses_other_wheels_with_the_same_label(small):
    before = published.read(small.series.folder)
    fewer = tuple(patch for patch in small.series.patches if patch.slug != "users-route")
    with pytest.raises(Problem, match=r"were published with the label authpatches\.2"):
        publishing.publish(
            dataclasses.replace(small, series=dataclasses.replace(small.series, patches=fewer))
        )
    assert published.read(small.series.folder) == before
