"""The pinned releases and pairs, and the paths of their files in the monorepo and in an installation."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from airflow_auth_patches.util import toml
from airflow_auth_patches.util.errors import Problem, UsageProblem

Kind = Literal["wheel", "sdist"]


@dataclass(frozen=True)
class Distribution:
    """
    A distribution that the series patches.

    :param name: its name in the package index.
    :param folder: its folder under ``patches/``.
    :param root: the folder of its sources in Airflow's monorepo.
    :param package: the path of its package below ``src/`` in the monorepo, and below site-packages.
    :param oldest: the oldest release in scope.
    """

    name: str
    folder: str
    root: str
    package: str
    oldest: Version

    @property
    def stem(self) -> str:
        """The name in the file names of wheels and sdists."""
        return self.name.replace("-", "_")

    def installs(self, path: str) -> bool:
        """Check whether it installs a file of the monorepo. Core also installs the shared libraries."""
        own = path.startswith(f"{self.root}/") or (self is CORE and path.startswith("shared/"))
        return own and to_installed(path) is not None


CORE = Distribution("apache-airflow-core", "airflow-core", "airflow-core", "airflow", Version("3.1.0"))
FAB = Distribution(
    "apache-airflow-providers-fab",
    "providers-fab",
    "providers/fab",
    "airflow/providers/fab",
    Version("3.3.0"),
)
DISTRIBUTIONS = (CORE, FAB)
#: The releases in scope that upstream yanked, each with the release to use instead. They are not pinned.
YANKED = {"apache-airflow-core==3.1.4": "3.1.5"}


def yanked(dist: Distribution, version: str) -> Problem | None:
    """Return the error for a release that upstream yanked, or ``None`` if it was not yanked."""
    instead = YANKED.get(f"{dist.name}=={version.partition('+')[0]}")
    if instead is None:
        return None
    return Problem(
        f"{dist.name} {version} was yanked upstream, and no patch is for it.",
        f"Upgrade it to {instead} or later.",
    )


def distribution(name: str) -> Distribution:
    """
    Return a distribution.

    :param name: its name, or its folder under ``patches/``.
    :raises Problem: if the series has no such distribution.
    """
    for known in DISTRIBUTIONS:
        if name in (known.name, known.folder):
            return known
    names = " or ".join(known.name for known in DISTRIBUTIONS)
    raise UsageProblem(f"{name!r} is not a distribution of this series.", f"Name {names}.")


@dataclass(frozen=True)
class Release:
    """
    One pinned release of a distribution.

    :param date: the upload date.
    :param pythons: the Python versions in the metadata of its wheel, such as ``3.11``.
    :param hashes: the SHA-256 of its wheel and of its sdist, in hexadecimal.
    :param core: for a provider, the versions of core that it allows.
    :param constraints: requirements that it needs and does not declare.
    """

    distribution: Distribution
    version: Version
    date: datetime.date
    pythons: tuple[str, ...]
    hashes: Mapping[Kind, str] = field(hash=False)
    core: SpecifierSet = field(default_factory=SpecifierSet)
    constraints: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.distribution.name}=={self.version}"

    @property
    def final(self) -> bool:
        """Whether it is not a pre-release. A pinned pre-release stands for upstream's main branch."""
        return not self.version.is_prerelease

    def filename(self, kind: Kind) -> str:
        """Return the file name of the wheel or the sdist."""
        end = "-py3-none-any.whl" if kind == "wheel" else ".tar.gz"
        return f"{self.distribution.stem}-{self.version}{end}"


@dataclass(frozen=True)
class Pair:
    """
    A core and a provider that are tested together.

    :param exclude_newer: the date as of which their dependencies are resolved.
    :param default: whether `prove` uses the pair if none is named.
    :param base: the slug of a patch without which the pair does not work. Stock environments also have it.
    """

    core: Release
    fab: Release
    exclude_newer: datetime.date
    why: str
    default: bool = False
    base: str | None = None

    @property
    def name(self) -> str:
        """The two versions, as in ``3.1.6+3.3.0``."""
        return f"{self.core.version}+{self.fab.version}"

    @property
    def pythons(self) -> tuple[str, ...]:
        """The Python versions that both releases support."""
        return tuple(version for version in self.core.pythons if version in self.fab.pythons)


