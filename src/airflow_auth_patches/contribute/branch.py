"""A branch of an Airflow checkout: what it changed, against what, and which patches are in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.releases.releases import (
    CORE,
    DISTRIBUTIONS,
    FAB,
    Distribution,
    Pins,
    Release,
    to_installed,
)
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util import git
from airflow_auth_patches.util.errors import Exit, Problem

#: Upstream's own branches, here or on a remote, which others come from.
TRUNK = re.compile(r"refs/(?:heads|remotes/[^/]+)/(?:main|v\d+-\d+-(?:test|stable))")
VERSION = re.compile(r"^__version__ = \"([^\"]+)\"", re.MULTILINE)


@dataclass(frozen=True)
class Branch:
    """
    A branch, and what it changed.

    :param checkout: the top folder of the checkout.
    :param name: its name; ``HEAD`` where none is checked out.
    :param base: what it was compared with.
    :param changed: the paths of the files that it changed or added, in the monorepo.
    """

    checkout: Path
    name: str
    base: str
    changed: tuple[str, ...]

    @property
    def core(self) -> bool:
        """Whether it changed core or what is shared with it."""
        return any(path.startswith((f"{CORE.root}/", "shared/")) for path in self.changed)

    @property
    def provider(self) -> bool:
        """Whether it changed the FAB provider."""
        return any(path.startswith(f"{FAB.root}/") for path in self.changed)


def top(checkout: Path) -> Path:
    """
    Return the top folder of an Airflow checkout.

    :param checkout: a folder of it.
    :raises Problem: when it is in no git checkout, or in that of something else.
    """
    if not checkout.is_dir():
        raise Problem(f"{checkout} is no folder.", "Name your checkout of Airflow.", Exit.USAGE)
    told = git.attempt(checkout, "rev-parse", "--show-toplevel")
    folder = Path(told.stdout.strip())
    if told.returncode or not all((folder / dist.root).is_dir() for dist in DISTRIBUTIONS):
        raise Problem(
            f"{checkout} is no checkout of Airflow: {' and '.join(dist.root for dist in DISTRIBUTIONS)} "
            "are not there.",
            "Name one: git clone https://github.com/apache/airflow",
            Exit.USAGE,
        )
    return folder


def look(checkout: Path, name: str | None = None, base: str | None = None) -> Branch:
    """
    Find out what a branch changed since it left what it comes from.

    :param name: the branch; the one that is checked out when not given.
    :param base: what it comes from; when not given, the nearest of upstream's branches and of the tags.
    :raises Problem: when there is no such branch or base, or none is found.
    """
    folder = top(checkout)
    name = name or current(folder)
    for wanted in filter(None, (name, base)):
        _commit(folder, wanted)
    base = base or _nearest(folder, name)
    changed = git.run(folder, "diff", "--name-only", "--diff-filter=d", f"{base}...{name}", "--")
    return Branch(folder, name, base, tuple(changed.splitlines()))


def current(folder: Path) -> str:
    """Return the branch that is checked out; ``HEAD`` where none is."""
    return git.run(folder, "rev-parse", "--abbrev-ref", "HEAD").strip()


def _commit(folder: Path, name: str) -> None:
    asked = git.attempt(folder, "rev-parse", "--quiet", "--verify", f"{name}^{{commit}}")
    if asked.returncode:
        raise Problem(f"{folder} has no branch, tag or commit {name!r}.", "See `git branch -a`.", Exit.USAGE)


def _nearest(folder: Path, name: str) -> str:
    """Return the ref that a branch has the fewest commits on top of."""
    refs = git.run(folder, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes")
    found = [ref for ref in refs.splitlines() if TRUNK.fullmatch(ref) and ref != f"refs/heads/{name}"]
    tag = git.attempt(folder, "describe", "--tags", "--abbrev=0", name)
    if not tag.returncode:
        found.append(f"refs/tags/{tag.stdout.strip()}")
    if not found:
        raise Problem(
            f"{folder} has neither a tag nor a branch of upstream that {name} could come from.",
            "Name what it comes from: --base REF.",
            Exit.USAGE,
        )
    return min(found, key=lambda ref: int(git.run(folder, "rev-list", "--count", f"{ref}..{name}")))


def blobs(branch: Branch) -> dict[str, str]:
    """
    Return what a branch makes of the files that are installed.

    :return: ``{path below site-packages: id of the content, as git names it}``.
    """
    here = {path: installed for path in branch.changed if (installed := to_installed(path))}
    names = "".join(f"{branch.name}:{path}\n" for path in here)
    ids = git.run(branch.checkout, "cat-file", "--batch-check=%(objectname)", stdin=names)
    return dict(zip(here.values(), ids.splitlines(), strict=True))


def patches_in(branch: Branch, series: Series) -> list[str]:
    """Return the slugs of the patches whose subjects its commits have."""
    log = git.run(branch.checkout, "log", "--format=%s", f"{branch.base}..{branch.name}", "--")
    return list(dict.fromkeys(patch.slug for patch in series.patches if patch.subject in log))


def release_for(checkout: Path, series: Series, pins: Pins, names: list[str] | None) -> Release:
    """
    Choose the release whose form of the patches fits a checkout best.

    :param names: the patches, which are all of one distribution; core's when not given.
    :return: the newest pinned release that is not newer than what is checked out.
    :raises Problem: when the patches are of both distributions, or the checkout is older than every release.
    """
    series.known(names or ())
    wanted = {patch.distribution for patch in series.patches if patch.slug in (names or ())}
    if len(wanted) > 1:
        raise Problem(
            "Core and provider never share a pull request, nor a branch here.",
            "Name the patches of one, then those of the other.",
            Exit.USAGE,
        )
    dist = wanted.pop() if wanted else CORE
    version = _version(checkout, dist)
    known = [release for release in pins.releases if release.distribution is dist]
    if fitting := [release for release in known if version is None or release.version <= version]:
        return max(fitting, key=lambda release: release.version)
    raise Problem(
        f"{checkout} has {dist.name} {version}, which is older than the series.",
        f"Check out {dist.oldest} or later, or name a release: --release {dist.name}==X.Y.Z.",
        Exit.USAGE,
    )


def _version(checkout: Path, dist: Distribution) -> Version | None:
    file = checkout / dist.root / "src" / dist.package / "__init__.py"
    try:
        told = VERSION.search(file.read_text(encoding="utf-8"))
        return Version(Version(told[1]).base_version) if told else None
    except (OSError, InvalidVersion):
        return None
