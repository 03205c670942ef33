"""Which patches of the series are chosen for a release."""

from __future__ import annotations

import dataclasses

import pytest

OFF_LOOP, CACHE, JOINT = "revoked-token-off-loop", "revoked-token-cache", "joint"
RELEASE = "apache-airflow-core==3.3.2"


@pytest.fixture
def joined(project, pins):
    """The series with a made-up patch that joins two of its patches."""
    release = pins.release(RELEASE)
    (cache,) = (patch for patch in project.serving(release) if patch.slug == CACHE)
    joint = dataclasses.replace(cache, slug=JOINT, trailers={"Joins": (OFF_LOOP, CACHE)})
    return dataclasses.replace(project, patches=(*project.patches, joint))


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([OFF_LOOP], {OFF_LOOP}),
        ([CACHE], {CACHE}),
        ([JOINT], set()),
        ([OFF_LOOP, JOINT], {OFF_LOOP}),
        ([OFF_LOOP, CACHE], {OFF_LOOP, CACHE, JOINT}),
        ([OFF_LOOP, CACHE, JOINT], {OFF_LOOP, CACHE, JOINT}),
    ],
)
def test_a_patch_that_joins_others_is_taken_with_all_of_them_and_only_then(joined, pins, names, chosen):
    assert {patch.slug for patch in joined.select(pins.release(RELEASE), names)} == chosen


@pytest.mark.parametrize("everything", [False, True])
def test_a_joint_follows_what_is_taken_by_default_and_what_has_a_trade_off(joined, pins, everything):
    slugs = {patch.slug for patch in joined.select(pins.release(RELEASE), everything=everything)}
    assert OFF_LOOP in slugs
    assert (CACHE in slugs, JOINT in slugs) == (everything, everything)


def test_patch_is_optional_when_another_avoids_all_its_bugs(project, pins):
    release = pins.release("apache-airflow-core==3.3.2")
    slugs = {patch.slug for patch in project.select(release, optional=False)}
    assert slugs >= {"request-admission", "latest-dag-version-session"}, "one of its bugs is not avoided"
    assert "request-session" not in slugs
    for more in ({"optional": True}, {"everything": True, "optional": False}, {"names": ["request-session"]}):
        assert "request-session" in {patch.slug for patch in project.select(release, **more)}


def test_patches_are_chosen_in_series_order(project, pins):
    slugs = [patch.slug for patch in project.select(pins.release(RELEASE), everything=True)]
    assert slugs.index("revoked-token-leeway") < slugs.index(OFF_LOOP) < slugs.index(CACHE)