@dataclass(frozen=True)
class Pins:
    """
    The content of ``patches/releases.toml``.

    :param label: the local version label of patched wheels.
    """

    label: str
    releases: tuple[Release, ...]
    pairs: tuple[Pair, ...]

    def __iter__(self) -> Iterator[Release]:
        """Iterate over the releases."""
        return iter(self.releases)

    def release(self, name: str) -> Release:
        """
        Return a pinned release.

        :param name: the release, as in ``apache-airflow-core==3.3.2``.
        :raises Problem: if the name is not valid, or the release is not pinned.
        """
        dist, _, version = name.partition("==")
        if not version:
            raise UsageProblem(f"{name!r} is not a release.", "Write it as apache-airflow-core==3.3.2.")
        named, version = distribution(dist.strip()), version.strip()
        if found := self.find(named, version):
            return found
        raise yanked(named, version) or UsageProblem(
            f"{dist} {version} is not pinned.", "See `airflow-auth-patches list --releases`."
        )

    @property
    def default_pairs(self) -> tuple[Pair, ...]:
        """The pairs that are used if none is named."""
        return tuple(pair for pair in self.pairs if pair.default)

    @property
    def newest_pair(self) -> Pair:
        """The pair of the newest final core with the newest provider that is paired with it."""
        final = (pair for pair in self.pairs if pair.core.final and pair.fab.final)
        return max(final, key=lambda pair: (pair.core.version, pair.fab.version))

    @property
    def minor_pairs(self) -> tuple[Pair, ...]:
        """The first pair of each minor version of the provider."""
        first = {pair.fab.version.release[:2]: pair for pair in reversed(self.pairs)}
        return tuple(first[minor] for minor in sorted(first))

    def prerelease(self, dist: Distribution) -> Release | None:
        """Return the pinned pre-release of a distribution, or ``None``."""
        return next((each for each in self if each.distribution is dist and not each.final), None)

    def find(self, dist: Distribution, version: str) -> Release | None:
        """Return the pinned release of a distribution with that public version, or ``None``."""
        try:
            public = Version(version).public
        except InvalidVersion:
            return None
        found = (each for each in self if (each.distribution, each.version.public) == (dist, public))
        return next(found, None)

    def pair(self, name: str) -> Pair:
        """
        Return a tested pair.

        :param name: the two versions, as in ``3.1.6+3.3.0``.
        :raises Problem: if there is no such pair.
        """
        named = {pair.name: pair for pair in self.pairs}
        if name not in named:
            raise UsageProblem(f"{name!r} is not a tested pair.", f"Name one of: {', '.join(named)}.")
        return named[name]


def load(folder: Path) -> Pins:
    """
    Read ``releases.toml``.

    :raises Problem: if the file is missing or broken.
    """
    path = folder / "releases.toml"
    with toml.opened(path) as raw:
        releases = tuple(_release(dist, entry) for dist in DISTRIBUTIONS for entry in raw[dist.name])
        _once("release", map(str, releases))
        pins = Pins(raw["label"], releases, ())
        pairs = tuple(_pair(pins, entry) for entry in raw["pair"])
        _once("pair", (pair.name for pair in pairs))
    return Pins(pins.label, releases, pairs)


def _release(dist: Distribution, entry: Mapping[str, Any]) -> Release:
    release = Release(
        distribution=dist,
        version=Version(entry["version"]),
        date=_day(entry, "date"),
        pythons=tuple(entry["pythons"]),
        hashes={"wheel": entry["wheel"], "sdist": entry["sdist"]},
        core=SpecifierSet(entry.get("core", "")),
        constraints=tuple(entry.get("constraints", ())),
    )
    for kind, digest in release.hashes.items():
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise ValueError(f"{digest!r}, of the {kind} of {release}, is not a SHA-256")
    return release


def _pair(pins: Pins, entry: Mapping[str, Any]) -> Pair:
    core, fab = pins.find(CORE, entry["core"]), pins.find(FAB, entry["fab"])
    if core is None or fab is None:
        raise ValueError(f"the pair {entry['core']}+{entry['fab']} has a release that is not pinned")
    day, default = _day(entry, "exclude-newer"), entry.get("default", False)
    return Pair(core, fab, day, entry["why"], default, entry.get("base"))


def _day(entry: Mapping[str, Any], key: str) -> datetime.date:
    day: datetime.date = entry[key]
    if type(day) is not datetime.date:  # a date with a time is an instance of a subclass
        raise ValueError(f"{key} = {day} is not a date: write it as 2026-11-20, without quotes")
    return day


def _once(what: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"there are two entries of the {what} {name}")


def to_installed(path: str) -> str | None:
    """
    Return the path below site-packages of a path in the monorepo.

    :return: the path; ``None`` for a file that is not installed, such as ``pyproject.toml``.
    """
    parts = path.split("/")
    if parts[:2] == ["airflow-core", "src"]:
        return "/".join(parts[2:])
    if parts[:3] == ["providers", "fab", "src"]:
        return "/".join(parts[3:])
    if len(parts) > 5 and parts[0] == "shared" and parts[2:4] == ["src", "airflow_shared"]:
        return "/".join(["airflow", "_shared", *parts[4:]])
    return None


def to_monorepo(dist: Distribution, member: str) -> str:
    """
    Return the path in the monorepo of a path in a distribution's sdist.

    The sdist of core contains the shared libraries below ``src/airflow/_shared``, where the monorepo has
    symbolic links.
    """
    shared = "src/airflow/_shared/"
    if dist is CORE and member.startswith(shared) and member.count("/") > shared.count("/"):
        rest = member.removeprefix(shared)
        return f"shared/{rest.split('/')[0]}/src/airflow_shared/{rest}"
    return f"{dist.root}/{member}"
