"""Select the patches of a release."""

from __future__ import annotations

import pytest

from airflow_auth_patches.series.bugs import read_bugs
from airflow_auth_patches.util.errors import Problem

OFF_LOOP, CACHE = "revoked-token-off-loop", "revoked-token-cache"
RELEASE = "apache-airflow-core==3.3.2"


@pytest.mark.parametrize("names", [[OFF_LOOP], [CACHE], [OFF_LOOP, CACHE]])
def test_selects_exactly_the_named_patches(project, pins, names):
    assert {patch.slug for patch in project.select(pins.release(RELEASE), names)} == set(names)


@pytest.mark.parametrize("everything", [False, True])
def test_selects_a_patch_with_a_trade_off_only_with_everything(project, pins, everything):
    slugs = {patch.slug for patch in project.select(pins.release(RELEASE), everything=everything)}
    assert OFF_LOOP in slugs
    assert (CACHE in slugs) is everything


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


@pytest.mark.parametrize(
    ("new", "said"), [('severity = "bad"', "'bad' is not a valid Severity"), ("", "lacks 'severity'")]
)
def test_severity_must_be_a_known_one(project, tmp_path, new, said):
    text = (project.folder / "bugs.toml").read_text()
    (tmp_path / "bugs.toml").write_text(text.replace('severity = "error"', new, 1))
    with pytest.raises(Problem, match=rf"bugs\.toml cannot be read: .*{said}"):
        read_bugs(tmp_path)
