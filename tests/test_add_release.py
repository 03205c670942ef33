"""Add a release: fetch and verify it, check whether each patch applies, and write its entry."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from wheel.wheelfile import WheelFile

import airflow_auth_patches
from airflow_auth_patches.releases import fetching, pinning, releases
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, Release
from airflow_auth_patches.series import compatibility, hunks, series
from airflow_auth_patches.series.compatibility import Compatibility, Fit, add_release
from airflow_auth_patches.series.project import Project, load_project
from airflow_auth_patches.util.errors import Exit, Problem

NEW = Release(CORE, Version("3.3.9"), datetime.date(2026, 11, 20), ("3.11", "3.12"), {})


def without(text: str, release: Release) -> tuple[str, str]:
    """Return releases.toml without the pairs of a release, and without its entry too."""
    key = "core" if release.distribution is CORE else "fab"
    named = rf'\[\[pair\]\]\n(?:.+\n)*?{key} = "{re.escape(str(release.version))}"\n(?:.+\n)*\n'
    text = re.sub(named, "", text)
    cut = text.replace(pinning.entry(release), "")
    assert len(cut) == len(text) - len(pinning.entry(release))
    return text, re.sub(r"\n\n\n+", "\n\n", cut).rstrip("\n") + "\n"


def test_every_entry_is_written_as_it_is_pinned(pins, root):
    for release in pins.releases:
        whole, cut = without((root / "patches/releases.toml").read_text(), release)
        assert pinning.with_entry(cut, release) == whole


def test_every_provider_has_the_cores_that_its_metadata_allows(pins):
    for release in pins.releases:
        assert str(release.core) == str(pinning.core_of(release))
        assert release.distribution is CORE or str(release.core) == ">=3.0.2"


@pytest.mark.parametrize("name", ["apache-airflow-core==3.3.2", "apache-airflow-providers-fab==3.6.1"])
def test_pinned_release_is_added_again_byte_for_byte(name, pins, copy):
    folder = copy / "patches"
    path, release = folder / "releases.toml", pins.release(name)
    whole, cut = without(path.read_text(), release)
    path.write_text(cut)
    added, fits = add_release(load_project(folder.parent), name)
    assert path.read_text() == whole
    assert added == release
    assert not list(folder.glob(".*"))
    assert {each.form: each.compatibility for each in fits if each.in_range} == {
        patch.name: Compatibility.VARIANT if patch.variant else Compatibility.APPLIES
        for patch in series.load(folder).serving(release)
    }


def test_command_pins_a_release_except_in_a_dry_run(pins, copy):
    path = copy / "patches/releases.toml"
    whole, cut = without(path.read_text(), pins.release("apache-airflow-providers-fab==3.10.1"))
    path.write_text(cut)
    shutil.copytree(
        Path(airflow_auth_patches.__file__).parent, copy / "src/airflow_auth_patches", dirs_exist_ok=True
    )

    def tool(*arguments: str) -> str:
        main = "from airflow_auth_patches.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", main, "add-release", "apache-airflow-providers-fab==3.10.1", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(copy / "src")},
        ).stdout

    report = json.loads(tool("--dry-run", "--json"))
    assert (report["written"], report["date"]) == (False, "2026-10-13")
    found = {patch["patch"]: (patch["compatibility"], patch["why"]) for patch in report["patches"]}
    assert found["flask-teardown-guard"] == ("applies", "")
    assert found["users-route"] == ("not needed", "fixed in 3.4.0")
    assert "would be pinned" in " ".join(tool("--dry-run").split())
    assert path.read_text() == cut
    assert "reproducer" in tool()
    assert path.read_text() == whole


def judged(project: Project, release: Release, files: Mapping[str, bytes]) -> dict[str, Fit]:
    return {each.slug: each for each in compatibility.judge(project, release, files)}


def test_compatibility_with_a_new_release_comes_from_the_text(root, project, pins):
    release = pins.release("apache-airflow-core==3.3.2")
    newer = [each for each in pins if each.distribution is CORE and each.version >= release.version]
    known = dataclasses.replace(pins, releases=tuple(each for each in pins.releases if each not in newer))
    older = [
        dataclasses.replace(p, applies_to=p.applies_to & SpecifierSet("!=3.3.2")) for p in project.patches
    ]
    old = dataclasses.replace(project, patches=tuple(p for p in older if any(map(p.serves, known.releases))))
    found = judged(Project(root, old, known), release, fetching.sources(release))
    assert not any(each.in_range for each in found.values())
    assert found["pool-slots-session"].compatibility is Compatibility.APPLIES
    assert found["failed-run-session"].why == "fixed in 3.3.2"
    assert found["backfill-authorization-off-loop"].compatibility is Compatibility.NOT_NEEDED
    lists = found["authorization-off-loop"]
    assert (lists.form, lists.compatibility) == ("authorization-off-loop~3.3.1", Compatibility.NEEDS_VARIANT)
    assert lists.misfits
    text = (project.folder / "airflow-core/authorization-off-loop~3.3.1.patch").read_text().splitlines()
    for misfit in lists.misfits:
        assert text[misfit.line - 1].startswith("@@ ")
        assert misfit.path.startswith("airflow-core/")
        assert "occur" in misfit.what
        assert str(misfit) in lists.notes


ADDED, SETTINGS = "airflow-core/src/airflow/added_module.py", "airflow-core/src/airflow/settings.py"


@pytest.mark.parametrize(
    ("there", "expected", "why"),
    [
        (None, Compatibility.APPLIES, ""),
        (b"LIMIT = 1\n", Compatibility.NOT_NEEDED, "the release has the edits of added-module"),
        (b"LIMIT = 2\n", Compatibility.NEEDS_VARIANT, ""),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_patch_that_adds_a_file_is_compatible_unless_the_release_has_another(
    this_project, pins, adding, there, expected, why, alone
):
    files = dict(fetching.sources(pins.release("apache-airflow-core==3.3.2")))
    edited = {} if alone else {SETTINGS: f"{files[SETTINGS].decode()}# edited\n"}
    patch = adding("apache-airflow-core==3.3.2", {ADDED: "LIMIT = 1\n", **edited})
    if there is not None:
        files[ADDED] = there
    if expected is Compatibility.NOT_NEEDED:
        files |= {path: text.encode() for path, text in edited.items()}
    release = dataclasses.replace(NEW, version=Version("3.3.3"))
    patch = dataclasses.replace(patch, applies_to=SpecifierSet("==3.3.2"))
    series = dataclasses.replace(this_project.series, patches=(patch,), bugs={})
    (found,) = compatibility.judge(dataclasses.replace(this_project, series=series), release, files)
    assert (found.compatibility, found.why) == (expected, why)
    if expected is Compatibility.NEEDS_VARIANT:
        (misfit,) = found.misfits
        assert (misfit.path, misfit.what) == (ADDED, f"The file {ADDED} already exists.")


def maintained(pins: Pins, like: str) -> tuple[Release, dict[str, bytes]]:
    """Return a core 3.2.3, which is in the range of patches, with the files of another release."""
    files = fetching.sources(pins.release(f"{CORE.name}=={like}"))
    return dataclasses.replace(NEW, version=Version("3.2.3")), dict(files)


def test_patch_in_range_is_not_needed_when_the_release_has_its_edits(this_project, project, pins):
    release, files = maintained(pins, "3.2.2")
    (patch,) = (each for each in project.patches if each.name == "action-logging-off-loop~3.3.2")
    files.update(hunks.apply_all(files, patch.edits))
    found = judged(this_project, release, files)
    taken = found.pop("action-logging-off-loop")
    assert (taken.compatibility, taken.form, taken.in_range) == (Compatibility.NOT_NEEDED, patch.name, True)
    assert taken.notes == "the release has the edits of action-logging-off-loop~3.3.2; narrow Applies-To"
    assert not taken.misfits
    others = {each.compatibility for each in found.values() if each.in_range}
    assert others
    assert others <= {Compatibility.APPLIES, Compatibility.VARIANT}


def test_form_that_applies_but_is_not_in_range_must_be_widened(this_project, pins):
    found = judged(this_project, *maintained(pins, "3.3.1"))
    other = found["authorization-off-loop"]
    assert (other.compatibility, other.form) == (Compatibility.VARIANT, "authorization-off-loop~3.3.1")
    assert not other.in_range
    assert other.notes == "widen Applies-To"
    assert found["action-logging-off-loop"].notes == "in range"


@pytest.fixture
def publish(index: Path) -> Callable[..., None]:
    """Return a function that serves a small release; the arguments are its faults."""

    def do(
        *,
        release: Release = NEW,
        version: str | None = None,
        module: str = "x = 1\n",
        in_wheel: str = "",
        in_sdist: str = "",
        attributes: str = ' data-upload-time="2026-11-20T23:59:59.000001Z"',
        digest: str | None = None,
        kinds: Iterable[releases.Kind] = ("wheel", "sdist"),
        broken: bool = False,
    ) -> None:
        head = f"Metadata-Version: 2.4\nName: {CORE.name}\nVersion: {version or release.version}\n"
        pythons = "".join(f"Classifier: Programming Language :: Python :: {p}\n" for p in ("3.11", "3.12"))
        with WheelFile(index / release.filename("wheel"), "w") as wheel:
            wheel.writestr("airflow/settings.py", "x = 1\n")
            wheel.writestr(f"{wheel.dist_info_path}/METADATA", head + pythons)
            if in_wheel:
                wheel.writestr(in_wheel, "import this\n")
        files = {"src/airflow/settings.py": module, "PKG-INFO": head}
        if in_sdist:
            files[f"src/{in_sdist}"] = "import this\n"
        sdist = index / release.filename("sdist")
        with tarfile.open(sdist, "w:gz") as tar:
            for name, text in files.items():
                info = tarfile.TarInfo(f"{sdist.name.removesuffix('.tar.gz')}/{name}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
        if broken:
            sdist.write_bytes(b"no archive")
        links = ""
        for name in map(release.filename, kinds):
            sha = digest or hashlib.sha256((index / name).read_bytes()).hexdigest()
            links += f'<a href="{name}#sha256={sha}"{attributes}>{name}</a>'
        (index / "index.html").write_text(f"<html><body>{links}</body></html>")

    return do


def test_release_of_the_index_is_pinned(publish, copy):
    publish()
    folder = copy / "patches"
    added, fits = add_release(load_project(folder.parent), f"{CORE.name}==3.3.9")
    found = releases.load(folder).release(f"{CORE.name}==3.3.9")
    assert found == added
    assert (found.pythons, found.date) == (NEW.pythons, NEW.date)
    # The release has none of the edited files.
    assert {each.compatibility for each in fits} == {
        Compatibility.NEEDS_VARIANT,
        Compatibility.NOT_NEEDED,
    }
    assert all(each.misfits for each in fits if each.compatibility is Compatibility.NEEDS_VARIANT)


@pytest.mark.parametrize("version", ["3.4.0b3", "3.4.0"])
def test_later_release_replaces_the_prerelease_and_its_pair(publish, pins, copy, version):
    publish(release=dataclasses.replace(NEW, version=Version(version)))
    add_release(load_project(copy), f"{CORE.name}=={version}")
    now = releases.load(copy / "patches")
    old = pins.prerelease(CORE)
    assert [each for each in now if each not in pins.releases] == [now.release(f"{CORE.name}=={version}")]
    assert [each for each in pins if each not in now.releases] == [old]
    (was,) = (pair for pair in pins.pairs if pair.core is old)
    (pair,) = (pair for pair in now.pairs if pair not in pins.pairs)
    assert (pair.core.version, pair.fab) == (Version(version), was.fab)
    assert pair.exclude_newer == NEW.date + datetime.timedelta(days=1)
    assert [each for each in now.pairs if each != pair] == [each for each in pins.pairs if each != was]


def test_refuses_to_replace_a_prerelease_in_another_layout(publish, pins, copy):
    publish(release=dataclasses.replace(NEW, version=Version("3.4.0")))
    path, old = copy / "patches/releases.toml", pins.prerelease(CORE)
    text = path.read_text().replace(f'version = "{old.version}"\n', f'version = "{old.version}"  # main\n')
    path.write_text(text)
    with pytest.raises(Problem, match="cannot be replaced"):
        add_release(load_project(copy), f"{CORE.name}==3.4.0")
    assert path.read_text() == text


def test_older_final_release_keeps_the_prerelease(publish, pins, copy):
    publish()
    add_release(load_project(copy), f"{CORE.name}==3.3.9")
    now = releases.load(copy / "patches")
    assert now.prerelease(CORE) == pins.prerelease(CORE)
    assert now.pairs == pins.pairs


def test_refuses_a_prerelease_that_is_not_the_newest_of_the_index(publish, index, copy):
    publish(release=dataclasses.replace(NEW, version=Version("3.4.0b3")))
    page = index / "index.html"
    page.write_text(
        page.read_text().replace("</body>", "<a href='x'>apache_airflow_core-3.4.0rc1.tar.gz</a>")
    )
    held = (copy / "patches/releases.toml").read_bytes()
    with pytest.raises(Problem, match=r"not the newest: the package index has 3\.4\.0rc1"):
        add_release(load_project(copy), f"{CORE.name}==3.4.0b3")
    assert (copy / "patches/releases.toml").read_bytes() == held


NOT_IN_SDIST = r"is in the wheel, but not below airflow/ in the sdist"


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        ({"attributes": ""}, Exit.UNREACHABLE, "does not give the upload date"),
        ({"kinds": ("wheel",)}, Exit.UNREACHABLE, r"has no apache_airflow_core-3\.3\.9\.tar\.gz"),
        ({"kinds": ("sdist",)}, Exit.UNREACHABLE, r"has no apache_airflow_core-3\.3\.9-py3"),
        ({"attributes": ' data-yanked="bad"'}, Exit.REFUSED, "was yanked: bad"),
        ({"attributes": ' data-upload-time="soon"'}, Exit.UNREACHABLE, "cannot be read"),
        ({"digest": "0" * 64}, Exit.CORRUPT, "has the SHA-256"),
        ({"version": "3.3.8"}, Exit.CORRUPT, "has the metadata of apache-airflow-core 3.3.8"),
        ({"module": "x = 2\n"}, Exit.CORRUPT, "airflow/settings.py differs between the wheel and the sdist"),
        ({"in_wheel": "airflow/more.py"}, Exit.CORRUPT, NOT_IN_SDIST),
        ({"in_wheel": "airflow/x.abi3.so"}, Exit.CORRUPT, NOT_IN_SDIST),
        ({"in_wheel": "airflow/settings.pyc"}, Exit.CORRUPT, NOT_IN_SDIST),
        ({"in_wheel": "sitecustomize.py"}, Exit.CORRUPT, NOT_IN_SDIST),
        ({"in_wheel": "more.pth", "in_sdist": "more.pth"}, Exit.CORRUPT, NOT_IN_SDIST),
        ({"in_sdist": "airflow/more.py"}, Exit.CORRUPT, r"airflow/more\.py is in the sdist, but not below"),
        ({"broken": True}, Exit.CORRUPT, "is corrupt"),
    ],
)
def test_refuses_incomplete_or_inconsistent_release_and_writes_nothing(publish, copy, what, code, said):
    publish(**what)
    folder = copy / "patches"
    held = (folder / "releases.toml").read_bytes()
    with pytest.raises(Problem, match=said) as refused:
        add_release(load_project(folder.parent), f"{CORE.name}==3.3.9")
    assert refused.value.exit_code is code
    assert refused.value.remedy
    assert (folder / "releases.toml").read_bytes() == held


def test_failed_write_changes_no_file(pins, copy, monkeypatch):
    folder = copy / "patches"
    held = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Problem, match="no space left"):
        pinning.write(folder, dataclasses.replace(pins.releases[0], version=Version("3.3.9")))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == held


def test_comment_stays_with_its_entry(pins, root):
    release = pins.release(f"{FAB.name}==3.6.1")
    _, cut = without((root / "patches/releases.toml").read_text(), release)
    head = f'[[{FAB.name}]]\nversion = "3.6.2"'
    commented = cut.replace(head, f"# Two lines\n# on 3.6.2.\n{head}")
    assert f"{pinning.entry(release)}\n# Two lines\n# on 3.6.2.\n{head}" in pinning.with_entry(
        commented, release
    )


def test_refuses_file_with_another_layout(pins):
    release = pins.release(f"{FAB.name}==3.6.1")
    with pytest.raises(Problem, match=r"cannot be added to releases\.toml"):
        pinning.with_entry(f'"{FAB.name}" = []\n', release)
