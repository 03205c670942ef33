"""Patch an installed Airflow, and restore the pristine releases."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from airflow_auth_patches.installation import choice, installed, records, transaction, wheels
from airflow_auth_patches.installation.installed import Installation, Installed
from airflow_auth_patches.releases.fetching import fetch
from airflow_auth_patches.releases.releases import Pins, Release
from airflow_auth_patches.series import published
from airflow_auth_patches.series.hunks import NOWHERE, HunkFault
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Step:
    """
    The change of one distribution that `apply` makes.

    :param installed: the distribution as it is installed.
    :param patched: the release with the chosen patches.
    :param done: whether exactly these patches are installed already.
    """

    installed: Installed
    patched: wheels.Patched
    done: bool

    @property
    def removed(self) -> list[str]:
        """The slugs of the installed patches that the step removes."""
        chosen = {patch.slug for patch in self.patched.patches}
        return [slug for slug in self.installed.slugs if slug not in chosen]

    def diff(self) -> str:
        """Return the unified diff from the installed files to the patched ones."""
        text: list[str] = []
        for path in sorted({*self.patched.after, *(self.installed.manifest or {}).get("files", {})}):
            file = self.installed.site / path
            now = file.read_bytes() if file.exists() else None
            then = self.patched.after.get(path)
            if then is None:  # the step restores the pristine file
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
    """
    The changes that `apply` makes.

    :param installation: the environment.
    :param steps: the distributions that have patches, or for which a patch was chosen.
    """

    installation: Installation
    steps: tuple[Step, ...]

    @property
    def pending(self) -> tuple[Step, ...]:
        """The steps that are not yet done."""
        return tuple(step for step in self.steps if not step.done)


def _whole(found: Installed, progress: Progress | None) -> None:
    if wrong := records.changed_files(found, progress):
        raise Problem(
            f"The files of {found.distribution.name} {found.version} differ from its wheel: "
            f"{records.some(wrong)}.",
            f"Reinstall it first: pip install --force-reinstall --no-deps {installed.pinned(found)}",
        )


def _free(found: Installed, patched: wheels.Patched) -> None:
    """
    Check that no file in the package is in the way: one that the patches add, or a module of no package.

    :raises Problem: for the first such file that is not from the installed wheel and has other content.
    """
    ours = set((found.manifest or {"files": {}})["files"])
    for path in sorted(patched.after.keys() - patched.before.keys() - ours):
        file = found.site / path
        if file.exists() and (not file.is_file() or file.read_bytes() != patched.after[path]):
            raise Problem(
                f"{file} does not belong to {found.distribution.name} {found.version}, and the patches add a "
                "file with that name.",
                "Move the file to another folder.",
            )
    for path in records.extra_modules(found):
        if path not in patched.after:
            raise Problem(
                f"{found.site / path} belongs to no installed package, and may hide a module of "
                f"{found.distribution.name} {found.version}.",
                "Move the file to another folder.",
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
    Return the changes that `apply` makes, without making them.

    :param python: the interpreter of the installed Airflow.
    :param names: exactly these patches; ``None`` for all that are not optional and have no trade-off.
    :param everything: all patches.
    :raises Problem: if the installed files were changed, a release is unknown, or no chosen patch is for it.
    """
    installation = installed.look(python, pins)
    chosen = choice.choose(series, installation, names, everything=everything)
    if not any(patches or found.manifest for found, patches in chosen):
        raise Problem(
            choice.why_none(series, installation), "See `airflow-auth-patches list`. Nothing was changed."
        )
    steps = []
    for found, patches in chosen:
        _whole(found, progress)
        if not patches and not found.manifest:
            continue
        patched = _patched(series, installed.pinned(found), patches, progress)
        _free(found, patched)
        if missing := installed.missing_requirements(installation, patched.requirements):
            raise Problem(
                f"The patches of {found.distribution.name} require {', '.join(missing)}, not installed here.",
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
    Patch a release in memory. The patches are chosen as in :func:`plan`.

    :raises Problem: if no chosen patch is for the release.
    """
    chosen = series.select(release, names, everything=everything, optional=False)
    astray = set(names or ()) - {patch.slug for patch in chosen}
    if astray or not chosen:
        serving = series.serving(release)
        held = (
            f"its patches are {', '.join(p.slug for p in serving)}"
            if serving
            else "the series has no patch for it"
        )
        raise Problem(
            f"No {'named' if astray else 'chosen'} patch is for {release}: {held}.",
            "See `airflow-auth-patches list`. Use --all for optional patches and patches with a trade-off.",
        )
    return _patched(series, release, chosen, progress)


def _patched(
    series: Series, release: Release, chosen: Sequence[Patch], progress: Progress | None
) -> wheels.Patched:
    """Patch a release. If a patch does not apply without another patch, name that one in the error."""
    default = published.read(series.folder).patches.get(str(release)) == published.digest(chosen)
    try:
        return replace(wheels.patch_release(release, chosen, progress), default=default)
    except Problem as problem:
        slugs = [patch.slug for patch in chosen]
        if not isinstance(problem.__cause__, HunkFault) or not (extra := _lacking(series, release, slugs)):
            raise
        raise Problem(
            f"{', '.join(slugs)} applies to {release} only with {', '.join(extra)}.",
            f"Add {' '.join(f'--patch {slug}' for slug in extra)}.",
        ) from problem


def _lacking(series: Series, release: Release, slugs: Sequence[str]) -> Sequence[str]:
    """Return the smallest set of other patches with which the chosen ones apply; empty if there is none."""
    others = [p.slug for p in series.serving(release) if p.slug not in slugs]
    for extra in (*((other,) for other in others), *combinations(others, 2), tuple(others)):
        with suppress(Problem):
            wheels.patch_release(release, series.select(release, {*slugs, *extra}))
            return extra
    return ()


def apply(planned: Plan, pins: Pins, progress: Progress | None = None, *, put_back: bool = True) -> None:
    """
    Make the changes of a plan, as one transaction.

    :param put_back: whether to restore the previous installation after a failure, see `transaction.replace`.
    :raises Problem: if the transaction fails.
    """

    def make(step: Step, folder: Path) -> Path:
        if not step.patched.patches:
            return fetch(step.patched.release, "wheel", progress)
        return wheels.build(step.patched, pins.label, folder)

    transaction.replace(
        planned.installation,
        [step.installed for step in planned.pending],
        lambda folder: [make(step, folder) for step in planned.pending],
        pins,
        progress,
        command="apply",
        put_back=put_back,
    )


def revert(
    python: Path, pins: Pins, progress: Progress | None = None, *, put_back: bool = True
) -> list[Installed]:
    """
    Install the pristine releases again, as one transaction. It does not need the installed files.

    :param python: the interpreter of the installed Airflow.
    :param put_back: whether to restore the previous installation after a failure, see `transaction.replace`.
    :return: the distributions that were patched; empty if none was.
    :raises Problem: if the transaction fails.
    """
    installation = installed.look(python, pins)
    patched = [found for found in installation.found if found.manifest or found.damaged]
    if patched:
        transaction.replace(
            installation,
            patched,
            lambda folder: [fetch(found.release or installed.pinned(found), "wheel") for found in patched],
            pins,
            progress,
            command="revert",
            put_back=put_back,
        )
    return patched
