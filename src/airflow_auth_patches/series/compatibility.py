"""Add a release to the pinned releases, and report whether each patch applies to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from packaging.version import Version

from airflow_auth_patches.releases import pinning
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.deriving import merge_onto
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import Patch
from airflow_auth_patches.util.progress import SILENT, Progress


class Compatibility(str, Enum):
    """Whether a patch applies to a release. Only the reproducer shows whether the release has the bug."""

    APPLIES = "applies"
    VARIANT = "applies as a variant"
    MERGES = "merges as a new variant"
    NEEDS_VARIANT = "needs a variant"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Misfit:
    """
    A rejected hunk.

    :param patch: the name of the patch.
    :param line: the line of the hunk in the patch file, from 1.
    :param what: why the hunk is rejected.
    """

    path: str
    patch: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.patch}.patch:{self.line}, {self.path}: {self.what}"


@dataclass(frozen=True)
class Fit:
    """
    The compatibility of a patch with a release.

    :param form: the name of the patch or variant that applies, merges, or has the fewest rejected hunks. If
        the patch is not needed, the form in range, if there is one.
    :param in_range: whether the ``Applies-To`` of that form contains the release.
    :param why: why the patch is not needed; empty otherwise.
    :param misfits: the rejected hunks of that form, the first of each file.
    """

    slug: str
    form: str
    compatibility: Compatibility
    in_range: bool
    why: str = ""
    misfits: tuple[Misfit, ...] = ()

    @property
    def notes(self) -> str:
        """What the author of the series must know or do."""
        if self.compatibility is Compatibility.NOT_NEEDED:
            return f"{self.why}; narrow Applies-To" if self.in_range else self.why
        if self.compatibility is Compatibility.NEEDS_VARIANT:
            return "\n".join(map(str, self.misfits))
        if self.compatibility is Compatibility.MERGES:
            return "`tree` merges it" if self.in_range else "copy the form, then `tree` merges it"
        return "in range" if self.in_range else "widen Applies-To"


def add_release(
    project: Project, name: str, *, dry_run: bool = False, progress: Progress = SILENT
) -> tuple[Release, list[Fit]]:
    """
    Fetch and verify a release, check whether each patch applies to it, and add it to ``releases.toml``.

    A release that is newer than the pinned pre-release replaces it.

    :param name: the release, as in ``apache-airflow-core==3.3.3``.
    :param dry_run: do not write ``releases.toml``.
    :return: the release, and its compatibility with each patch of its distribution.
    :raises Problem: if it is pinned already, is out of scope, is a pre-release and not the newest, cannot be
        fetched or is corrupt. Nothing is written then.
    """
    release = pinning.find(*pinning.named(name, project.releases), progress)
    fits = judge(project, release, sources(release))
    if not dry_run:
        old = project.releases.prerelease(release.distribution)
        replaces = old if old and old.version < release.version else None
        pinning.write(project.series.folder, release, replaces)
    return release, fits


def judge(project: Project, release: Release, files: Mapping[str, bytes]) -> list[Fit]:
    """
    Check whether each patch applies to a release, on top of the earlier patches that apply.

    A patch is not needed if upstream has the fix, by ``Applied-Upstream`` or because the release has the
    patched text, or if no form applies and no form is for the neighbouring release. A patch that does not
    apply is merged three-way; `import_patches` does the same.

    :param files: ``{monorepo path: content}``, the sources of the release.
    :return: the compatibility of each slug, in series order.
    """
    now = dict(files)
    neighbour = _neighbour(project.releases, release)
    mine = [patch for patch in project.series.patches if patch.distribution is release.distribution]
    fits = []
    for slug in dict.fromkeys(patch.slug for patch in mine):
        forms = sorted(
            (patch for patch in mine if patch.slug == slug),
            key=lambda patch: (patch.serves(release), patch.variant is None, Version(patch.variant or "0")),
            reverse=True,
        )
        in_range = forms[0].serves(release)
        tried = [(_misfits(patch, now), patch) for patch in forms]
        why = "" if in_range and not tried[0][0] else _not_needed(forms, release, now)
        misfits, patch = min(tried, key=lambda one: len(one[0]))  # fewest rejected hunks
        if misfits and not in_range and not any(patch.serves(neighbour) for patch in forms):
            why = why or f"does not apply, and no form is for {neighbour.version} either"
        if why:
            judged, misfits = Compatibility.NOT_NEEDED, ()
            patch = forms[0] if in_range else patch  # the form whose range must be narrowed
        elif misfits and (found := merge_onto(project, slug, release, now)):
            judged, misfits = Compatibility.MERGES, ()
            patch, merged = found
            now.update(merged)
        elif misfits:
            judged = Compatibility.NEEDS_VARIANT
        else:
            judged = Compatibility.VARIANT if patch.variant else Compatibility.APPLIES
            now.update(hunks.apply_all(now, patch.edits))
        fits.append(Fit(slug, patch.name, judged, patch.serves(release), why, misfits))
    return fits


def _neighbour(pins: Pins, release: Release) -> Release:
    """Return the pinned release before a release, else the one after it."""
    same = (each for each in pins if each.distribution is release.distribution)
    others = sorted((each for each in same if each.version != release.version), key=lambda r: r.version)
    before = [each for each in others if each.version < release.version]
    return before[-1] if before else others[0]


def _misfits(patch: Patch, files: Mapping[str, bytes]) -> tuple[Misfit, ...]:
    found = []
    for path, edits in patch.edits.items():
        try:
            hunks.apply_all(files, {path: edits})
        except hunks.HunkFault as fault:
            found.append(Misfit(path, patch.name, fault.line, fault.what))
    return tuple(found)


def _not_needed(forms: Sequence[Patch], release: Release, files: Mapping[str, bytes]) -> str:
    """Return why upstream has the fix, as far as trailers and text show; empty if they do not show it."""
    for patch in forms:
        for fixed in patch.applied_upstream:
            name, _, version = fixed.rpartition(" ")
            if name == release.distribution.name and Version(version) <= release.version:
                return f"fixed in {version}"
    for patch in forms:
        try:
            hunks.apply_all(files, hunks.reversed_edits(patch.edits))
        except hunks.HunkFault:
            continue
        return f"the release has the edits of {patch.name}"
    return ""
