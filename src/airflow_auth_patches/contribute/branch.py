"""Inspect a branch of an Airflow checkout: its base, its changed files, and its patches."""

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
    Release,
    to_installed,
)
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Series
from airflow_auth_patches.util import git
from airflow_auth_patches.util.errors import UsageProblem

#: Upstream's branches, local or remote, from which other branches start.
TRUNK = re.compile(r"refs/(?:heads|remotes/[^/]+)/(?:main|v\d+-\d+-(?:test|stable))")
VERSION = re.compile(r"^__version__ = \"([^\"]+)\"", re.MULTILINE)


@dataclass(frozen=True)
class Branch:
    """
    A branch and its changes.

    :param checkout: the top folder of the checkout.
    :param name: its name; ``HEAD`` if no branch is checked out.
    :param changed: the monorepo paths of the files that it changed or added.
    """

    checkout: Path
    name: str
    base: str
    changed: tuple[str, ...]

    @property
    def core(self) -> bool:
        """Whether it changed core or the shared libraries."""
        return any(path.startswith((f"{CORE.root}/", "shared/")) for path in self.changed)

    @property
    def provider(self) -> bool:
        """Whether it changed the FAB provider."""
        return any(path.startswith(f"{FAB.root}/") for path in self.changed)


def top(checkout: Path) -> Path:
    """
    Return the top folder of an Airflow checkout.

    :param checkout: a folder in the checkout.
    :raises Problem: if the folder is not in a git checkout of Airflow.
    """
    if not checkout.is_dir():
        raise UsageProblem(f"{checkout} is not a folder.", "Name your checkout of Airflow.")
    told = git.attempt(checkout, "rev-parse", "--show-toplevel")
    folder = Path(told.stdout.strip())
    if told.returncode or not all((folder / dist.root).is_dir() for dist in DISTRIBUTIONS):
        raise UsageProblem(
            f"{checkout} is not a checkout of Airflow: {' and '.join(dist.root for dist in DISTRIBUTIONS)} "
            "are missing.",
            "Name a checkout, or create one: git clone https://github.com/apache/airflow",
        )
    return folder


def look(checkout: Path, name: str | None = None, base: str | None = None) -> Branch:
    """
    Return the changes of a branch since its base.

    :param checkout: a folder in the checkout.
    :param name: the branch; by default the one that is checked out.
    :param base: the ref from which it starts; by default the nearest of upstream's branches and tags.
    :raises Problem: if there is no such branch or base, or no base is found.
    """
    folder = top(checkout)
    name = name or current(folder)
    for ref in filter(None, (name, base)):
        if git.attempt(folder, "rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}").returncode:
            raise UsageProblem(f"{folder} has no branch, tag or commit {ref!r}.", "See `git branch -a`.")
    base = base or _nearest(folder, name)
    changed = git.run(folder, "diff", "--name-only", "--diff-filter=d", f"{base}...{name}", "--")
    return Branch(folder, name, base, tuple(changed.splitlines()))


def current(folder: Path) -> str:
    """Return the branch that is checked out, or ``HEAD`` if there is none."""
    return git.run(folder, "rev-parse", "--abbrev-ref", "HEAD").strip()


def _nearest(folder: Path, name: str) -> str:
    """Return the ref to which a branch adds the fewest commits."""
    refs = git.run(folder, "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes")
    found = [ref for ref in refs.splitlines() if TRUNK.fullmatch(ref) and ref != f"refs/heads/{name}"]
    tag = git.attempt(folder, "describe", "--tags", "--abbrev=0", name)
    if not tag.returncode:
        found.append(f"refs/tags/{tag.stdout.strip()}")
    if not found:
        raise UsageProblem(
            f"{folder} has no tag or upstream branch from which {name} could start.",
            "Name the base: --base REF.",
        )
    return min(found, key=lambda ref: int(git.run(folder, "rev-list", "--count", f"{ref}..{name}")))


def blobs(branch: Branch) -> dict[str, str]:
    """
    Return the content of the installed files that a branch changed.

    :return: ``{path below site-packages: git object id of the content}``.
    """
    here = {path: installed for path in branch.changed if (installed := to_installed(path))}
    names = "".join(f"{branch.name}:{path}\n" for path in here)
    ids = git.run(branch.checkout, "cat-file", "--batch-check=%(objectname)", stdin=names)
    return dict(zip(here.values(), ids.splitlines(), strict=True))


def patches_in(branch: Branch, series: Series) -> list[str]:
    """Return the slugs of the patches whose subject is that of a commit of the branch."""
    log = git.run(branch.checkout, "log", "--format=%s", f"{branch.base}..{branch.name}", "--")
    return list(dict.fromkeys(patch.slug for patch in series.patches if patch.subject in log))


def release_for(checkout: Path, project: Project, names: list[str] | None) -> Release:
    """
    Return the release whose forms of the patches fit a checkout best.

    :param names: the patches, all of one distribution; by default those of core.
    :return: the newest pinned release that is not newer than the checkout.
    :raises Problem: if the patches are for both distributions, or the checkout is older than every release.
    """
    project.series.known(names or ())
    wanted = {patch.distribution for patch in project.series.patches if patch.slug in (names or ())}
    if len(wanted) > 1:
        raise UsageProblem(
            "The patches are for core and for the provider, which need separate branches and pull requests.",
            "Name only patches of core or only patches of the provider.",
        )
    dist = wanted.pop() if wanted else CORE
    version = _version(checkout, dist)
    known = [release for release in project.releases if release.distribution is dist]
    if fitting := [release for release in known if version is None or release.version <= version]:
        return max(fitting, key=lambda release: release.version)
    raise UsageProblem(
        f"{checkout} has {dist.name} {version}, which is older than the oldest release of the series.",
        f"Check out {dist.oldest} or later, or name a release: --release {dist.name}==X.Y.Z.",
    )


def _version(checkout: Path, dist: Distribution) -> Version | None:
    file = checkout / dist.root / "src" / dist.package / "__init__.py"
    try:
        told = VERSION.search(file.read_text(encoding="utf-8"))
        return Version(Version(told[1]).base_version) if told else None
    except (OSError, InvalidVersion):
        return None
