"""Report the status of an installed Airflow: its patches, its bugs, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.installation import advice, installed, records, wheels
from airflow_auth_patches.installation.advice import Upgrade
from airflow_auth_patches.installation.installed import Installed
from airflow_auth_patches.releases.releases import CORE, FAB, Pins, yanked
from airflow_auth_patches.series import affected
from airflow_auth_patches.series.affected import Finding
from airflow_auth_patches.series.series import Patch, Series
from airflow_auth_patches.util.errors import Problem
from airflow_auth_patches.util.progress import Progress


@dataclass(frozen=True)
class DistributionStatus:
    """
    The status of one installed distribution.

    :param installed: the distribution.
    :param state: ``pristine``, ``patched``, ``changed``, ``unknown`` or ``out of scope``.
    :param applied: the slugs of the installed patches.
    :param open: the patches that are for the release and are not installed.
    :param notes: warnings and hints, one line each.
    :param bugs: the findings on the bugs that it has, with its patches.
    :param upgrade: for the provider, the upgrade to do before patching, or ``None``.
    """

    installed: Installed
    state: str
    applied: tuple[str, ...]
    open: tuple[Patch, ...]
    notes: tuple[str, ...]
    bugs: tuple[Finding, ...] = ()
    upgrade: Upgrade | None = None


def status(
    python: Path, series: Series, pins: Pins, progress: Progress | None = None
) -> list[DistributionStatus]:
    """
    Return the status of an installed Airflow, without changing it.

    :param python: its interpreter.
    :return: the status of each installed distribution of the series.
    :raises Problem: if there is no Airflow, or the pristine wheel for the comparison cannot be fetched.
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
                remedy = first or f"Upgrade it to {oldest} or later."
            notes = (f"{problem.what} {remedy}",)
            rows.append(DistributionStatus(found, state, tuple(found.slugs), (), notes))
            continue
        wrong = records.changed_files(found, progress)
        wrong += [f"{path} belongs to no installed package" for path in records.extra_modules(found)]
        open_ = tuple(patch for patch in series.serving(release) if patch.slug not in found.slugs)
        applied = (found.manifest or {"patches": []})["patches"]
        others = [p for p in applied if not any(wheels.is_of(p, patch) for patch in series.serving(release))]
        hints = [first] if first else []
        if found.distribution is FAB and core and version:
            for slug, other in advice.unmet(series, version, core.slugs, release, found.slugs):
                cure = "run `apply` before the next restart" if core.release else "upgrade the provider"
                hints.append(f"core has {slug}, which breaks the provider without {other}: {cure}")
        hints += wrong
        if others:
            hints.append(f"{', '.join(p['name'] for p in others)} is from another series: run `apply` again")
        if not open_ and not applied:
            hints.append("the series has no patch for it")
        findings = advice.findings_of(
            series, pins, results, release, version if found.distribution is FAB else None
        )
        if unknown := [finding.bug for finding in findings if finding.status in affected.UNKNOWN]:
            hints.append(f"unknown whether it has: {', '.join(unknown)}")
        bugs = tuple(advice.held(series, findings, everywhere))
        upgrade = None
        if found.distribution is FAB and bugs and not first:
            has = [finding.bug for finding in bugs]
            upgrade = advice.upgrade(series, pins, results, release, version, installation.runs, has)
        state = "changed" if wrong else "patched" if found.manifest else "pristine"
        slugs = tuple(found.slugs)
        rows.append(DistributionStatus(found, state, slugs, open_, tuple(hints), bugs, upgrade))
    return rows


def _version(core: Installed) -> Version | None:
    try:
        return Version(Version(core.version).public)
    except InvalidVersion:
        return None


def _core_first(core: Installed | None) -> str | None:
    """Return the hint to upgrade core first, if no patch is for the installed core."""
    if core is None or not (core.out_of_scope or yanked(CORE, core.version)):
        return None
    return f"Upgrade {CORE.name} {core.version} first: `apply` refuses it."


def _oldest(found: Installed, series: Series, pins: Pins, core: Version | None, runs: str) -> Version:
    """Return the oldest release in scope to upgrade to; for the provider, one that works with the core."""
    if found.distribution is FAB:
        for release in advice.allowed(series, pins, core, runs):
            return release.version
    return found.distribution.oldest
