"""Tell how an installed Airflow stands: the bugs it has, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.installation import advice, installed, wheels
from airflow_auth_patches.installation.advice import Upgrade
from airflow_auth_patches.installation.installed import Installed
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, yanked
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class Standing:
    """
    How one distribution stands.

    :param state: ``pristine``, ``patched``, ``changed``, ``unknown`` or ``out of scope``.
    :param applied: the slugs of the patches in it.
    :param open: the patches that serve it and are not in it.
    :param notes: what there is to say, a line each.
    :param bugs: the findings on the bugs that it has, as it is.
    :param upgrade: what cures some of them with no patch, of the provider alone.
    """

    installed: Installed
    state: str
    applied: tuple[str, ...]
    open: tuple[Patch, ...]
    notes: tuple[str, ...]
    bugs: tuple[Finding, ...] = ()
    upgrade: Upgrade | None = None


def status(python: Path, series: Series, pins: Pins, progress: Progress | None = None) -> list[Standing]:
    """
    Tell how an installed Airflow stands; nothing is changed.

    :param python: its interpreter.
    :return: one standing for each of our distributions that is installed.
    :raises Problem: when there is no Airflow, or a pristine wheel to compare with cannot be fetched.
    """
    installation = installed.look(python, pins)
    results = affected.read(series.folder)
    core = next((found for found in installation.found if found.distribution is CORE), None)
    version = _version(core) if core else None
    everywhere = [slug for found in installation.found for slug in found.slugs]
    rows = []
    for found in installation.found:
        first = _core_first(core) if found.distribution is FAB else None
        try:
            release = installed.pinned(found)
        except Problem as problem:
            state = "out of scope" if found.out_of_scope else "unknown"
            remedy = problem.remedy
            if found.out_of_scope:
                oldest = _oldest(found, series, pins, version, installation.runs)
                remedy = first or f"Upgrade it, at least to {oldest}."
            rows.append(Standing(found, state, tuple(found.slugs), (), (f"{problem.what} {remedy}",)))
            continue
        wrong = installed.changed_files(found, progress)
        open_ = tuple(patch for patch in series.serving(release) if patch.slug not in found.slugs)
        applied = (found.manifest or {"patches": []})["patches"]
        others = [p for p in applied if not any(wheels.is_of(p, patch) for patch in series.serving(release))]
        notes = [first] if first else []
        if found.distribution is FAB and core and version:
            for slug, other in advice.unmet(series, version, core.slugs, release, found.slugs):
                cure = "apply before the next restart" if core.release else "upgrade the provider"
                notes.append(f"core has {slug}, which does harm without {other}: {cure}")
        notes += wrong
        if others:
            notes.append(f"{', '.join(p['name'] for p in others)} is of another series: apply again")
        if not open_ and not applied:
            notes.append("in no patch's range")
        findings = advice.findings_of(
            series, pins, results, release, version if found.distribution is FAB else None
        )
        if unknown := [finding.bug for finding in findings if finding.status in affected.UNKNOWN]:
            notes.append(f"not known: {', '.join(unknown)}")
        bugs = tuple(advice.held(series, findings, everywhere))
        upgrade = None
        if found.distribution is FAB and bugs and not first:
            has = [finding.bug for finding in bugs]
            upgrade = advice.upgrade(series, pins, results, release, version, installation.runs, has)
        state = "changed" if wrong else "patched" if found.manifest else "pristine"
        rows.append(Standing(found, state, tuple(found.slugs), open_, tuple(notes), bugs, upgrade))
    return rows


def _version(core: Installed) -> Version | None:
    try:
        return Version(Version(core.version).public)
    except InvalidVersion:
        return None


def _core_first(core: Installed | None) -> str | None:
    """Return what to do before anything with the provider, where no patch is for the core."""
    if core is None or not (core.out_of_scope or yanked(CORE, core.version)):
        return None
    return f"Upgrade {CORE.name} {core.version} first: `apply` refuses it."


def _oldest(found: Installed, series: Series, pins: Pins, core: Version | None, runs: str) -> Version:
    """Return the oldest release in scope to upgrade to: of the provider, one that works with the core."""
    if found.distribution is FAB:
        for release in advice.allowed(series, pins, core, runs):
            return release.version
    return found.distribution.oldest
