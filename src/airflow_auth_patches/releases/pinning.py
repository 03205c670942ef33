"""Pin a release that is new: ask the package index, verify what it has, write the entry."""

from __future__ import annotations

import datetime
import json
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from email.parser import BytesHeaderParser
from pathlib import Path

import pypi_simple
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from wheel.wheelfile import WheelError, WheelFile

from airflow_auth_patches.releases.fetching import INDEX_FAULTS, endpoint, fetch, first_line, sources
from airflow_auth_patches.releases.releases import (
    CORE,
    Distribution,
    Kind,
    Pins,
    Release,
    distribution,
    to_installed,
)
from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Exit, Problem
from airflow_auth_patches.util.progress import Progress

KINDS: tuple[Kind, ...] = ("wheel", "sdist")
#: What Python imports, or runs when it starts.
MODULES = (".py", ".pyc", ".pyd", ".so", ".pth")


def named(name: str, pins: Pins) -> tuple[Distribution, Version]:
    """
    Return what a text such as ``apache-airflow-core==3.3.3`` names, which is to be a new release.

    :raises Problem: USAGE when it names no final release, REFUSED when that is pinned or out of scope.
    """
    left, _, right = name.partition("==")
    try:
        version = Version(right.strip())
    except InvalidVersion as error:
        raise Problem(
            f"{name!r} names no release.", "Write it as apache-airflow-core==3.3.3.", Exit.USAGE
        ) from error
    dist = distribution(left.strip())
    if version.is_prerelease or version.local or version.epoch:
        raise Problem(f"{version} is no final release.", "Only those are pinned.", Exit.USAGE)
    if pins.find(dist, str(version)):
        raise Problem(
            f"{dist.name} {version} is pinned already.", "`airflow-auth-patches list --releases` shows it."
        )
    if version < dist.oldest:
        raise Problem(
            f"{dist.name} {version} is out of scope: the series begins with {dist.oldest}.",
            "Nothing was changed.",
        )
    return dist, version


def find(dist: Distribution, version: Version, progress: Progress | None = None) -> Release:
    """
    Ask the package index for a release, fetch its wheel and sdist and verify them.

    :return: the release as it is to be pinned: of the day and with the hashes that the index tells, which are
        those of the files.
    :raises Problem: UNREACHABLE when the index lacks something, REFUSED when the release was yanked, CORRUPT
        when a file is not what the index or the file itself says.
    """
    page, days = _page(dist)
    asked = Release(dist, version, datetime.date.min, (), {})
    hashes: dict[Kind, str] = {}
    uploaded = []
    for kind in KINDS:
        name = asked.filename(kind)
        package = next((found for found in page.packages if found.filename == name), None)
        if package is None:
            raise Problem(
                f"The package index has no {name}.",
                "Is that the right version, and the index a full mirror?",
                Exit.UNREACHABLE,
            )
        if package.is_yanked:
            reason = (package.yanked_reason or "no reason is given").rstrip(".!")
            raise Problem(f"{dist.name} {version} was yanked: {reason}.", "Nothing was changed.")
        if "sha256" not in package.digests or name not in days:
            lacking = "the SHA-256" if "sha256" not in package.digests else "the day of upload"
            raise Problem(
                f"The package index does not tell {lacking} of {name}.",
                "Name one that does with UV_DEFAULT_INDEX.",
                Exit.UNREACHABLE,
            )
        hashes[kind] = package.digests["sha256"].lower()
        uploaded.append(days[name])
    found = Release(dist, version, max(uploaded), (), hashes)
    pythons = _verified(found, progress)
    return Release(dist, version, found.date, pythons, hashes, core_of(found))


def core_of(release: Release) -> SpecifierSet:
    """Return the cores that a release allows, by its sdist; a core allows all."""
    if release.distribution is CORE:
        return SpecifierSet()
    head = BytesHeaderParser().parsebytes(sources(release)[f"{release.distribution.root}/PKG-INFO"])
    asked = [Requirement(each) for each in head.get_all("Requires-Dist", [])]
    return next((each.specifier for each in asked if each.name == "apache-airflow"), SpecifierSet())


def _page(dist: Distribution) -> tuple[pypi_simple.ProjectPage, Mapping[str, datetime.date]]:
    """Return a distribution's page, and the day of upload of each file where the index tells it."""
    try:
        with pypi_simple.PyPISimple(endpoint()) as index:
            url = index.get_project_url(dist.name)
            response = index.s.get(url, timeout=60, headers={"Accept": pypi_simple.ACCEPT_ANY})
            response.raise_for_status()
            page = pypi_simple.ProjectPage.from_response(response, dist.name)
        days = {file.filename: file.upload_time.date() for file in page.packages if file.upload_time}
        if "json" not in response.headers.get("Content-Type", ""):  # the library reads the time in JSON alone
            for link in pypi_simple.RepositoryPage.from_html(response.text).links:
                if time := link.get_str_attrib("data-upload-time"):
                    days[link.text] = datetime.date.fromisoformat(time[:10])
    except INDEX_FAULTS as error:
        raise Problem(
            f"The package index cannot be asked for {dist.name}: {first_line(error)}.",
            "Check the network and the index.",
            Exit.UNREACHABLE,
        ) from error
    return page, days


