"""Patch an installed Airflow, and put it back."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from airflow_auth_patches.installation import installed, transaction, wheels
from airflow_auth_patches.installation.installed import Installation, Installed
from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series.hunks import NOWHERE, HunkFault
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Step:
    """
    What `apply` would do to one distribution.

    :param patched: the release with the chosen patches.
    :param done: whether exactly that is installed already.
    """

    installed: Installed
    patched: wheels.Patched
    done: bool

    @property
    def removed(self) -> list[str]:
        """The slugs of patches that are in it now and will not be."""
        chosen = {patch.slug for patch in self.patched.patches}
        return [slug for slug in self.installed.slugs if slug not in chosen]

    def diff(self) -> str:
        """Return the unified diff from the installed files to the patched ones."""
        text: list[str] = []
        for path in sorted({*self.patched.after, *(self.installed.manifest or {}).get("files", {})}):
            file = self.installed.site / path
            now = file.read_bytes() if file.exists() else None
            then = self.patched.after.get(path)
            if then is None:  # patched now, pristine afterwards
                then = wheels.pristine(self.patched.release, path)
            text += difflib.unified_diff(
                (now or b"").decode().splitlines(keepends=True),
                (then or b"").decode().splitlines(keepends=True),
                NOWHERE if now is None else path,
                NOWHERE if then is None else path,
            )
        return "".join(text)


@dataclass(frozen=True)
class Plan:
    """What `apply` would do; `steps` holds only the distributions that a chosen patch serves."""

    installation: Installation
    steps: tuple[Step, ...]

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps that are not done yet."""
        return tuple(step for step in self.steps if not step.done)


def _whole(found: Installed, progress: Progress | None) -> None:
    if wrong := installed.changed_files(found, progress):
        raise Problem(
            f"{found.distribution.name} {found.version} is not what its wheel says: {installed.some(wrong)}.",
            f"Reinstall it first: pip install --force-reinstall --no-deps {installed.pinned(found)}",
        )


def _free(found: Installed, patched: wheels.Patched) -> None:
    """
    Check that nothing else is where the patches add a file.

    :raises Problem: naming the first file that is no file of the installed wheel, and differs.
    """
    ours = set((found.manifest or {"files": {}})["files"])
    for path in sorted(patched.after.keys() - patched.before.keys() - ours):
        file = found.site / path
        if file.exists() and (not file.is_file() or file.read_bytes() != patched.after[path]):
            raise Problem(
                f"{file} is no file of {found.distribution.name} {found.version}, and the patches add a file "
                "of that name.",
                "Move it away.",
            )


