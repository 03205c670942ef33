"""Report whether each patch applies to a newly added release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from packaging.version import Version

from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.series import Patch, Series


class Compatibility(str, Enum):
    """Whether the text of a patch applies; whether a release has the bug, its reproducer decides."""

    APPLIES = "applies"
    VARIANT = "applies as a variant"
    NEEDS_VARIANT = "needs a variant"
    NOT_NEEDED = "not needed"


@dataclass(frozen=True)
class Misfit:
    """
    A rejected hunk.

    :param path: the file that it edits.
    :param patch: the name of the patch.
    :param line: the line of the patch file of the hunk, from 1.
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

    :param form: the name of the patch or variant that applies, or comes nearest; of what is not needed, the
        one in range if there is one.
    :param in_range: whether the ``Applies-To`` of that form has the release already.
    :param why: why it is not needed; empty otherwise.
    :param misfits: the rejected hunks of the nearest form, the first of each file.
    """

    slug: str
    form: str
    compatibility: Compatibility
    in_range: bool
    why: str = ""
    misfits: tuple[Misfit, ...] = ()


def judge(series: Series, pins: Pins, release: Release, files: Mapping[str, bytes]) -> list[Fit]:
    """
    Judge every patch of a release's distribution, each on top of those before it that apply.

    Not needed is what upstream has, by ``Fixed-In`` or by the text; and what has no place, where no form of
    it is for the release before either.

    :param files: the sources of the release, at their paths in the monorepo.
    :return: one for each slug, in series order.
    """
    now = dict(files)
    beside = _beside(pins, release)
    mine = [patch for patch in series.patches if patch.distribution is release.distribution]
    fits = []
    for slug in dict.fromkeys(patch.slug for patch in mine):
        forms = sorted(
            (patch for patch in mine if patch.slug == slug),
            key=lambda patch: (
                patch.serves(release),
                patch.variant is None,
                Version(patch.variant or "0"),
            ),
            reverse=True,
        )
        in_range = forms[0].serves(release)
        tried = [(_misfits(patch, now), patch) for patch in forms]
        why = "" if in_range and not tried[0][0] else _not_needed(forms, release, now)
        misfits, patch = min(tried, key=lambda one: len(one[0]))  # the first of those with the fewest
        if misfits and not in_range and not any(patch.serves(beside) for patch in forms):
            why = why or f"has no place, and {beside.version} is in no range of it either"
        if why:
            judged, misfits = Compatibility.NOT_NEEDED, ()
            patch = forms[0] if in_range else patch  # its range is to be narrowed
        elif misfits:
            judged = Compatibility.NEEDS_VARIANT
        else:
            judged = Compatibility.VARIANT if patch.variant else Compatibility.APPLIES
            now.update(hunks.apply_all(now, patch.edits))
        fits.append(Fit(slug, patch.name, judged, patch.serves(release), why, misfits))
    return fits


def _beside(pins: Pins, release: Release) -> Release:
    """Return the pinned release before that one, else the one after it."""
    others = [
        each
        for each in pins.releases
        if each.distribution is release.distribution and each.version != release.version
    ]
    before = [each for each in others if each.version < release.version]
    return (
        max(before, key=lambda each: each.version) if before else min(others, key=lambda each: each.version)
    )


def _misfits(patch: Patch, files: Mapping[str, bytes]) -> tuple[Misfit, ...]:
    found = []
    for path, edits in patch.edits.items():
        try:
            hunks.apply_all(files, {path: edits})
        except hunks.HunkFault as fault:
            found.append(Misfit(path, patch.name, fault.line, fault.what))
    return tuple(found)


def _not_needed(forms: Sequence[Patch], release: Release, files: Mapping[str, bytes]) -> str:
    """Say why text has it that no form is needed, or nothing."""
    for patch in forms:
        for fixed in patch.trailers.get("Fixed-In", ()):
            name, _, version = fixed.rpartition(" ")
            if name == release.distribution.name and Version(version) <= release.version:
                return f"fixed in {version}"
    for patch in forms:
        back = {path: [hunk.reversed() for hunk in edits] for path, edits in patch.edits.items()}
        try:
            hunks.apply_all(files, back)
        except hunks.HunkFault:
            continue
        return f"what {patch.name} edits is so already"
    return ""
