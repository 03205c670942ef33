"""The branches of Airflow's older release lines, and which patches go to which branch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from airflow_auth_patches.contribute import export, upstream
from airflow_auth_patches.contribute.export import Commit
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import CORE, Pins, Release
from airflow_auth_patches.series import affected, tree
from airflow_auth_patches.series.affected import Results, Status
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.errors import Problem, UsageProblem

MAIN = "main"


@dataclass(frozen=True)
class Line:
    """
    A release line of core, which has a branch upstream.

    :param release: its newest pinned release, which represents the branch.
    :param newest: whether it is main. Its release can be a pre-release.
    :param served: whether upstream releases from the branch: main and the newest older line.
    """

    release: Release
    newest: bool
    served: bool

    @property
    def branch(self) -> str:
        """The branch of its next release: ``main`` or, for example, ``v3-2-test``."""
        version = self.release.version
        return MAIN if self.newest else f"v{version.major}-{version.minor}-test"

    @property
    def label(self) -> str | None:
        """The label that backports a pull request to main to this line, if upstream has one."""
        return f"backport-to-{self.branch}" if self.served and not self.newest else None


def lines(pins: Pins) -> list[Line]:
    """Return main and the older release lines of core, newest first."""
    found: dict[tuple[int, ...], Release] = {}
    for release in sorted((r for r in pins.releases if r.distribution is CORE), key=lambda r: r.version):
        if not release.version.is_prerelease:
            found[release.version.release[:2]] = release
    older = sorted(found.values(), key=lambda release: release.version, reverse=True)
    return [
        Line(upstream.newest(pins, CORE), newest=True, served=True),
        *(Line(release, newest=False, served=release is older[0]) for release in older),
    ]


@dataclass(frozen=True)
class Variant:
    """
    The patches that go to a line.

    :param left: ``{slug: reason}`` of the patches that do not go there. A reason has no full stop.
    """

    line: Line
    patches: tuple[Patch, ...]
    left: Mapping[str, str]


def variants(project: Project, names: Sequence[str]) -> list[Variant]:
    """
    Return which form of some patches goes to which line.

    :return: the lines, newest first.
    :raises Problem: if a patch is for the provider, which has no lines, or no patch goes to an older line.
    """
    project.series.known(names)
    for name in names:
        dist = project.series.forms(name)[0].distribution
        if dist is not CORE:
            raise UsageProblem(
                f"{name} is for {dist.name}: providers are released only from main and have no backports.",
                "Export it for its newest release, without --backports.",
            )
    results = affected.read(project.series.folder)
    made = []
    for line in lines(project.releases):
        picked = project.series.select(line.release, names)
        slugs = {patch.slug for patch in picked}
        left = {name: why_not(project, results, name, line) for name in names if name not in slugs}
        made.append(Variant(line, tuple(picked), left))
    if not any(variant.patches for variant in made if not variant.line.newest):
        told = "; ".join(f"{v.line.branch}: {why}" for v in made for why in v.left.values())
        raise Problem(
            f"There is nothing to backport of {', '.join(names)}: {told}.", "Export it without --backports."
        )
    return made


def why_not(project: Project, results: Results, slug: str, line: Line) -> str:
    """
    Return why a patch does not go to a line.

    The reason comes from the recorded results of the reproducers, or, if there are none, from the files that
    the patch edits.

    :return: the reason, without a full stop.
    """
    release = line.release
    forms = project.series.forms(slug)
    findings = [
        affected.judge(project, results, project.series.bugs[bug], release)
        for bug in dict.fromkeys(bug for patch in forms for bug in patch.cures)
    ]
    if findings and all(finding.status is Status.NOT_AFFECTED for finding in findings):
        return f"{release.version} is not affected, according to the reproducer"
    fixed = [Version(text.rpartition(" ")[2]) for form in forms for text in form.applied_upstream]
    if fixed and min(fixed) <= release.version:
        return f"fixed upstream in {min(fixed)}"
    if findings and all(finding.status in (Status.NOT_AFFECTED, Status.FIXED) for finding in findings):
        return f"it is fixed upstream in {release.version}, according to the reproducer"
    has = (Status.KNOWN_ISSUE, Status.NOT_CURED, Status.UNCLEAR)
    if told := next((finding for finding in findings if finding.status in has), None):
        return f"{release.version}: {told.status.value}" + (f", {told.reason}" if told.reason else "")
    oldest = max(forms, key=lambda patch: len(patch.edits))
    stock = sources(release)
    if missing := [path for path in oldest.edits if path not in stock and path not in oldest.adds]:
        return f"{release.version} is not affected: it has no {missing[0]}"
    versions = [each.version for each in project.served(slug)]
    why = f"its forms are for {min(versions)} to {max(versions)}, not for {release.version}"
    if findings and all(finding.status is Status.NOT_RUN for finding in findings):
        why += f"; to check whether {release.version} has the bug, run `airflow-auth-patches judge {release}`"
    return why


def range_diff(old: tuple[Release, Sequence[Commit]], new: tuple[Release, Sequence[Commit]]) -> str:
    """
    Return the difference between the commits of two lines.

    :param old: a release, and the commits made on it.
    :param new: the other release, and its commits.
    :return: the output of ``git range-diff``; for equal commits, one line each.
    """
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        both = tree.Tree(Path(folder) / "repository", old[0])
        both.folder.mkdir()
        both.git("init", "--quiet", "--initial-branch=main")
        for name, (release, commits) in {"old": old, "new": new}.items():
            files = sources(release)
            both.git("checkout", "--quiet", "--orphan", name)
            both.git("rm", "-r", "--quiet", "--force", "--ignore-unmatch", ".")
            edited = {path for commit in commits for path in commit.patch.edits if path in files}
            tree.write_files(both.folder, {path: files[path] for path in edited})
            both.commit(f"{release} as released\n")
            both.git("tag", f"{name}-released")
            for commit in commits:
                tree.edit(tree.Tree(both.folder, release), commit.patch)
                tree.write_files(both.folder, commit.added)
                # The prefix of a branch in the title is not a difference of the patches.
                both.commit(export.message(commit.patch), commit.patch.date, commit.author)
        spans = ("old-released..old", "new-released..new")
        return both.git("range-diff", "--no-color", "--creation-factor=999", *spans)