def plan(
    python: Path,
    series: Series,
    pins: Pins,
    names: Sequence[str] | None = None,
    *,
    everything: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """
    Work out what `apply` would do; nothing is changed.

    :param python: the interpreter of the installed Airflow.
    :param names: exactly these patches, ``None`` for those that are neither optional nor have a trade-off.
    :param everything: every patch.
    :raises Problem: when the installation is not whole, a release is unknown, or no chosen patch serves it.
    """
    installation = installed.look(python, pins)
    chosen: list[tuple[Installed, list[Patch]]] = []
    for found in installation.found:
        release = installed.pinned(found)
        chosen.append((found, series.select(release, names, everything=everything, optional=False)))
    if names is not None:
        series.known(names)
        serving = {patch.slug for _, patches in chosen for patch in patches}
        if astray := [name for name in names if name not in serving]:
            raise Problem(_why_not(series, installation, astray[0]), "Leave it out.")
    if not any(patches or found.manifest for found, patches in chosen):
        raise Problem(_why_none(series, installation), "Nothing was changed.")
    _refuse_halves(series, chosen)
    steps = []
    for found, patches in chosen:
        _whole(found, progress)
        if not patches and not found.manifest:
            continue
        patched = _patched(series, installed.pinned(found), patches, progress)
        _free(found, patched)
        if missing := installed.missing_requirements(installation, patched.requirements):
            raise Problem(
                f"The patches for {found.distribution.name} need {', '.join(missing)}, not installed here.",
                f"Install it first: {python} -m pip install '{missing[0]}'",
            )
        now = (found.manifest or {"patches": []})["patches"]
        same = len(now) == len(patches) and all(map(wheels.is_of, now, patches)) and bool(found.manifest)
        steps.append(Step(found, patched, same))
    return Plan(installation, tuple(steps))


def patched(
    series: Series,
    release: Release,
    names: Sequence[str] | None = None,
    *,
    everything: bool = False,
    progress: Progress | None = None,
) -> wheels.Patched:
    """
    Patch a release in memory; the choice is made as in :func:`plan`.

    :raises Problem: when no chosen patch serves it.
    """
    chosen = series.select(release, names, everything=everything, optional=False)
    astray = set(names or ()) - {patch.slug for patch in chosen}
    if astray or not chosen:
        serving = series.serving(release)
        held = (
            f"it is served by {', '.join(p.slug for p in serving)}"
            if serving
            else "it is in no patch's range"
        )
        raise Problem(
            f"No {'such' if astray else 'chosen'} patch serves {release}: {held}.",
            "See `airflow-auth-patches list`; --all takes those with a trade-off too.",
        )
    return _patched(series, release, chosen, progress)


def _patched(
    series: Series, release: Release, chosen: Sequence[Patch], progress: Progress | None
) -> wheels.Patched:
    """Patch a release; where a patch needs the lines of one that was not chosen, say which."""
    try:
        return wheels.patch_release(release, chosen, progress)
    except Problem as problem:
        slugs = [patch.slug for patch in chosen]
        if not isinstance(problem.__cause__, HunkFault) or not (extra := _lacking(series, release, slugs)):
            raise
        raise Problem(
            f"{release} takes {', '.join(slugs)} only with {', '.join(extra)}.",
            f"Name it too: {' '.join(f'--patch {slug}' for slug in extra)}.",
        ) from problem


def _lacking(series: Series, release: Release, slugs: Sequence[str]) -> Sequence[str]:
    """Return the fewest other patches with which some apply; empty where not even with all."""
    others = [p.slug for p in series.serving(release) if p.slug not in slugs]
    for extra in (*((other,) for other in others), *combinations(others, 2), tuple(others)):
        with suppress(Problem):
            wheels.patch_release(release, series.select(release, {*slugs, *extra}))
            return extra
    return ()


def _refuse_halves(series: Series, chosen: Sequence[tuple[Installed, Sequence[Patch]]]) -> None:
    """Refuse a patch whose other half serves what is installed and was not chosen."""
    slugs = {patch.slug for _, patches in chosen for patch in patches}
    for patch in (patch for _, patches in chosen for patch in patches):
        for other in set(patch.together_with) - slugs:
            for found, _ in chosen:
                if any(p.slug == other and p.serves(installed.pinned(found)) for p in series.patches):
                    raise Problem(
                        f"{patch.slug} without {other} does harm to "
                        f"{found.distribution.name} {found.version}, which is installed.",
                        f"Name both, --patch {patch.slug} --patch {other}, or neither.",
                    )


def _why_not(series: Series, installation: Installation, slug: str) -> str:
    ranges = [p for p in series.patches if p.slug == slug]
    versions = {found.distribution: found.version for found in installation.found}
    has = versions.get(ranges[0].distribution, "none")
    wanted = " or ".join(str(patch.applies_to) for patch in ranges)
    return f"{slug} is for {ranges[0].distribution.name} {wanted}, and {has} is installed."


def _why_none(series: Series, installation: Installation) -> str:
    said = []
    for found in installation.found:
        serving = series.serving(installed.pinned(found))
        if serving:
            held = ", ".join(dict.fromkeys(patch.slug for patch in serving))
            said.append(
                f"{found.distribution.name} {found.version} is served only by {held}, not chosen: see --all"
            )
        else:
            said.append(f"{found.distribution.name} {found.version} is in no patch's range")
    return f"There is nothing to apply: {'; '.join(said)}."


def apply(planned: Plan, pins: Pins, progress: Progress | None = None, *, put_back: bool = True) -> None:
    """
    Carry a plan out, as one transaction.

    :param put_back: whether what was installed before is put back when it fails, see `transaction.replace`.
    :raises Problem: when it fails.
    """

    def make(step: Step, folder: Path) -> Path:
        if not step.patched.patches:
            return fetch(step.patched.release, "wheel", progress)
        return wheels.build(step.patched, pins.label, folder)

    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        new = [make(step, Path(folder)) for step in planned.pending]
        targets = [step.installed for step in planned.pending]
        transaction.replace(planned.installation, targets, new, pins, progress, put_back=put_back)


def revert(
    python: Path, pins: Pins, progress: Progress | None = None, *, put_back: bool = True
) -> list[Installed]:
    """
    Put the pristine releases back, as one transaction; that needs nothing of what is installed.

    :param python: the interpreter of the installed Airflow.
    :param put_back: whether what was installed before is put back when it fails, see `transaction.replace`.
    :return: what was patched and is no more; empty when nothing was.
    :raises Problem: when it fails.
    """
    installation = installed.look(python, pins)
    patched = [found for found in installation.found if found.manifest or found.damaged]
    new = [fetch(found.release or installed.pinned(found), "wheel", progress) for found in patched]
    if patched:
        transaction.replace(installation, patched, new, pins, progress, put_back=put_back)
    return patched