def _verified(release: Release, progress: Progress | None) -> tuple[str, ...]:
    """Return the Pythons that the wheel names; wheel and sdist are whole, of this release, and agree."""
    try:
        files = {to_installed(path): content for path, content in sources(release, progress).items()}
        told = {"sdist": sources(release)[f"{release.distribution.root}/PKG-INFO"]}
        with WheelFile(fetch(release, "wheel", progress)) as wheel:
            held = {name: wheel.read(name) for name in wheel.namelist()}  # each is compared with RECORD
            info = f"{wheel.dist_info_path}/"
            told["wheel"] = held[f"{info}METADATA"]
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, WheelError, EOFError, KeyError) as error:
        raise _corrupt(release, str(error)) from error
    heads = {kind: BytesHeaderParser().parsebytes(text) for kind, text in told.items()}
    for kind, head in heads.items():
        if (head["Name"], head["Version"]) != (release.distribution.name, str(release.version)):
            raise _corrupt(release, f"the {kind} says that it is {head['Name']} {head['Version']}")
    # Both hold the modules of its package and no others; but the provider's first sdist has those above too.
    package = f"{release.distribution.package}/"
    ours = {name for name in held if name.endswith(MODULES) and not name.startswith(info)}
    theirs = {name for name in files if name and name.startswith(package) and name.endswith(MODULES)}
    if differing := sorted(ours ^ theirs):
        name = differing[0]
        here, there = ("wheel", "sdist") if name in ours else ("sdist", "wheel")
        raise _corrupt(release, f"{name} is in the {here}, but no module of {package} in the {there}")
    for name in sorted(ours):
        if files[name] != held[name]:
            raise _corrupt(release, f"{name} is not the same in the wheel and in the sdist")
    classifiers = "\n".join(heads["wheel"].get_all("Classifier", []))
    return tuple(re.findall(r"^Programming Language :: Python :: (3\.\d+)$", classifiers, re.MULTILINE))


def _corrupt(release: Release, what: str) -> Problem:
    return Problem(f"{release} is not whole: {what}.", "Find out who changed it.", Exit.CORRUPT)


def entry(release: Release) -> str:
    """Return the entry of a release in ``releases.toml``."""
    pythons = ", ".join(f'"{python}"' for python in release.pythons)
    return (
        f"[[{release.distribution.name}]]\n"
        f'version = "{release.version}"\n'
        f"date = {release.date}\n"
        f"pythons = [{pythons}]\n"
        f'wheel = "{release.hashes["wheel"]}"\n'
        f'sdist = "{release.hashes["sdist"]}"\n'
        + (f'core = "{release.core}"\n' if release.core else "")
        + (f"constraints = {json.dumps(release.constraints)}\n" if release.constraints else "")
    )


def with_entry(text: str, release: Release) -> str:
    """
    Put the entry of a release into the text of ``releases.toml``, in the order of versions.

    All that is there stays, byte for byte; a comment above an entry stays with it.

    :raises Problem: when the text is laid out so that this would not add just that entry.
    """
    name = release.distribution.name
    heads = list(
        re.finditer(rf'^\[\[{re.escape(name)}\]\]\n(?:(?!\[).*\n)*?version = "([^"]+)"$', text, re.MULTILINE)
    )
    after = next((head.start() for head in heads if Version(head[1]) > release.version), None)
    if after is None and heads:
        following = re.compile(r"^\[", re.MULTILINE).search(text, heads[-1].end())
        after = following.start() if following else None
    if after is None:
        result = f"{text}\n{entry(release)}"
    else:
        above = re.search(r"(?:^#.*\n)+\Z", text[:after], re.MULTILINE)
        at = above.start() if above else after
        result = f"{text[:at]}{entry(release)}\n{text[at:]}"
    try:
        before, now = toml.parse(text), toml.parse(result)
        (new,) = toml.parse(entry(release))[name]
        now[name].remove(new)
        whole = now == before
    except ValueError:
        whole = False
    if not whole:
        raise Problem(
            f"releases.toml is laid out so that the entry of {release} has no place in it.",
            "Restore its layout from the repository: nothing was changed.",
        )
    return result


def write(folder: Path, release: Release) -> None:
    """
    Write the entry of a release to ``releases.toml``, whole or not at all.

    :param folder: the folder of the series, ``patches/``.
    :raises Problem: when it has no place there, or the file cannot be written.
    """
    path = folder / "releases.toml"
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        content = with_entry(path.read_bytes().decode(), release).encode()
        partial.write_bytes(content)
        partial.chmod(path.stat().st_mode)
        partial.replace(path)
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error}.", "Nothing was changed.") from error
    finally:
        partial.unlink(missing_ok=True)
