"""A patched wheel is an ordinary wheel of the same release, and the same bytes each time."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile

import pytest
from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import wheels
from airflow_auth_patches.releases import fetching, releases
from airflow_auth_patches.series import series
from airflow_auth_patches.util.errors import Problem


@pytest.fixture(scope="module")
def serving(project, pins):
    return [release for release in pins.releases if project.serving(release)]


def build(project, pins, release, output):
    return wheels.build(patching.patched(project, release, everything=True), pins.label, output)


@pytest.fixture(scope="module")
def built(project, pins, serving, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return {release: build(project, pins, release, folder) for release in serving}


def test_every_member_has_the_hash_that_record_says(built):
    for path in built.values():
        with WheelFile(path) as wheel:  # the library compares as it reads
            for name in wheel.namelist():
                wheel.read(name)


def test_only_the_patched_files_differ(built, project):
    for release, path in built.items():
        edited = {releases.to_installed(p) for patch in project.serving(release) for p in patch.edits} - {
            None
        }
        with zipfile.ZipFile(path) as after, zipfile.ZipFile(fetching.fetch(release, "wheel")) as before:
            names = {name for name in before.namelist() if ".dist-info/" not in name}
            assert {name for name in after.namelist() if ".dist-info/" not in name} == names | edited
            assert {name for name in names if before.read(name) != after.read(name)} == edited & names


def test_the_local_label_satisfies_every_pin_of_the_release(built, pins):
    for release, path in built.items():
        with WheelFile(path) as wheel:
            metadata = Metadata.from_email(wheel.read(f"{wheel.dist_info_path}/METADATA"), validate=False)
        assert str(metadata.version) == f"{release.version}+{pins.label}"
        assert metadata.version in SpecifierSet(f"=={release.version}")
        assert metadata.version > Version(str(release.version))


def test_the_manifest_tells_what_was_done(built, project):
    for release, path in built.items():
        with WheelFile(path) as wheel:
            told = json.loads(wheel.read(f"{wheel.dist_info_path}/{wheels.MANIFEST}"))
            after = {name: wheel.read(name) for name in told["files"]}
        assert told["release"] == str(release)
        assert [patch["slug"] for patch in told["patches"]] == [p.slug for p in project.serving(release)]
        for name, hashes in told["files"].items():
            assert wheels._digest(after[name]) == hashes["after"]
            stock = wheels.pristine(release, name)
            assert (stock and wheels._digest(stock)) == hashes["before"]


def test_a_requirement_is_declared_where_it_was_not(built):
    for release, path in built.items():
        with WheelFile(path) as wheel:
            metadata = Metadata.from_email(wheel.read(f"{wheel.dist_info_path}/METADATA"), validate=False)
        declared = [str(r) for r in metadata.requires_dist or [] if r.name == "cachetools"]
        if release.distribution is releases.CORE and release.version >= Version("3.2"):
            assert declared == ["cachetools>=6.0.0"]


def test_the_same_bytes_at_another_time(built, project, pins, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2000000000")
    release = next(iter(built))
    assert build(project, pins, release, tmp_path).read_bytes() == built[release].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [built[release].name]  # nothing half done


ADDED, EDITED = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"


def test_an_added_file_is_a_member_with_its_hash(adding, pins, project, tmp_path):
    release = pins.release("apache-airflow-core==3.3.2")
    first = adding(str(release), {ADDED: "X = 1\n"})
    second = adding(str(release), {ADDED: "X = 2\n"}, "later", after=[first])
    for patches, content in (((first,), b"X = 1\n"), ((first, second), b"X = 2\n")):
        patched = patching.patched(dataclasses.replace(project, patches=patches), release)
        assert (patched.before, patched.after) == ({}, {"airflow/added_module.py": content})
        path = wheels.build(patched, pins.label, tmp_path / "wheels")
        with WheelFile(path) as wheel, zipfile.ZipFile(fetching.fetch(release, "wheel")) as stock:
            assert wheel.read("airflow/added_module.py") == content  # compared with RECORD
            told = json.loads(wheel.read(f"{wheel.dist_info_path}/{wheels.MANIFEST}"))
            assert len(wheel.namelist()) == len(stock.namelist()) + 2  # and the manifest
        digest = wheels._digest(content)
        assert told["files"] == {"airflow/added_module.py": {"before": None, "after": digest}}
    assert second.adds == frozenset()


def test_an_edit_of_an_added_file_takes_the_patch_that_adds_it(adding, pins, project):
    release = pins.release("apache-airflow-core==3.3.2")
    first = adding(str(release), {ADDED: "X = 1\n"})
    second = adding(str(release), {ADDED: "X = 2\n"}, "later", after=[first])
    with pytest.raises(Problem, match=r"later applies to apache-airflow-core==\S+ only with added-module"):
        patching.patched(dataclasses.replace(project, patches=(first, second)), release, ["later"])


def test_an_added_file_that_the_release_has_is_refused(adding, pins, project):
    release = pins.release("apache-airflow-core==3.3.2")
    patch = adding(str(release), {ADDED: "X = 1\n"})
    content = patch.content.replace(b"added_module.py", b"settings.py")
    patch.path.write_bytes(content)
    taken = series.read_patch(patch.path, releases.CORE)
    assert taken.adds == {EDITED}
    with pytest.raises(Problem, match=re.escape("The file airflow/settings.py already exists")):
        patching.patched(dataclasses.replace(project, patches=(taken,)), release)


def test_a_release_that_no_chosen_patch_serves(project, pins):
    release = pins.release("apache-airflow-core==3.3.2")
    empty = dataclasses.replace(project, patches=())
    with pytest.raises(Problem, match=r"the series has no patch for it"):
        patching.patched(empty, release)
    traded = dataclasses.replace(project, patches=tuple(p for p in project.patches if p.trade_off))
    with pytest.raises(Problem, match=r"its patches are revoked-token-cache\."):
        patching.patched(traded, release)
    with pytest.raises(Problem, match=r"No named patch is for"):
        patching.patched(project, release, ["session-cleanup"])
