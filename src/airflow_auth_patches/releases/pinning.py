"""Pin a new release: fetch it from the package index, verify it, and add it to ``releases.toml``."""

from __future__ import annotations

import datetime
import json
import re
from email.parser import BytesHeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.releases.fetching import fetch, sources
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
from airflow_auth_patches.util.errors import Exit, Problem, UsageProblem, first_line
from airflow_auth_patches.util.files import write_whole
from airflow_auth_patches.util.progress import Progress

KINDS: tuple[Kind, ...] = ("wheel", "sdist")
#: The suffixes of files that Python imports, or runs when it starts.
MODULES = (".py", ".pyc", ".pyd", ".so", ".pth")


def named(name: str, pins: Pins) -> tuple[Distribution, Version]:
    """
    Parse the name of a new release, such as ``apache-airflow-core==3.3.3``.

    A pre-release must be newer than every pinned release.

    :raises Problem: USAGE if it is not the name of a release, REFUSED if the release is already pinned, is
        out of scope, or is a pre-release and not the newest.
    """
    left, _, right = name.partition("==")
    try:
        version = Version(right.strip())
    except InvalidVersion as error:
        raise UsageProblem(
            f"{name!r} is not a release.", "Write it as apache-airflow-core==3.3.3."
        ) from error
    dist = distribution(left.strip())
    if version.is_devrelease or version.local or version.epoch:
        raise UsageProblem(f"{version} is not a release.", "Name a final release or a pre-release.")
    if pins.find(dist, str(version)):
        raise Problem(
            f"{dist.name} {version} is already pinned.", "See `airflow-auth-patches list --releases`."
        )
    if version < dist.oldest:
        raise Problem(
            f"{dist.name} {version} is out of scope: the series begins with {dist.oldest}.",
            "Name a later release. Nothing was changed.",
        )
    newest = max((each.version for each in pins if each.distribution is dist), default=version)
    if version.is_prerelease and version < newest:
        raise _not_newest(dist, version, f"{newest} is pinned")
    return dist, version


def _not_newest(dist: Distribution, version: Version, why: str) -> Problem:
    return Problem(
        f"{dist.name} {version} is a pre-release, and not the newest: {why}.",
        "Only the newest pre-release can be pinned. Nothing was changed.",
    )


def find(dist: Distribution, version: Version, progress: Progress | None = None) -> Release:
    """
    Fetch the wheel and the sdist of a release from the package index, and verify them.

    :return: the release to pin, with the upload date and the hashes of the index, which the files have.
    :raises Problem: UNREACHABLE if the index has no such file, date or hash, REFUSED if the release was
        yanked or is a pre-release and not the newest, CORRUPT if a file does not match the index or its own
        metadata.
    """
    from airflow_auth_patches.releases import index  # as in `fetch`

    try:
        page, days = index.page(dist)
    except (OSError, ValueError) as error:
        raise Problem(
            f"The package index page of {dist.name} cannot be read: {first_line(error)}.",
            "Check the network and the index.",
            Exit.UNREACHABLE,
        ) from error
    if version.is_prerelease:
        newest = max((Version(found.version) for found in page.packages if found.version), default=version)
        if version < newest:
            raise _not_newest(dist, version, f"the package index has {newest}")
    asked = Release(dist, version, datetime.date.min, (), {})
    hashes: dict[Kind, str] = {}
    uploaded = []
    for kind in KINDS:
        name = asked.filename(kind)
        package = next((found for found in page.packages if found.filename == name), None)
        if package is None:
            raise Problem(
                f"The package index has no {name}.",
                "Check the version, and use an index that is a full mirror of PyPI.",
                Exit.UNREACHABLE,
            )
        if package.is_yanked:
            reason = (package.yanked_reason or "no reason is given").rstrip(".!")
            raise Problem(
                f"{dist.name} {version} was yanked: {reason}.", "Pin another release. Nothing was changed."
            )
        if "sha256" not in package.digests or name not in days:
            lacking = "the SHA-256" if "sha256" not in package.digests else "the upload date"
            raise Problem(
                f"The package index does not give {lacking} of {name}.",
                "Use another index: set UV_DEFAULT_INDEX.",
                Exit.UNREACHABLE,
            )
        hashes[kind] = package.digests["sha256"].lower()
        uploaded.append(days[name])
    found = Release(dist, version, max(uploaded), (), hashes)
    try:
        pythons, core = _verified(found, progress), core_of(found)
    except Problem:
        raise
    except Exception as error:  # the libraries raise many types for broken archives and metadata
        raise _corrupt(found, first_line(error)) from error
    return Release(dist, version, found.date, pythons, hashes, core)


