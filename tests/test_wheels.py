"""A patched wheel is an ordinary wheel of the same release, and reproducible."""

from __future__ import annotations

import dataclasses
import hashlib
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
from airflow_auth_patches.series import published, series
from airflow_auth_patches.util.errors import Problem


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build(project, pins, release, output):
    return wheels.build(patching.patched(project, release, everything=True), pins.label, output)


@pytest.fixture(
    scope="module", params=["newest", pytest.param("every", marks=[pytest.mark.airflow, pytest.mark.slow])]
)
def built(request, project, pins, tmp_path_factory):
    """Return wheels of 3.2.0 and of the newest release of each minor version, or of every release."""
    serving = [release for release in pins.releases if project.serving(release)]
    newest = {(release.distribution, release.version.release[:2]): release for release in serving}
    few = [*newest.values(), pins.release("apache-airflow-core==3.2.0")]
    folder = tmp_path_factory.mktemp("wheels")
    chosen = serving if request.param == "every" else few
    return {release: build(project, pins, release, folder) for release in chosen}


def metadata(wheel: WheelFile) -> Metadata:
    return Metadata.from_email(wheel.read(f"{wheel.dist_info_path}/METADATA"), validate=False)


def test_only_the_patched_files_differ_and_have_their_hashes_in_record(built, project):
    for release, path in built.items():
        edits = (edit for patch in project.serving(release) for edit in patch.edits)
        edited = {*map(releases.to_installed, edits)} - {None}
        with WheelFile(path) as after, zipfile.ZipFile(fetching.fetch(release, "wheel")) as before:
            for name in after.namelist():
                after.read(name)  # compares with RECORD
            names = {name for name in before.namelist() if ".dist-info/" not in name}
            assert {name for name in after.namelist() if ".dist-info/" not in name} == names | edited
            assert {name for name in names if before.read(name) != after.read(name)} == edited & names


def test_version_satisfies_every_pin_of_the_release_and_requirements_are_declared(built, pins):
    for release, path in built.items():
        with WheelFile(path) as wheel:
            found = metadata(wheel)
        assert str(found.version).startswith(f"{release.version}+{pins.label}")
        assert found.version in SpecifierSet(f"=={release.version}")
        assert found.version > Version(str(release.version))
        if release.distribution is releases.CORE and release.version >= Version("3.2"):
            declared = [str(r) for r in found.requires_dist or [] if r.name == "cachetools"]
            assert declared == ["cachetools>=6.0.0"]


def test_another_choice_of_patches_has_another_version(project, pins, tmp_path):
    release = pins.release("apache-airflow-core==3.3.2")
    patches = project.select(release, optional=False)
    fewer = dataclasses.replace(project, patches=tuple(p for p in project.patches if p is not patches[-1]))
    edited = dataclasses.replace(patches[0], content=patches[0].content + b"\n")
    other = dataclasses.replace(
        project, patches=tuple(edited if p is patches[0] else p for p in project.patches)
    )
    names = [patch.slug for patch in patches[:1]]
    made = [
        patching.patched(project, release),
        patching.patched(project, release, [patch.slug for patch in patches]),
        patching.patched(project, release, everything=True),
        patching.patched(project, release, names),
        patching.patched(other, release, names),
        patching.patched(fewer, release, names),
    ]
    labels = [found.label(pins.label) for found in made]
    assert labels[:2] == [pins.label] * 2
    assert labels[3] == labels[5]
    assert len({*labels}) == 4
    path = wheels.build(made[3], pins.label, tmp_path)
    with WheelFile(path) as wheel:
        told = json.loads(wheel.read(f"{wheel.dist_info_path}/{wheels.MANIFEST}"))
        assert told["label"] == labels[3]
        assert metadata(wheel).version == Version(f"{release.version}+{labels[3]}")
    assert patching.patched(other, release).label(pins.label) not in labels
    for label in labels[2:]:
        assert Version(f"3.3.2+{pins.label}") < Version(f"3.3.2+{label}") < Version("3.3.3")