def core_of(release: Release) -> SpecifierSet:
    """Return the versions of core that a release allows, from its sdist; a core allows all."""
    if release.distribution is CORE:
        return SpecifierSet()
    head = BytesHeaderParser().parsebytes(sources(release)[f"{release.distribution.root}/PKG-INFO"])
    asked = [Requirement(each) for each in head.get_all("Requires-Dist", [])]
    return next((each.specifier for each in asked if each.name == "apache-airflow"), SpecifierSet())


def _verified(release: Release, progress: Progress | None) -> tuple[str, ...]:
    """Check that wheel and sdist are consistent, and return the Python versions in the wheel's metadata."""
    files = {to_installed(path): content for path, content in sources(release, progress).items()}
    told = {"sdist": sources(release)[f"{release.distribution.root}/PKG-INFO"]}
    with WheelFile(fetch(release, "wheel", progress)) as wheel:
        content = {name: wheel.read(name) for name in wheel.namelist()}  # the library checks RECORD
        info = f"{wheel.dist_info_path}/"
        told["wheel"] = content[f"{info}METADATA"]
    heads = {kind: BytesHeaderParser().parsebytes(text) for kind, text in told.items()}
    for kind, head in heads.items():
        if (head["Name"], head["Version"]) != (release.distribution.name, str(release.version)):
            raise _corrupt(release, f"the {kind} has the metadata of {head['Name']} {head['Version']}")
    # Both have exactly the modules of the package; the provider's first sdist also has parent packages.
    package = f"{release.distribution.package}/"
    ours = {name for name in content if name.endswith(MODULES) and not name.startswith(info)}
    theirs = {name for name in files if name and name.startswith(package) and name.endswith(MODULES)}
    if differing := sorted(ours ^ theirs):
        name = differing[0]
        here, there = ("wheel", "sdist") if name in ours else ("sdist", "wheel")
        raise _corrupt(release, f"{name} is in the {here}, but not below {package} in the {there}")
    for name in sorted(ours):
        if files[name] != content[name]:
            raise _corrupt(release, f"{name} differs between the wheel and the sdist")
    classifiers = "\n".join(heads["wheel"].get_all("Classifier", []))
    return tuple(re.findall(r"^Programming Language :: Python :: (3\.\d+)$", classifiers, re.MULTILINE))


def _corrupt(release: Release, what: str) -> Problem:
    return Problem(f"{release} is corrupt: {what}.", "Do not pin it. Find out who changed it.", Exit.CORRUPT)


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
    Insert the entry of a release into the text of ``releases.toml``, in the order of versions.

    The other text does not change. A comment above an entry stays with that entry.

    :raises Problem: if the text has another layout, so that the result would not be the old data plus the
        entry.
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
            f"The entry of {release} cannot be added to releases.toml: its layout is unknown.",
            "Restore the layout from the repository. Nothing was changed.",
        )
    return result


def replaced(text: str, old: Release, new: Release) -> str:
    """
    Replace a pinned pre-release by a later release in the text of ``releases.toml``, in its pairs too.

    A pair that has the new release is resolved as on the day after the upload, or later.

    :raises Problem: if the text has another layout.
    """
    key = "core" if new.distribution is CORE else "fab"
    day = new.date + datetime.timedelta(days=1)

    def pair(found: re.Match[str]) -> str:
        named = re.sub(
            rf'^{key} = "{re.escape(str(old.version))}"$', f'{key} = "{new.version}"', found[0], flags=re.M
        )
        if named == found[0]:
            return named
        return re.sub(
            r"^exclude-newer = (.+)$",
            lambda was: f"exclude-newer = {max(was[1], str(day))}",
            named,
            flags=re.M,
        )

    if entry(old) not in text:
        raise Problem(
            f"The entry of {old} in releases.toml cannot be replaced: its layout is unknown.",
            "Restore the layout from the repository. Nothing was changed.",
        )
    text = re.sub(r"^\[\[pair\]\]\n(?:(?!\[).*\n)+", pair, text, flags=re.M)
    return with_entry(text.replace(f"{entry(old)}\n", "").replace(f"\n{entry(old)}", ""), new)


def write(folder: Path, release: Release, replaces: Release | None = None) -> None:
    """
    Add the entry of a release to ``releases.toml``, atomically.

    :param replaces: the pinned pre-release that the release replaces.
    :raises Problem: if the layout of the file is unknown, or the file cannot be written.
    """
    path = folder / "releases.toml"
    text = path.read_bytes().decode()
    write_whole(path, replaced(text, replaces, release) if replaces else with_entry(text, release))