@pytest.mark.parametrize("name", ["apache-airflow-core==3.2.0", "apache-airflow-providers-fab==3.3.0"])
def test_default_wheel_has_the_published_hash(project, pins, tmp_path, name):
    """If a change of this tool changes the wheels, raise the label and run `check --publish`."""
    path = wheels.build(patching.patched(project, pins.release(name)), pins.label, tmp_path)
    assert fetching.sha256(path) == published.read(project.folder).wheels[name]


def test_manifest_has_the_patches_and_the_hashes_of_the_files(built, project):
    for release, path in built.items():
        with WheelFile(path) as wheel:
            manifest = json.loads(wheel.read(f"{wheel.dist_info_path}/{wheels.MANIFEST}"))
            after = {name: wheel.read(name) for name in manifest["files"]}
        assert manifest["release"] == str(release)
        assert [patch["slug"] for patch in manifest["patches"]] == [p.slug for p in project.serving(release)]
        for name, hashes in manifest["files"].items():
            stock = wheels.pristine(release, name)
            assert hashes == {"before": stock and digest(stock), "after": digest(after[name])}


def test_wheel_has_the_same_bytes_at_another_time(built, project, pins, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2000000000")
    release = next(iter(built))
    assert build(project, pins, release, tmp_path).read_bytes() == built[release].read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [built[release].name]


ADDED = "airflow-core/src/airflow/added_module.py"


@pytest.fixture
def core(pins):
    return pins.release("apache-airflow-core==3.3.2")


@pytest.fixture
def two(adding, core):
    """Return a patch that adds a file, and a later patch that edits it."""
    first = adding(str(core), {ADDED: "X = 1\n"})
    return first, adding(str(core), {ADDED: "X = 2\n"}, "later", after=[first])


def patched(project, release, patches, names=None):
    return patching.patched(dataclasses.replace(project, patches=tuple(patches)), release, names)


def test_added_file_is_a_member_with_its_hash(two, core, pins, project, tmp_path):
    for patches, content in ((two[:1], b"X = 1\n"), (two, b"X = 2\n")):
        found = patched(project, core, patches)
        assert (found.before, found.after) == ({}, {"airflow/added_module.py": content})
        path = wheels.build(found, pins.label, tmp_path / "wheels")
        with WheelFile(path) as wheel, zipfile.ZipFile(fetching.fetch(core, "wheel")) as stock:
            assert wheel.read("airflow/added_module.py") == content
            manifest = json.loads(wheel.read(f"{wheel.dist_info_path}/{wheels.MANIFEST}"))
            assert len(wheel.namelist()) == len(stock.namelist()) + 2  # and the manifest
        hashes = {"before": None, "after": digest(content)}
        assert manifest["files"] == {"airflow/added_module.py": hashes}
    assert two[1].adds == frozenset()


def test_edit_of_an_added_file_needs_the_patch_that_adds_it(two, core, project):
    with pytest.raises(Problem, match=r"later applies to apache-airflow-core==\S+ only with added-module"):
        patched(project, core, two, ["later"])


def test_refuses_to_add_a_file_that_the_release_has(two, core, project):
    path = two[0].path
    path.write_bytes(two[0].content.replace(b"added_module.py", b"settings.py"))
    with pytest.raises(Problem, match=re.escape("The file airflow/settings.py already exists")):
        patched(project, core, [series.read_patch(path, releases.CORE)])


def test_refuses_release_without_a_chosen_patch(project, core):
    for patches, names, said in (
        ((), None, "the series has no patch for it"),
        ([p for p in project.patches if p.trade_off], None, r"its patches are revoked-token-cache\."),
        (project.patches, ["session-cleanup"], "No named patch is for"),
    ):
        with pytest.raises(Problem, match=said):
            patched(project, core, patches, names)
